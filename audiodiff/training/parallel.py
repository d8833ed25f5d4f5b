"""Compile the one training step for a layout of devices: `jit` over a mesh, with states whole or split, or `pmap`.

All run the same step on the same global batch and agree to rounding. Outside this file a state is always a pytree of
global arrays: only `Pmap` stacks them, one copy per device, and it stacks and unstacks by itself.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from audiodiff.training.state import TrainState
from audiodiff.training.step import Average, Batch, Constants, Step, measure, zero_where_bad
from audiodiff.types import Context, PyTree

STRATEGIES = ("jit", "fsdp", "pmap")


class Strategy(Protocol):
    """Say where states and batches lie, and compile for it. A *placed* state is what the compiled step takes."""

    @property
    def devices(self) -> tuple[jax.Device, ...]: ...

    @property
    def copies(self) -> int:
        """How many devices each run the program as it is written; 1 where it is written for all of them."""
        ...

    def compile_init(self, make: Callable[..., TrainState], shapes: TrainState) -> Any:
        """Return ``make`` jitted, with the state that it makes in its final place."""
        ...

    def template(self, shapes: TrainState) -> TrainState:
        """Return the shapes, dtypes and shardings of a state of such shapes."""
        ...

    def place(self, state: TrainState) -> Any: ...

    def unplace(self, placed: Any) -> TrainState: ...

    def place_batch(self, batch: Mapping[str, np.ndarray]) -> Batch: ...

    def place_constants(self, constants: Constants) -> Any: ...

    def gather(self, params: PyTree) -> PyTree: ...

    def compile(self, step: Step, template: TrainState) -> Any:
        """Return the jitted step: (placed state, batch, constants) -> (placed state, measurements)."""
        ...


@dataclasses.dataclass(frozen=True)
class Jit:
    """Run the step as one program over a mesh of ("data", "fsdp"), the batch split over both axes.

    Each array of the state (parameters, averages, optimiser) is split over "fsdp" along its largest axis that divides
    evenly, and repeated over "data" (ZeRO stage 3, arXiv:1910.02054). Arrays of fewer than ``smallest`` numbers are
    whole everywhere: fetching them would cost more than keeping them. With one device on "fsdp" all are.
    """

    mesh: Mesh
    smallest: int = 4096

    @property
    def devices(self) -> tuple[jax.Device, ...]:
        return tuple(self.mesh.devices.flat)

    @property
    def copies(self) -> int:
        return 1

    @property
    def replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, P())

    def shardings(self, shapes: TrainState) -> TrainState:
        """Return where each leaf of the state lies."""
        return jax.tree.map(self._split, shapes)

    def _split(self, leaf: Any) -> NamedSharding:
        parts = self.mesh.shape["fsdp"]
        axes = [axis for axis, size in enumerate(leaf.shape) if size % parts == 0]
        if parts == 1 or not axes or leaf.size < self.smallest:
            return self.replicated
        longest = max(axes, key=lambda axis: leaf.shape[axis])
        return NamedSharding(self.mesh, P(*["fsdp" if axis == longest else None for axis in range(leaf.ndim)]))

    def compile_init(self, make: Callable[..., TrainState], shapes: TrainState) -> Any:
        return jax.jit(make, out_shardings=self.shardings(shapes))

    def template(self, shapes: TrainState) -> TrainState:
        return jax.tree.map(
            lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes, self.shardings(shapes)
        )

    def place(self, state: TrainState) -> TrainState:
        return state

    def unplace(self, placed: TrainState) -> TrainState:
        return placed

    def place_batch(self, batch: Mapping[str, np.ndarray]) -> Batch:
        """Make the global batch from this process's slice of it."""
        split = NamedSharding(self.mesh, P(("data", "fsdp")))
        return {name: jax.make_array_from_process_local_data(split, np.asarray(x)) for name, x in batch.items()}

    def place_constants(self, constants: Constants) -> Constants:
        # device_put takes no typed key to the devices of another process; a program does.
        return jax.jit(_same, out_shardings=self.replicated)(constants)

    def gather(self, params: PyTree) -> PyTree:
        """Ask for whole parameters inside the step: else the compiler may split the activations as they are split."""
        return jax.lax.with_sharding_constraint(params, self.replicated)

    def compile(self, step: Step, template: TrainState) -> Any:
        shardings = jax.tree.map(lambda s: s.sharding, template)
        return jax.jit(step, donate_argnums=0, out_shardings=(shardings, self.replicated))


