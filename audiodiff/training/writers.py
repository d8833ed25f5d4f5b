"""Write what a run measures: one JSON object per line in `metrics.jsonl`, TensorBoard events, and W&B if asked."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import numpy as np

METRICS_FILE = "metrics.jsonl"


class _Events:
    """Write TensorBoard events of a run that goes on at step ``start``, at once.

    tensorboardX's own SummaryWriter leaves that to a thread. A full disk ends the thread, and then whoever hands over
    a few events more waits for ever.
    """

    def __init__(self, folder: pathlib.Path, start: int):
        with _torch_left_out():
            from tensorboardX.event_file_writer import EventsWriter  # imported here: only runs need it
            from tensorboardX.proto.event_pb2 import SessionLog

        # Files are named by the second: two starts within one would write into the same file.
        self._file = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        # What an earlier start wrote of the steps from here on is dropped.
        self._add(start, file_version="brain.Event:2")
        self._add(start, session_log=SessionLog(status=SessionLog.START))

    def add_scalar(self, name: str, value: float, step: int) -> None:
        from tensorboardX import summary

        self._add(step, summary=summary.scalar(name, value))

    def add_audio(self, name: str, samples: np.ndarray, step: int, sample_rate: int) -> None:
        from tensorboardX import summary

        self._add(step, summary=summary.audio(name, samples, sample_rate=sample_rate))

    def add_image(self, name: str, pixels: np.ndarray, step: int, dataformats: str) -> None:
        from tensorboardX import summary

        self._add(step, summary=summary.image(name, pixels, dataformats=dataformats))

    def add_text(self, name: str, text: str, step: int) -> None:
        from tensorboardX import summary

        self._add(step, summary=summary.text(name, text))

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _add(self, step: int, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._file.write_event(Event(wall_time=time.time(), step=int(step), **content))


@contextlib.contextmanager
def _torch_left_out() -> Iterator[None]:
    """Keep tensorboardX from importing torch, two seconds, to recognise tensors that it is never given here."""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment] # an import of it fails
    try:
        yield
    finally:
        del sys.modules["torch"]


class Writer:
    """Write scalars, audio and images of a run that goes on at step ``start``.

    Lines and events of steps at or past ``start`` are dropped: they will be written again. A figure that is
    not finite is ``null`` in ``metrics.jsonl`` and absent from TensorBoard. With ``active=False`` (every process but
    the first) nothing is written. ``wandb`` = "offline" or "online" mirrors all of it to Weights & Biases, where a run
    that goes on keeps its identity; ValueError for another mode, RuntimeError where the package is missing.
    """

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        *,
        start: int = 0,
        active: bool = True,
        wandb: str = "",
        config: Mapping[str, Any] | None = None,
    ):
        if wandb not in ("", "offline", "online"):
            raise ValueError(f"wandb={wandb!r} must be offline, online or empty")
        self._lines: Any = None
        self._events: Any = None
        self._wandb: Any = None
        if not active:
            return
        folder = pathlib.Path(workdir).resolve()
        drop_lines(folder / METRICS_FILE, start)
        self._lines = open(folder / METRICS_FILE, "a", encoding="utf-8")  # noqa: SIM115 - closed in close()
        self._events = _Events(folder, start)
        if wandb:
            self._wandb = _start_wandb(folder, wandb, config)

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def scalars(self, step: int, figures: Mapping[str, float]) -> None:
        """Write one line of named figures, measured at ``step``."""
        if self._lines is None:
            return
        values = {name: float(value) for name, value in figures.items()}
        line = {"step": int(step)} | {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._lines.write(json.dumps(line, allow_nan=False) + "\n")
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        for name, value in finite.items():
            self._events.add_scalar(name, value, step)
        self._mirror(step, finite)

    def audio(self, step: int, name: str, samples: np.ndarray, rate_hz: int) -> None:
        """Write one recording, [samples] or [samples, channels] in [-1, 1]; louder is an error, never clipped."""
        samples = np.asarray(samples, np.float32)
        samples = samples[:, None] if samples.ndim == 1 else samples
        if samples.ndim != 2:
            raise ValueError(f"audio {name!r} has shape {samples.shape}: it must be (samples, channels)")
        peak = float(np.max(np.abs(samples), initial=0.0))
        if not peak <= 1.0:  # also refuses NaN
            raise ValueError(f"audio {name!r} has peak {peak:.4g}: scale it into [-1, 1] first")
        if self._events is not None:
            self._events.add_audio(name, samples, step, sample_rate=int(rate_hz))
        if self._wandb is not None:
            import wandb

            self._mirror(step, {name: wandb.Audio(samples, sample_rate=int(rate_hz))})

    def image(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Write one picture, uint8 [height, width, 3]."""
        pixels = np.asarray(pixels)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] != 3:
            raise ValueError(
                f"image {name!r} is {pixels.dtype}{list(pixels.shape)}: it must be uint8 [height, width, 3]"
            )
        if self._events is not None:
            self._events.add_image(name, pixels, step, dataformats="HWC")
        if self._wandb is not None:
            import wandb

            self._mirror(step, {name: wandb.Image(pixels)})

    def text(self, step: int, name: str, text: str) -> None:
        """Write one page of Markdown."""
        if self._events is not None:
            self._events.add_text(name, text, step)

    def _mirror(self, step: int, values: Mapping[str, Any]) -> None:
        if self._wandb is not None and values:
            # The step is a figure like any other: an evaluation comes before the line of the step before it, and
            # W&B's own count may not go back.
            self._wandb.log({**values, "step": step})

    def flush(self) -> None:
        """Put everything on disk, so that no checkpoint is ever ahead of the metrics."""
        if self._lines is not None:
            self._lines.flush()
            os.fsync(self._lines.fileno())
            self._events.flush()

    def close(self) -> None:
        if self._lines is not None:
            with contextlib.ExitStack() as stack:  # each is closed, whatever another raises
                stack.callback(self._events.close)
                stack.callback(self._lines.close)
                stack.callback(self.flush)
            self._lines = self._events = None
        if self._wandb is not None:
            self._wandb.finish()
            self._wandb = None


def _start_wandb(folder: pathlib.Path, mode: str, config: Mapping[str, Any] | None) -> Any:
    try:
        import wandb
    except ModuleNotFoundError as error:
        raise RuntimeError(
            'wandb is not installed: pip install "audiodiff[wandb]", or set training.wandb to ""'
        ) from error
    identity = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    run = wandb.init(
        project="audiodiff",
        name=folder.name,
        id=identity,
        resume="allow" if mode == "online" else None,
        mode=mode,
        dir=folder,
        config=dict(config or {}),
    )
    run.define_metric("*", step_metric="step")
    return run


def read_metrics(workdir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the lines of a run's ``metrics.jsonl``, [] where there is none; a last line cut short is left out."""
    path = pathlib.Path(workdir) / METRICS_FILE
    return [json.loads(line) for line in _whole_lines(path)]


def drop_lines(path: pathlib.Path, start: int) -> None:
    """Remove the lines of steps at or past ``start``, and a last line cut short by a crash; all or nothing."""
    lines = _whole_lines(path)
    kept = [line for line in lines if json.loads(line)["step"] < start]
    if path.exists():
        new = path.with_suffix(".tmp")
        new.write_text("".join(kept), encoding="utf-8")
        os.replace(new, path)


def _whole_lines(path: pathlib.Path) -> list[str]:
    if not path.exists():
        return []
    return [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
