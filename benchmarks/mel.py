"""Log-mel of 16 clips of 4 s at 16 kHz (1024/256/80) by us, by torch and by librosa, on one definition."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from measure import Peer, Reading, beside_peers, counted, in_turn, median_ratio, median_speed, queued, seconds

from audiodiff import dsp

SPEC = dsp.MelSpec(rate_hz=16_000, stft=dsp.StftSpec(1024, 256, pad_end=False), bands=80, fmax_hz=8000.0)


def speed(clips: int, rounds: int, *, calls: int) -> Reading:
    """Measure how many seconds of audio become log-mels in a second."""
    audio = jnp.asarray(np.random.default_rng(0).normal(size=(clips, 64_000)), jnp.float32)
    log_mel = functools.partial(jax.jit(lambda x: dsp.log_mel(x, SPEC)), audio)
    times = in_turn({"mel": lambda: queued(log_mel, calls)}, rounds)["mel"]
    return median_speed("log-mel: audio", audio.size / SPEC.rate_hz, times, "s/s", f"{clips} clips of 4 s")


def measure(rounds: int) -> list[Reading]:
    """Compare speed and values with the packages', where they run."""
    return against_packages(rounds) if beside_peers() else [speed(16, rounds, calls=10)]


def against_packages(rounds: int) -> list[Reading]:
    """Compare speed and values, in turn."""
    audio = jnp.asarray(np.random.default_rng(0).normal(size=(16, 64_000)), jnp.float32)
    log_mel = jax.jit(lambda x: dsp.log_mel(x, SPEC))
    readings = []
    with Peer() as peer, tempfile.TemporaryDirectory() as folder:
        for package, bar in (("torch", 2.5), ("librosa", 3.0)):
            peer.ask(f"save mel_{package} {folder}/{package}.npy")
            theirs = np.load(f"{folder}/{package}.npy").swapaxes(-1, -2)
            difference = float(np.abs(theirs - np.asarray(log_mel(audio))).max())
            figure = counted(f"log-mel: largest difference to {package}", difference, "nepers")
            readings.append(Reading(figure, "speed", at_most=1e-3))
            timed: dict[str, Callable[[], float]] = {
                "ours": lambda: seconds(lambda: log_mel(audio), calls=10),
                "theirs": functools.partial(peer.seconds, f"mel_{package}", calls=10),
            }
            times = in_turn(timed, rounds * 2)
            note = f"{package}: {1e3 * np.median(times['theirs']):.1f} ms, ours {1e3 * np.median(times['ours']):.1f} ms"
            name = f"log-mel: times as fast as {package}"
            readings.append(Reading(median_ratio(name, times["theirs"], times["ours"], note), at_least=bar))
    return readings