@dataclasses.dataclass(frozen=True)
class Pmap:
    """Run one copy of the step per device; they meet in one psum of losses, weights and gradients."""

    devices: tuple[jax.Device, ...]

    @property
    def copies(self) -> int:
        return len(self.devices)

    @property
    def first(self) -> jax.sharding.SingleDeviceSharding:
        return jax.sharding.SingleDeviceSharding(self.devices[0])

    @property
    def stacked(self) -> NamedSharding:
        return NamedSharding(Mesh(np.array(self.devices), ("data",)), P("data"))

    def compile_init(self, make: Callable[..., TrainState], shapes: TrainState) -> Any:
        del shapes
        return jax.jit(make, out_shardings=self.first)

    def template(self, shapes: TrainState) -> TrainState:
        return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=self.first), shapes)

    def place(self, state: TrainState) -> PyTree:
        """Stack one copy per device on a new first axis."""
        copies = len(self.devices)
        return jax.jit(
            lambda tree: jax.tree.map(lambda x: jnp.broadcast_to(x, (copies, *x.shape)), tree),
            out_shardings=self.stacked,
        )(jax.device_put(state, NamedSharding(self.stacked.mesh, P())))

    def unplace(self, placed: PyTree) -> TrainState:
        """Return the first device's copy; all are equal."""
        return jax.tree.map(lambda x: x.addressable_data(0)[0], placed)

    def place_batch(self, batch: Mapping[str, np.ndarray]) -> Batch:
        """Stack the devices' shares on a new first axis, in order."""
        copies = len(self.devices)
        arrays = {name: np.asarray(x) for name, x in batch.items()}
        return {
            name: jax.device_put(x.reshape(copies, x.shape[0] // copies, *x.shape[1:]), self.stacked)
            for name, x in arrays.items()
        }

    def place_constants(self, constants: Constants) -> PyTree:
        return self.place(constants)  # type: ignore[arg-type]

    def gather(self, params: PyTree) -> PyTree:
        """Return the parameters: each device has its copy."""
        return params

    def compile(self, step: Step, template: TrainState) -> Any:
        del template
        return jax.pmap(
            functools.partial(step, axis_name="data"),
            axis_name="data",
            devices=self.devices,
            donate_argnums=0,
            out_axes=(0, None),
        )


def make_strategy(
    name: str = "jit",
    *,
    devices: int | Sequence[jax.Device] | None = None,
    batch_size: int,
    microbatches: int = 1,
    fsdp: int | None = None,
) -> Jit | Pmap:
    """Return the strategy ``name`` over ``devices`` (a count, a list, or None for all), checked against the batch.

    Every device must get the same number of examples, a multiple of ``microbatches``. "fsdp" splits the state over
    the devices of one host, or over ``fsdp`` of them, and repeats it over the rest.
    """
    if name not in STRATEGIES:
        nearest = difflib.get_close_matches(str(name), STRATEGIES, n=len(STRATEGIES), cutoff=0.0)
        raise ValueError(f"strategy={name!r} is unknown: choose one of {', '.join(nearest)}")
    if microbatches < 1 or batch_size < 1 or batch_size % microbatches:
        raise ValueError(f"microbatches={microbatches} must divide the batch size {batch_size}")
    available = jax.devices()
    if isinstance(devices, int):
        if not 1 <= devices <= len(available):
            raise ValueError(f"devices={devices} is impossible: this machine has 1 to {len(available)}")
        devices = available[:devices]
    chosen = tuple(available if devices is None else devices)
    share = batch_size // microbatches
    if share % len(chosen):
        legal = [n for n in range(1, len(available) + 1) if share % n == 0]
        raise ValueError(
            f"{len(chosen)} devices do not divide the batch of {batch_size}"
            + (f" in {microbatches} microbatches" if microbatches > 1 else "")
            + f": take {', '.join(map(str, legal))} devices"
        )
    if name == "pmap":
        if jax.process_count() > 1:
            raise ValueError(f"strategy='pmap' is for one process, not {jax.process_count()}: take strategy='jit'")
        return Pmap(chosen)
    parts = (fsdp or len(chosen) // jax.process_count()) if name == "fsdp" else 1
    if parts < 1 or len(chosen) % parts:
        legal = [n for n in range(1, len(chosen) + 1) if len(chosen) % n == 0]
        raise ValueError(f"fsdp={parts} must divide the {len(chosen)} devices: take {', '.join(map(str, legal))}")
    # Auto axes: jax.make_mesh would make them Explicit, under which Flax layers fail.
    return Jit(Mesh(np.array(chosen).reshape(-1, parts), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2))


def initialise(plan: Strategy, make: Callable[..., TrainState], *arguments: Any) -> TrainState:
    """Build a state in its final place."""
    return plan.compile_init(make, jax.eval_shape(make, *arguments))(*arguments)


def _same(tree: PyTree) -> PyTree:
    """Return its argument: of one name, so that moving arrays compiles once a shape and not at every call."""
    return tree


def whole(tree: PyTree) -> PyTree:
    """Return arrays as this process can use them by itself: gathered where they lie in parts, and its own copy."""

    def gather(x: Any) -> Any:
        if not isinstance(x, jax.Array) or not isinstance(x.sharding, NamedSharding) or x.is_fully_replicated:
            return x
        return jax.jit(_same, out_shardings=NamedSharding(x.sharding.mesh, P()))(x)

    gathered = jax.tree.map(gather, tree)
    return gathered if jax.process_count() == 1 else jax.tree.map(lambda x: x.addressable_data(0), gathered)


@jax.jit
def examine(constants: Constants, params: PyTree, ema: PyTree, batch: Batch, step: int) -> tuple[jax.Array, PyTree]:
    """Return the losses [batch] of a training step and the gradient of their weighted sum, as the step sees them."""
    context = Context(jax.random.fold_in(constants.key, step), jnp.asarray(step, jnp.int32), ema, constants.frozen)

    def total(params: PyTree) -> tuple[jax.Array, jax.Array]:
        losses = constants.objective(params, context, zero_where_bad(batch))[0]
        return jnp.sum(jnp.where(batch["weight"] > 0, losses * batch["weight"], 0)), losses

    gradients, losses = jax.grad(total, has_aux=True)(params)
    return losses, gradients


@jax.jit
def _measure(constants: Constants, params: PyTree, batch: Batch) -> tuple[Average, dict[str, Average]]:
    context = Context(constants.key, jnp.zeros((), jnp.int32), None, constants.frozen)
    return measure(constants.objective, params, context, batch)


def measure_batches(constants: Constants, params: PyTree, batches: Iterable[Batch]) -> dict[str, float]:
    """Return the means of the loss and of every measurement over all examples of all batches, by weight.

    Compiled once per shape, whatever the parameters; it runs wherever parameters and batches lie.
    """
    sums: dict[str, tuple[float, float]] = {}
    for batch in batches:
        loss, measured = jax.device_get(_measure(constants, params, batch))
        for name, average in {"loss": loss, **measured}.items():
            total, weight = sums.get(name, (0.0, 0.0))
            sums[name] = (total + float(average.total), weight + float(average.weight))
    return {name: total / weight if weight else float("nan") for name, (total, weight) in sums.items()}
