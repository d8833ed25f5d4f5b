"""Look again at a step that stopped a run."""

from __future__ import annotations

import os
import pathlib

import jax

from audiodiff.build.joint import load_facts
from audiodiff.build.objective import make_objective
from audiodiff.training import read_config
from audiodiff.training.replay import load_replay, report


def replay(workdir: str | os.PathLike[str], *, step: int | None = None, where: bool = False) -> list[str]:
    """Say what is not finite in the step that stopped the run of a workdir (default: the last one kept).

    With ``where`` the operation that first gives a NaN raises FloatingPointError where it stands in the code. Raises
    FileNotFoundError where no step was kept.
    """
    folder = pathlib.Path(workdir).expanduser().resolve()
    config = read_config(folder)
    kept = load_replay(folder, step)
    objective = make_objective(config, load_facts(config, folder))
    with jax.debug_nans(where):
        return report(objective, kept)
