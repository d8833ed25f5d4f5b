"""Ask when each frequency band of spoken digits drowns in the noise of diffusion, and whether its power foretells it.

    python experiments/studies/spectral_view.py --out=experiments/results/spectral_view/figures.json

White noise has the same power in every band and speech has not. With P_b the mean power of the data in band b and N_b
the band's share of white noise of variance 1, the SNR of the band in x_t = alpha x_0 + sigma eps is predicted to be

    SNR_b(t) = alpha(t)^2 P_b / (sigma(t)^2 N_b)

P_b is measured on the train clips of the Free Spoken Digit Dataset as they are prepared for training, padding included;
the time t at which the band is at 0 dB follows for three processes. The 300 test clips are then corrupted at times 1 dB
apart, and the crossings looked for in what came out. Once for the waveform, once with preemphasis 0.9, as the project
diffuses it. Writes a picture beside the JSON. Under a minute of CPU time; AUDIODIFF_DATA names the folder that
holds fsdd/.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

# Run by path: configs/ is at the project's root.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from audiodiff import prng
from audiodiff.build.data import make_data
from audiodiff.build.evaluate import read_clips
from audiodiff.diffusion.processes import Curve, Edm, VpCosine, VpLinear, logsnr
from audiodiff.evaluation.pictures import curves
from audiodiff.metrics.correlation import rank_correlation
from audiodiff.metrics.intervals import Figure, bootstrap_interval_of_means
from audiodiff.representations.waveform import Waveform
from configs import common

BANDS = 16
PREEMPHASIS = (0.0, 0.9)
PROCESSES: Mapping[str, Curve] = {"vp_linear": VpLinear(), "vp_cosine": VpCosine(), "edm": Edm()}
STEP_DB, MARGIN_DB = 1.0, 3.0
"""Distance of the levels at which clips are corrupted, and how far they go beyond the predicted crossings."""
TABLE_STEPS = 1000
"""A crossing is also told as a step of so many, as in tables of betas: the first at which the SNR is below 0 dB."""
BISECTIONS = 40


def main() -> None:
    """Predict, corrupt, compare, print, and write it as JSON and as a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, help="JSON file to write; the picture stands beside it")
    parser.add_argument("--clips", type=int, help="only the first so many clips of each split")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    settings: dict[str, Any] = dict(common.data())
    sets = make_data(settings)
    train, test = (
        read_clips(sets.split(settings[f"{split}_split"]), sets.preparation).audio[: arguments.clips]
        for split in ("train", "test")
    )
    key = prng.stream(arguments.seed, "spectral view")
    found = {a: of_representation(Waveform(preemphasis=a), train, test, key) for a in PREEMPHASIS}
    record = {
        "command": " ".join(["python", *sys.argv]),
        "seed": arguments.seed,
        "data": f"{settings['name']}, manifest {sets.manifest_hash}",
        "clips": {"train": len(train), "test": len(test)},
        "band edges Hz": np.linspace(0, settings["rate_hz"] / 2, BANDS + 1).tolist(),
        "preemphasis": {f"{a:g}": one for a, one in found.items()},
    }
    text = json.dumps(record, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")
        arguments.out.with_name("crossings.png").write_bytes(picture(found, settings["rate_hz"]))


def of_representation(representation: Waveform, train: np.ndarray, test: np.ndarray, key: jax.Array) -> dict:
    """Return the bands' powers, and by process when they are predicted to cross 0 dB and when they do."""
    power, x_test = band_power(representation, train), representation.encode(jnp.asarray(test))[..., 0]
    density_db = 10 * np.log10(power.mean(axis=0) / noise_share(train.shape[1], BANDS))
    return {
        "sigma_data": round(float(np.sqrt(power.sum(axis=1).mean())), 4),
        "density dB": density_db.round(2).tolist(),
        "spread of bands dB": round(float(np.ptp(density_db)), 2),
        "by frequency": entry(rank_correlation(np.arange(BANDS), density_db, key, name="band and its density")),
        "processes": {
            name: of_process(process, power, x_test, prng.stream(key, name)) for name, process in PROCESSES.items()
        },
    }


def of_process(process: Curve, power: np.ndarray, x0: jax.Array, key: jax.Array) -> dict:
    """Compare the crossings that power [train clip, band] predicts with those of corrupted test clips x0."""
    share = noise_share(x0.shape[-1], BANDS)
    predicted = [
        of_means(key, functools.partial(crossing_of_power, process, share[b]), power[:, b : b + 1])
        for b in range(BANDS)
    ]
    own = crossing(process, np.mean(band_energy(x0, BANDS), axis=0) / share)
    t = times(process, power.mean(axis=0) / share)
    signal, noise, mixed = corrupted(process, x0, t, key)
    # The signal's share of x_t where only sigma is known: what is more than the noise that must be there.
    excess = mixed - np.asarray(process.sigma(jnp.asarray(t)))[:, None] ** 2 * share
    measured = [
        of_means(key, functools.partial(crossing_of_parts, t), np.hstack([signal[..., b], noise[..., b]]))
        for b in range(BANDS)
    ]
    blind = np.array(
        [crossing_of_parts(t, np.hstack([excess[..., b], noise[..., b]]).mean(axis=0)) for b in range(BANDS)]
    )
    value = np.array([figure.value for figure in measured])
    differences = {
        "train clips' power": value - np.array([figure.value for figure in predicted]),
        "their own power": value - own,
    }
    sigma = np.asarray(process.sigma(jnp.asarray(value)))
    return {
        "predicted t": [entry(figure) for figure in predicted],
        "measured t": [entry(figure) for figure in measured],
        "measured sigma": [float(f"{one:.3g}") for one in sigma],
        "measured step of 1000": [math.ceil(TABLE_STEPS * one) for one in value],
        "measured in x_t alone, largest difference of t": round(float(np.abs(blind - value).max()), 5),
        "intervals that overlap": sum(
            a.low <= b.high and b.low <= a.high for a, b in zip(predicted, measured, strict=True)
        ),
        "largest difference of t, by": {name: round(float(np.abs(d).max()), 5) for name, d in differences.items()},
        "largest difference in steps of 1000, by": {
            name: int(np.abs(np.ceil(TABLE_STEPS * value) - np.ceil(TABLE_STEPS * (value - d))).max())
            for name, d in differences.items()
        },
        "range of t": [round(float(value.min()), 4), round(float(value.max()), 4)],
        "range of sigma / alpha dB": round(float(np.ptp(_level_db(process, value))), 2),
        "power and t": entry(rank_correlation(power.mean(axis=0), value, key, name="power and t")),
        "frequency and t": entry(rank_correlation(np.arange(BANDS), value, key, name="frequency and t")),
    }


# --- bands


def band_energy(x: ArrayLike, bands: int) -> jax.Array:
    """Return the mean square of x [..., time] in equal bands from 0 to half the rate [..., band]; they add up to it.

    By Parseval, sum_k c_k |X[k]|^2 / N^2 over the bins of the band, c = 1 for DC and for the bin at half the rate and
    2 elsewhere. A bin on an edge belongs to the band above.
    """
    x = jnp.asarray(x)
    weight, starts = _bins(x.shape[-1], bands)
    power = jnp.square(jnp.abs(jnp.fft.rfft(x))) * weight / x.shape[-1] ** 2
    ends = [*starts[1:], power.shape[-1]]
    return jnp.stack([power[..., a:b].sum(axis=-1) for a, b in zip(starts, ends, strict=True)], axis=-1)


def noise_share(length_samples: int, bands: int) -> np.ndarray:
    """Return the expected :func:`band_energy` of white noise of variance 1 [band]: c_k summed over the band, by N."""
    weight, starts = _bins(length_samples, bands)
    return np.add.reduceat(weight, starts) / length_samples


def _bins(length_samples: int, bands: int) -> tuple[np.ndarray, list[int]]:
    """Return how often each bin of the half spectrum counts, and the first bin of each band."""
    weight = np.full(length_samples // 2 + 1, 2.0)
    weight[0] = 1
    if length_samples % 2 == 0:
        weight[-1] = 1
    return weight, [math.ceil(band * length_samples / 2 / bands) for band in range(bands)]


def band_power(representation: Waveform, audio: np.ndarray, batch: int = 300) -> np.ndarray:
    """Return the band energy of each clip as it diffuses [clip, band], float64."""
    parts = [
        band_energy(representation.encode(jnp.asarray(audio[start : start + batch]))[..., 0], BANDS)
        for start in range(0, len(audio), batch)
    ]
    return np.concatenate(parts).astype(np.float64)


# --- crossings


def crossing(process: Curve, ratio: ArrayLike) -> np.ndarray:
    """Return t [...] where alpha^2 / sigma^2 times ``ratio`` [...] is 1, by bisection; NaN where it never is."""
    wanted = -np.log(np.asarray(ratio, np.float64))
    low, high = np.zeros(wanted.shape), np.ones(wanted.shape)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        above = np.asarray(logsnr(process.level(jnp.asarray(middle)))) > wanted
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    ends = np.asarray(logsnr(process.level(jnp.array([0.0, 1.0]))))
    return np.where((ends[0] >= wanted) & (wanted >= ends[1]), (low + high) / 2, np.nan)


def crossing_of_power(process: Curve, share: float, power: np.ndarray) -> np.ndarray:
    """Return :func:`crossing` of mean powers [..., 1] of a band that gets this share of white noise."""
    return crossing(process, power[..., 0] / share)


def crossing_of_parts(t: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Return where the log ratio of mean energies of signal and noise [..., 2 time] falls below 0, linear between t."""
    signal, noise = np.split(parts, 2, axis=-1)
    # Below the noise's own scatter an excess may be negative: it has crossed.
    ratio = np.log(np.maximum(signal, 1e-3 * noise) / noise)
    first = np.argmax(ratio < 0, axis=-1)[..., None]
    after, before = (np.take_along_axis(ratio, at, axis=-1)[..., 0] for at in (first, first - 1))
    first = first[..., 0]
    return t[first - 1] + (t[first] - t[first - 1]) * before / (before - after)


def times(process: Curve, ratio: np.ndarray) -> np.ndarray:
    """Return times [time] whose levels lie STEP_DB apart and enclose the crossings of all ratios [band]."""
    ratio_db = 10 * np.log10(ratio)
    levels_db = np.arange(ratio_db.min() - MARGIN_DB, ratio_db.max() + MARGIN_DB, STEP_DB)
    return crossing(process, 10 ** (levels_db / 10))


def corrupted(
    process: Curve, x0: jax.Array, t: np.ndarray, key: jax.Array
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Corrupt clips [clip, time] at each t; return the bands' energies of signal, noise and sum [clip, t, band]."""
    parts = [_energies(process, x0, one, jax.random.fold_in(key, index)) for index, one in enumerate(t)]
    signal, noise, mixed = (np.stack(part, axis=1).astype(np.float64) for part in zip(*parts, strict=True))
    return signal, noise, mixed


@jax.jit
def _energies(process: Curve, x0: jax.Array, t: jax.Array, key: jax.Array) -> tuple[jax.Array, ...]:
    x_t, _ = process.corrupt(key, x0, jnp.full(len(x0), t))
    signal = process.alpha(t) * x0
    return band_energy(signal, BANDS), band_energy(x_t - signal, BANDS), band_energy(x_t, BANDS)


def _level_db(process: Curve, t: np.ndarray) -> np.ndarray:
    return -10 / math.log(10) * np.asarray(logsnr(process.level(jnp.asarray(t))))


# --- what is written


def of_means(key: jax.Array, function: Any, values: np.ndarray) -> Figure:
    """Return a function of the means of values [clip, dim] with its bootstrap interval over clips."""
    low, high = bootstrap_interval_of_means(key, function, values, resamples=500)
    return Figure("t", float(function(values.mean(axis=0))), low, high, len(values))


def entry(figure: Figure) -> dict:
    """Return a figure as JSON holds it here."""
    return {
        "value": round(figure.value, 5),
        "interval": [round(figure.low, 5), round(figure.high, 5)],
        "count": figure.count,
    }


def picture(found: Mapping[float, Mapping], rate_hz: int) -> bytes:
    """Draw the crossing's noise-to-signal level by frequency of both representations, predicted and measured."""
    middle_hz = (np.arange(BANDS) + 0.5) * rate_hz / 2 / BANDS
    series = {
        f"{kind}, {a:g}": (middle_hz, _level_db(VpCosine(), np.array([e["value"] for e in of[f"{kind} t"]])))
        for a, one in found.items()
        for of in [one["processes"]["vp_cosine"]]
        for kind in ("predicted", "measured")
    }
    return curves(
        series,
        x_label="frequency Hz",
        y_label="sigma / alpha at 0 dB, dB",
        title="Where each band drowns, by preemphasis",
    ).png


if __name__ == "__main__":
    main()
