"""Choose the length of the parameters' average after training: EDM2's post-hoc EMA (arXiv:2312.02696, section 3.2).

Training stores snapshots of its power-function averages now and then; a weighted sum of them stands in for the
average of another length. Layout: ``WORKDIR/averages/<step>/{averages,meta}``, float32, complete once the step's folder
has its final name.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from audiodiff.training.checkpoint import CheckpointError
from audiodiff.training.state import power_exponent
from audiodiff.types import PyTree

FORMAT = 1
"""The version of what a snapshot holds. A newer one than this is refused."""


class Reconstruction(NamedTuple):
    """Hold averaged parameters, the step they stand before, and how far the average is from the one wished for.

    ``residual`` is ||sum_i w_i p_i - p|| / ||p|| of the averaging profiles: 0 for a stored average.
    """

    params: PyTree
    step: int
    residual: float


def save_snapshot(
    workdir: str | os.PathLike[str],
    step: int,
    averages: Mapping[str, PyTree],
    *,
    updates: int,
    lengths: Mapping[str, float],
) -> None:
    """Store the averages that stand before step ``step``, whole or not at all; an older snapshot of it is replaced.

    ``averages`` maps names to power-function averages, ``lengths`` the same names to their sigma_rel, and ``updates``
    is the number of updates they were made of. All is on disk on return: the arrays may be donated. Every process
    calls it.

    A killed run that goes on from an older checkpoint meets snapshots of steps it has yet to take. Training is
    deterministic, so it replaces them by the same values, and they serve until then.
    """
    if not lengths or set(lengths) != set(averages):
        raise ValueError(f"lengths of {sorted(lengths)} must name the averages {sorted(averages)}: give one for each")
    tree = dict(averages)
    as_float32 = jax.tree.map(lambda _: ocp.SaveArgs(dtype=np.dtype(np.float32)), tree)
    meta = {"format": FORMAT, "updates": updates, "lengths": dict(lengths)}
    handler = ocp.CompositeCheckpointHandler(averages=ocp.PyTreeCheckpointHandler(), meta=ocp.JsonCheckpointHandler())
    with ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(
            _folder(workdir) / str(step),
            args=ocp.args.Composite(
                averages=ocp.args.PyTreeSave(tree, save_args=as_float32), meta=ocp.args.JsonSave(meta)
            ),
            force=True,
        )


def snapshot_steps(workdir: str | os.PathLike[str]) -> list[int]:
    """Return the steps whose averages are stored, oldest first."""
    return sorted(int(path.name) for path in _folder(workdir).glob("*") if path.name.isdigit())


def profile_products(gamma_a: np.ndarray, time_a: np.ndarray, gamma_b: np.ndarray, time_b: np.ndarray) -> np.ndarray:
    """Return the inner products of power-function profiles (EDM2, eq. 151); the arguments broadcast.

    With p(t) = (gamma + 1) t^gamma / time^(gamma + 1) on [0, time], 0 after it, and m = min(time_a, time_b)::

        <p_a, p_b> = (gamma_a + 1) (gamma_b + 1) / ((gamma_a + gamma_b + 1) m)
                     (m / time_a)^(gamma_a + 1) (m / time_b)^(gamma_b + 1)
    """
    m = np.minimum(time_a, time_b)
    scale = (gamma_a + 1) * (gamma_b + 1) / ((gamma_a + gamma_b + 1) * m)
    return scale * (m / time_a) ** (gamma_a + 1) * (m / time_b) ** (gamma_b + 1)


def profile_weights(
    lengths: Sequence[float], times: Sequence[float], target_length: float, target_time: float
) -> np.ndarray:
    """Return the weights of stored averages whose sum comes nearest to the one wished for (EDM2, algorithm 3).

    w = argmin ||sum_i w_i p_i - p||^2 subject to sum_i w_i = 1, where profile i is that of relative length
    ``lengths[i]`` after ``times[i]`` updates, and p that of ``target_length`` after ``target_time``. Shape [profile],
    float64. Raises ValueError where there is no profile, or the target lies outside the stored times or lengths' range.
    """
    if not len(times):
        raise ValueError("0 stored averages: at least 1 power-function average of 1 update or more is needed")
    if not 0 < min(times) <= target_time <= max(times):
        raise ValueError(
            f"target time={target_time} must lie within the stored times, {min(times)} to {max(times)} (all above 0): "
            "take a time of these, or train on"
        )
    # The profiles are continuous, yet exact for updates: beta(n) gives the parameters of update k = 0, 1, ... the
    # weight ((k + 1)^(gamma + 1) - k^(gamma + 1)) / n^(gamma + 1), which is p's integral from k to k + 1. So an exact
    # fit of profiles is one of weights, and any other is no further off in weights than in profiles (Jensen).
    gram = _gram(lengths, times, target_length, target_time)
    norm = np.sqrt(np.diag(gram))[:-1]  # profiles of norm 1: early ones are short and high
    count = len(norm)
    # Parameters have a mean, so weights whose sum misses 1 by 1e-4 are wrong by that much everywhere. The authors' code
    # divides by the sum afterwards, which was 1.2 to 1.7 times further off than this constraint (with 16 snapshots).
    # lstsq, as two snapshots of the same update make the system singular.
    system = np.zeros((count + 1, count + 1))
    system[:-1, :-1] = gram[:-1, :-1] / norm[:, None] / norm
    system[:-1, -1] = system[-1, :-1] = norm.min() / norm
    right = np.append(gram[:-1, -1] / norm, norm.min())
    return np.linalg.lstsq(system, right)[0][:-1] / norm


def profile_residual(
    weights: np.ndarray, lengths: Sequence[float], times: Sequence[float], target_length: float, target_time: float
) -> float:
    """Return ||sum_i w_i p_i - p|| / ||p||, of which rounding leaves about 1e-8 where the fit is exact."""
    gram = _gram(lengths, times, target_length, target_time)
    signed = np.append(weights, -1.0)
    return float(np.sqrt(max(0.0, signed @ gram @ signed) / gram[-1, -1]))


def reconstruct(workdir: str | os.PathLike[str], relative_length: float, *, step: int | None = None) -> Reconstruction:
    """Make the power-function average of ``relative_length`` (sigma_rel) that stands before a stored step.

    Each average of the snapshots up to ``step`` (default: the newest) counts. They are read
    one at a time, in the memory of two copies of the parameters, which come as nested dicts of float32 on the default
    device. Look at the residual: lengths between the stored ones are safe, others need many snapshots.

    Raises FileNotFoundError for a step that is not stored, CheckpointError for a damaged snapshot and ValueError for a
    length outside (0, 0.2887] or where no power-function average is stored.
    """
    steps = snapshot_steps(workdir)
    if not steps:
        raise FileNotFoundError(
            f"{_folder(workdir)} holds no snapshot: train with snapshots of the averages, or check the path"
        )
    step = steps[-1] if step is None else step
    if step not in steps:
        nearest = min(steps, key=lambda s: abs(s - step))
        raise FileNotFoundError(
            f"{_folder(workdir)} holds no snapshot of step {step}: the nearest is of step {nearest}"
        )
    sources, lengths, times = [], [], []
    for folder in (_folder(workdir) / str(s) for s in steps if s <= step):
        meta = _read_meta(folder)
        updates = meta["updates"]
        for name, length in meta["lengths"].items() if updates else ():  # at 0 updates there is nothing to average
            sources.append((folder, name))
            lengths.append(length)
            times.append(updates)
    weights = profile_weights(lengths, times, relative_length, updates)
    residual = profile_residual(weights, lengths, times, relative_length, updates)

    total = None
    for (folder, name), weight in zip(sources, weights, strict=True):
        average = _read_average(folder, name)
        if total is None:
            total = jax.tree.map(np.zeros_like, average)
        for summed, array in zip(jax.tree.leaves(total), jax.tree.leaves(average), strict=True):
            summed += np.float32(weight) * array
    return Reconstruction(jax.tree.map(jnp.asarray, total), step, residual)


def _gram(lengths: Sequence[float], times: Sequence[float], target_length: float, target_time: float) -> np.ndarray:
    """Return the inner products of all profiles, the target's in the last row and column."""
    gamma = np.array([power_exponent(length) for length in (*lengths, target_length)])
    time = np.array([*times, target_time], np.float64)
    return profile_products(gamma[:, None], time[:, None], gamma, time)


def _folder(workdir: str | os.PathLike[str]) -> pathlib.Path:
    return pathlib.Path(workdir).resolve() / "averages"  # Orbax fails on relative paths


@contextlib.contextmanager
def _reading(folder: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Orbax and TensorStore raise many kinds for damaged files
        raise CheckpointError(
            f"the snapshot {folder} is damaged ({type(error).__name__}): delete it, the others serve without it"
        ) from error


def _read_meta(folder: pathlib.Path) -> dict[str, Any]:
    with _reading(folder):
        meta = ocp.JsonCheckpointHandler().restore(folder / "meta")
        version = meta["format"]
    if version > FORMAT:
        raise CheckpointError(f"{folder} has snapshot format {version}, newer than {FORMAT}: update audiodiff")
    return meta


def _read_average(folder: pathlib.Path, name: str) -> PyTree:
    """Return one average of a snapshot as nested dicts of numpy arrays, however it was spread when it was saved."""
    with _reading(folder):
        handler = ocp.PyTreeCheckpointHandler()
        tree = {name: handler.metadata(folder / "averages").tree[name]}
        to_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        arguments = ocp.args.PyTreeRestore(tree, restore_args=to_numpy, partial_restore=True)
        return handler.restore(folder / "averages", args=arguments)[name]
