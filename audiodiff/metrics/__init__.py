"""Compare and summarise: figures with intervals, neighbours, classification, pitch."""
