"""Diffuse raw audio in JAX: models, samplers, data, judges, one trainer. ``run = audiodiff.load(workdir)``."""

from typing import Any

__version__ = "0.1.0"


def load(workdir: Any, **options: Any) -> Any:
    """Load what was trained in a workdir: see :func:`audiodiff.build.cascade.load`."""
    # Imported when called: ``from audiodiff import dsp`` must not pull in the trainer and its libraries.
    from audiodiff.build.cascade import load as load_any

    return load_any(workdir, **options)
