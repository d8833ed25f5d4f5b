"""Plant what a score must find: copies, noise, the test clips themselves, and honest clips."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from audiodiff.evaluation.judge import Verdicts
from audiodiff.evaluation.score import NOISE_SNR_DB, Clips, score, with_noise
from audiodiff.objectives.classification import REJECT

RATE, TIME, LABELS = 8000, 64, 3
CLASSES = {"digit": ("0", "1", "2", REJECT), "speaker": ("theo", REJECT)}
KEY = jax.random.key(0)


def real_clips(count, seed):
    """Return clips of three classes, each with its own strong tone among six that vary; 3 % are labelled wrongly."""
    rng = np.random.default_rng(seed)
    label = np.arange(count) % LABELS
    spectrum = np.zeros((count, TIME // 2 + 1), complex)
    spectrum[:, 2:8] = rng.normal(size=(count, 6))
    spectrum[np.arange(count), 2 + 2 * label] += 12
    unlike = rng.random(count) < 0.03
    return Clips(np.fft.irfft(spectrum), {"digit": np.where(unlike, (label + 1) % LABELS, label)}, RATE)


@dataclasses.dataclass(frozen=True)
class Ear:
    """Judge by the spectrum: six bins are the embedding, the strongest tells the class, much above them is noise."""

    classes = CLASSES

    def __call__(self, audio, rate_hz):
        assert rate_hz == RATE
        spectrum = np.fft.rfft(audio)
        embedding = spectrum[:, 2:8].real
        noisy = np.mean(np.abs(spectrum[:, 9:]) ** 2, axis=1) > 0.5
        digit = np.where(noisy, LABELS, np.argmax(embedding[:, ::2], axis=1))
        probabilities = {"digit": np.eye(LABELS + 1)[digit], "speaker": np.eye(2)[np.zeros(len(audio), int)]}
        # Another unit for each dimension: a score must not depend on it.
        return Verdicts(self.classes, probabilities, embedding * np.array([1, 50, 1, 0.01, 1, 3]))


TRAIN, TEST, HONEST = real_clips(600, 0), real_clips(150, 1), real_clips(200, 2)


def rows_by_name(generated, train=TRAIN, **options):
    return {row.figure.name: row for row in score(Ear(), generated, train, TEST, KEY, **options)}


@pytest.fixture(scope="module")
def honest():
    return rows_by_name(HONEST)


def test_honest_clips_score_as_real_ones_do(honest):
    assert list(honest) == [
        "accuracy digit",
        "rejected",
        "coverage",
        "precision",
        "Frechet distance",
        "kernel distance",
        "different bins",
        "inception score digit",
        "AM score digit",
        "nearest-neighbour ratio",
        "samples like copies",
    ]
    assert abs(honest["accuracy digit"].figure.value - honest["accuracy digit"].ceiling.value) < 6
    assert honest["rejected"].figure.value == honest["rejected"].ceiling.value == 0
    for name in ("coverage", "precision"):
        assert abs(honest[name].figure.value - honest[name].ceiling.value) < 8
        assert honest[name].figure.value > 80
    for name in ("Frechet distance", "kernel distance"):
        row = honest[name]
        assert row.figure.low < row.ceiling.value < row.figure.high
    assert honest["different bins"].figure.low < 10
    # Three classes, equally often and without doubt; 3 % of the train clips are labelled otherwise.
    assert honest["inception score digit"].figure.value == pytest.approx(3, abs=0.01)
    assert honest["AM score digit"].figure.value == pytest.approx(0, abs=0.01)
    ratio = honest["nearest-neighbour ratio"]
    assert ratio.figure.low < 1 < ratio.figure.high
    assert ratio.ceiling.low < 1 < ratio.ceiling.high
    assert honest["samples like copies"].figure.low < 1 < honest["samples like copies"].figure.high


def test_noise_is_the_floor_of_every_figure(honest):
    assert honest["accuracy digit"].floor.value < 5
    assert honest["rejected"].floor.value > 95
    for name in ("Frechet distance", "kernel distance"):
        assert honest[name].floor.low > honest[name].ceiling.high
    assert honest["accuracy digit"].ceiling.value > 90
    assert honest["rejected"].ceiling.value == 0


def test_copies_of_the_train_clips_are_found():
    chosen = np.arange(200)
    copied = Clips(TRAIN.audio[chosen], {"digit": TRAIN.labels["digit"][chosen]}, RATE)
    rows = rows_by_name(copied)
    assert rows["samples like copies"].figure.value == 100
    assert rows["nearest-neighbour ratio"].figure.high < 0.5
    assert rows["accuracy digit"].figure.value > 90  # nothing else tells
    assert rows["coverage"].figure.value > 80


def test_noise_is_rejected_and_covers_nothing():
    audio = np.random.default_rng(3).normal(size=(200, TIME)) * 2
    rows = rows_by_name(Clips(audio, HONEST.labels, RATE))
    assert rows["accuracy digit"].figure.value == 0
    assert rows["rejected"].figure.value == 100
    assert rows["coverage"].figure.value < 5
    assert rows["precision"].figure.value < 5


def test_one_clip_over_and_over_is_precise_and_covers_nothing():
    audio = np.repeat(HONEST.audio[:1], 200, axis=0) + 1e-3 * HONEST.audio
    rows = rows_by_name(Clips(audio, {"digit": np.repeat(HONEST.labels["digit"][:1], 200)}, RATE))
    assert rows["precision"].figure.value == 100
    assert rows["coverage"].figure.value < 15


def test_the_test_clips_themselves_reach_the_ceiling():
    rows = rows_by_name(TEST)
    assert rows["accuracy digit"].figure == rows["accuracy digit"].ceiling
    assert rows["rejected"].figure == rows["rejected"].ceiling
    assert rows["coverage"].figure.value == 100


def test_coverage_and_its_ceiling_are_of_equally_many_clips():
    """By the notes: as many train clips as generated ones, and never more generated ones than train clips."""
    few = Clips(HONEST.audio[:40], {"digit": HONEST.labels["digit"][:40]}, RATE)
    coverage = rows_by_name(few)["coverage"]
    assert "150 real and 40 generated" in coverage.figure.note
    assert "150 real and 40 generated" in coverage.ceiling.note
    assert coverage.figure.value < rows_by_name(HONEST)["coverage"].figure.value - 10
    short = Clips(TRAIN.audio[:100], {"digit": TRAIN.labels["digit"][:100]}, RATE)
    coverage = rows_by_name(HONEST, short)["coverage"]
    assert "150 real and 100 generated" in coverage.figure.note
    assert "150 real and 100 generated" in coverage.ceiling.note


def test_expectations_stand_beside_their_figures_and_no_other_is_let_pass(honest):
    rows = rows_by_name(HONEST, at_least={"accuracy digit": 80.0, "coverage": 99.9, "rejected": 5.0})
    assert (rows["accuracy digit"].passed, rows["coverage"].passed, rows["rejected"].passed) == (True, False, True)
    assert rows["rejected"].at_most == 5.0
    assert all(row.passed is None for name, row in honest.items() if name != "coverage")
    with pytest.raises(ValueError, match="no figure 'acuracy digit' can have an expectation: choose accuracy digit,"):
        rows_by_name(HONEST, at_least={"acuracy digit": 80.0})


def test_coverage_counts_from_half_of_what_train_clips_reach(honest):
    coverage = honest["coverage"]
    assert coverage.at_least == coverage.ceiling.value / 2 and coverage.passed is True
    assert coverage.expected_text == f"≥ {coverage.ceiling.value / 2:.4g} %"
    audio = np.repeat(HONEST.audio[:1], 200, axis=0) + 1e-3 * HONEST.audio
    assert rows_by_name(Clips(audio, HONEST.labels, RATE))["coverage"].passed is False
    assert rows_by_name(HONEST, at_least={"coverage": 1.0})["coverage"].at_least == 1.0


def test_a_score_depends_on_its_key_and_nothing_else(honest):
    assert rows_by_name(HONEST) == honest


def test_what_a_representation_loses_stands_beside(honest):
    """One that swaps two bins of every other clip turns class 0 into class 1: the judge hears it."""

    def swap(audio):
        spectrum = np.fft.rfft(audio)
        spectrum[:, [2, 4]] = spectrum[:, [4, 2]]
        return np.where(np.arange(len(audio))[:, None] % 2, audio, np.fft.irfft(spectrum))

    rows = rows_by_name(HONEST, resynthesise=swap)
    assert {name: row.figure for name, row in rows.items()} == {name: row.figure for name, row in honest.items()}
    assert rows["accuracy digit"].resynthesis.high < rows["accuracy digit"].ceiling.low
    whole = rows_by_name(HONEST, resynthesise=lambda audio: audio)
    for name, row in whole.items():
        if name in ("nearest-neighbour ratio", "samples like copies"):
            assert row.resynthesis is None
        else:
            assert row.resynthesis.value == pytest.approx(row.ceiling.value, abs=1e-6)


def test_a_frechet_distance_of_fewer_clips_than_dimensions_is_not_measured():
    row = rows_by_name(Clips(HONEST.audio[:6], {"digit": HONEST.labels["digit"][:6]}, RATE))["Frechet distance"]
    assert np.isnan(row.figure.value) and "6 clips for 6 dimensions" in row.figure.note


@pytest.mark.parametrize("snr_db", [NOISE_SNR_DB, 20.0])
def test_noise_is_as_loud_as_asked_in_every_clip(snr_db):
    clips = np.random.default_rng(0).normal(size=(3, 20_000)) * np.array([[0.01], [1.0], [5.0]])
    noise = with_noise(KEY, clips, snr_db) - clips
    measured = 10 * np.log10(np.mean(clips**2, axis=1) / np.mean(noise**2, axis=1))
    np.testing.assert_allclose(measured, snr_db, atol=0.2)
    np.testing.assert_allclose(np.corrcoef(noise), np.eye(3), atol=0.05)


def test_clips_of_another_rate_or_length_and_one_alone_are_refused():
    with pytest.raises(AssertionError, match="16000"):  # the judge is told the rate of the clips themselves
        rows_by_name(dataclasses.replace(HONEST, rate_hz=16_000))
    for count, time, message in ((9, TIME - 1, "generated clips have shape"), (1, TIME, "5 neighbours asked of 0")):
        few = Clips(HONEST.audio[:count, :time], {"digit": HONEST.labels["digit"][:count]}, RATE)
        with pytest.raises(ValueError, match=message):
            score(Ear(), few, TRAIN, TEST, KEY)
    short = dataclasses.replace(TRAIN, audio=TRAIN.audio[:, :-1])
    with pytest.raises(ValueError, match=r"the train clips have shape \(600, 63\) and the test clips \(150, 64\)"):
        score(Ear(), HONEST, short, TEST, KEY)
