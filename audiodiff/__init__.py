"""Diffuse raw audio in JAX: models, samplers, data, judges, one trainer. ``run = audiodiff.load(workdir)``."""

from typing import Any

__version__ = "0.1.0"


def load(workdir: Any, **options: Any) -> Any:
    """Load what was trained in a workdir: see :func:`audiodiff.build.run.load`."""
    # Imported when called: ``from audiodiff import dsp`` must not pull in the trainer and its libraries.
    from audiodiff.build.run import load as load_run

    return load_run(workdir, **options)
