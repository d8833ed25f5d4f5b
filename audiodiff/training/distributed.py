"""Join the processes of one run, and let them do together what one process does by itself."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


class ConnectionRefused(RuntimeError):
    """Say in one sentence why the processes of a run could not be joined, and what to do."""


def connect(
    coordinator: str, *, process_index: int | None = None, process_count: int | None = None, timeout_s: int = 300
) -> None:
    """Join the processes of a run; to be called before anything else of JAX.

    ``coordinator`` is "auto" where the cluster tells processes of each other (Slurm, TPU pods, Open MPI, Kubernetes),
    or HOST:PORT of process 0, with this process's index and their count. Raises ConnectionRefused when they do not
    meet within ``timeout_s``, and ValueError for values that cannot be.
    """
    if timeout_s <= 0:
        raise ValueError(f"connect_timeout_s={timeout_s} must be positive")
    if coordinator == "auto":
        try:
            jax.distributed.initialize(initialization_timeout=timeout_s)
        except ValueError as error:
            raise ConnectionRefused(
                f"no cluster was recognised ({error}): give coordinator=HOST:PORT, process_index and process_count"
            ) from error
        return
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"coordinator={coordinator!r} must be auto or HOST:PORT, as node0:12345")
    if process_count is None or process_index is None or not 0 <= process_index < process_count:
        raise ValueError(
            f"process_index={process_index} and process_count={process_count} must be given with coordinator="
            f"{coordinator}: the index counts from 0 and is below the count"
        )
    if process_index:
        # The runtime ends the process with a stack of its own where it cannot connect: knock first.
        _knock(host, int(port), timeout_s, f"process {process_index} of {process_count}")
    jax.distributed.initialize(coordinator, process_count, process_index, initialization_timeout=timeout_s)


def _knock(host: str, port: int, timeout_s: float, who: str) -> None:
    """Wait until somebody listens."""
    until = time.monotonic() + timeout_s
    while True:
        try:
            with socket.create_connection((host, port), timeout=min(5.0, timeout_s)):
                return
        except OSError as error:
            if time.monotonic() >= until:
                raise ConnectionRefused(
                    f"{who} could not reach the coordinator {host}:{port} within {timeout_s:g} s ({error}): start "
                    "process 0 there, or open the port, or raise connect_timeout_s"
                ) from error
            time.sleep(0.2)


def is_leader() -> bool:
    """Say whether this is the process that writes what is written once."""
    return jax.process_index() == 0


@contextlib.contextmanager
def leader_first(what: str) -> Iterator[None]:
    """Let process 0 go through the block before the others, which then find what it wrote."""
    alone = jax.process_count() == 1
    if not alone and not is_leader():
        multihost_utils.sync_global_devices(what)
    yield
    if not alone and is_leader():
        multihost_utils.sync_global_devices(what)


class Consensus:
    """Let all processes do before the same step what one of them wishes.

    A vote is counted on the devices while they work, and read one step later: nobody waits for it.
    """

    def __init__(self) -> None:
        self._alone = jax.process_count() == 1
        self._pending: jax.Array | None = None
        self._each = NamedSharding(Mesh(np.array(jax.devices()), ("device",)), P("device"))

    def cast(self, wish: bool) -> bool:
        """Cast this process's vote and return whether any process wished so by the vote before; alone, the wish."""
        if self._alone:
            return wish
        votes = np.full(jax.local_device_count(), wish, np.int32)
        before, self._pending = self._pending, jnp.max(jax.make_array_from_process_local_data(self._each, votes))
        return before is not None and bool(before)
