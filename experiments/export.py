"""Copy a run without what only training needs, to share or to keep.

    python experiments/export.py --workdir=runs/vocoder_unet --out=shared/vocoder_unet

The copy loads, samples and is evaluated like the run, and --init_from begins from it; it cannot be trained on.
"""

import pathlib

import command
from absl import flags

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
OUT = flags.DEFINE_string("out", None, "Folder to write to; it must hold no run.", required=True)
STEP = flags.DEFINE_integer("step", None, "Step of the checkpoint (default: the newest).")


def main() -> None:
    """Export the average that the run's config chose."""
    from audiodiff.training import export_weights, read_config

    chosen = read_config(WORKDIR.value)["training"]["ema_choice"]
    out = export_weights(WORKDIR.value, OUT.value, ema=chosen or None, step=STEP.value)
    size = sum(path.stat().st_size for path in pathlib.Path(out).rglob("*") if path.is_file())
    print(f"exported: {out}, {size / 1e6:.3g} MB")


if __name__ == "__main__":
    command.run(main)
