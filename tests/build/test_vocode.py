"""A vocoder is trained from a config, loaded as an inverter of its own mel alone, and makes files of files."""

from __future__ import annotations

import copy
import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from command import plain
from ml_collections import ConfigDict

from audiodiff import dsp
from audiodiff.build.choices import ConfigError
from audiodiff.build.experiment import run_experiment
from audiodiff.build.model import make_inverter, make_model, make_representation
from audiodiff.build.run import Run, load_run
from audiodiff.build.vocode import vocode_files
from audiodiff.data import write_audio
from audiodiff.diffusion.priors import Standard
from audiodiff.types import Context
from audiodiff.vocoders import FrameEnergy, SpectralEnvelope
from configs import vocoder_digits


@pytest.fixture(scope="module")
def vocoder_config(_configs) -> dict:
    """Return the config of a tiny vocoder with PriorGrad's prior and the audio loss, on the demo's sounds."""
    config = vocoder_digits.get_config("smoke")
    config.data = ConfigDict(copy.deepcopy(_configs["smoke"]["data"]))
    config.data.conditions = ()
    sizes = {"residual_layers": 2, "residual_channels": 8, "dilation_cycle": 2, "embedding_features": 16}
    config.network = ConfigDict({"name": "dilated_stack", "upsample": (16, 8), "remat": True, **sizes})
    config.prior = ConfigDict({"name": "frame_energy", "floor": 0.02})
    config.objective.audio_loss.fft_samples = (64, 128)
    config.training.update({"batch_size": 2, "total_steps": 2, "held_out_clips": 3, "devices": 1, "watch_clips": 1})
    config.training.update({"save_every": 2, "evaluate_every": 2, "log_every": 1})
    config.optimiser.warmup_steps = 0
    return plain(config)


@pytest.fixture(scope="module")
def vocoder_run(tmp_path_factory, vocoder_config) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "vocoder"
    run_experiment(vocoder_config, folder)
    return load_run(folder)


def test_the_facts_are_of_the_whitened_sound_and_of_the_mel_that_it_is_told(vocoder_run, vocoder_config):
    """Whitened, every sound has the scale of one, whatever level it was brought to."""
    objective, facts = vocoder_run.model.objective, vocoder_run.facts
    assert isinstance(objective.prior, FrameEnergy) and objective.conditions == ("mel",)
    assert facts.mel == vocoder_run.frames.mel.to_dict()
    assert facts.sigma_data == pytest.approx(1.0, abs=0.35)
    assert facts.sigma_data > 3 * 10 ** (vocoder_config["data"]["target_dbfs"] / 20)
    spec = objective.network.network.conditions[0]
    assert (spec.mean, spec.std) == (facts.mel_mean, facts.mel_std) and facts.mel_std > 0.5


def test_the_audio_loss_is_measured(vocoder_run):
    lines = (vocoder_run.workdir / "metrics.jsonl").read_text()
    assert '"train/audio"' in lines


def test_a_run_and_its_inverter_are_the_same_sampler(vocoder_run):
    """From the same first noise; one takes keys a clip, the other one for all."""
    mel = np.random.default_rng(0).normal(-4, 1, (2, 16, 40)).astype(np.float32)
    keys = jax.random.split(jax.random.key(3), 2)
    ours = vocoder_run.sample(keys, {"mel": mel}, steps=2)
    theirs = vocoder_run.vocoder(steps=2)(jnp.asarray(mel), jax.random.key(3), 2048)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert ours.shape == (2, 2048) and np.abs(ours).max() > 1e-4


def test_no_chunk_hears_its_part_of_a_mel(vocoder_run):
    mel = np.zeros((64, 8), np.float32)
    with pytest.raises(ConfigError, match="condition 'mel' lies along the clip, which no chunk hears: take windowed"):
        vocoder_run.sample_long(jax.random.key(0), {"mel": mel}, seconds=1)


def test_a_log_mel_model_decodes_through_it(vocoder_run, vocoder_config):
    inverter = {"name": "vocoder", "workdir": str(vocoder_run.workdir), "steps": 2}
    config = {"name": "log_mel", "mel": vocoder_config["mel"], "inverter": inverter}
    representation = make_representation(config, 1, 8000)
    audio = np.random.default_rng(0).uniform(-0.2, 0.2, (1, 2000)).astype(np.float32)
    heard = representation.decode(representation.encode(audio), None, 2000)
    assert heard.shape == (1, 2000) and np.isfinite(heard).all()
    assert jax.tree.leaves(representation)  # its weights are leaves: never constants of a compiled step


def test_a_generator_of_mels_is_trained_through_its_vocoder(vocoder_run, vocoder_config):
    """Ledger row 59: the loss of the sound reaches the generator by its log-mel, and the vocoder stays a constant."""
    config = copy.deepcopy(vocoder_config) | {"conditions": (), "prior": {"name": "standard"}}
    del config["mel"]
    inverter = {"name": "vocoder", "workdir": str(vocoder_run.workdir), "steps": 2, "match_mel": 0}
    config["representation"] = {"name": "log_mel", "mel": vocoder_config["mel"], "inverter": inverter}
    config["network"] = {"name": "unet1d", "stem": "random", "factors": (1,), "channels": (8,), "blocks": (1,)}
    config["network"] |= {"attention_heads": (0,), "embedding": 16}
    config["objective"]["audio_loss"] |= {"weight": 1.0, "largest_ratio": 100.0}
    facts = dataclasses.replace(vocoder_run.facts, mean=-4.0, sigma_data=2.0)
    objective = make_model(config, facts).objective
    audio = np.random.default_rng(0).uniform(-0.2, 0.2, (2, 2048)).astype(np.float32)
    batch = {"audio": jnp.asarray(audio), "draw": jnp.arange(2)}
    params = objective.init(jax.random.key(0), batch)

    @jax.jit
    def gradient(params, objective):
        def heard(params):
            return objective(params, Context(jax.random.key(1), jnp.int32(0)), batch)[1]["audio"].mean()

        return jax.grad(heard)(params)

    found = gradient(params, objective)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(found)]
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert max(np.abs(leaf).max() for leaf in leaves) > 1e-6


@pytest.mark.parametrize(
    "change, told",
    [
        ({"bands": 32}, "bands is 32 and not 40"),
        ({"hop_samples": 64}, "stft.hop_samples is 64 and not 128"),
        ({"name": "hifigan"}, "stft.padding is 'half_overlap' and not 'half_fft'"),
    ],
)
def test_another_mel_is_refused_by_name(vocoder_run, vocoder_config, change, told):
    inverter = {"name": "vocoder", "workdir": str(vocoder_run.workdir)}
    config = {"name": "log_mel", "mel": vocoder_config["mel"] | change, "inverter": inverter}
    with pytest.raises(ConfigError, match=f"inverter 'vocoder': the mel is not the one .* trained in: .*{told}"):
        make_representation(config, 1, 8000)


def test_what_is_no_vocoder_is_refused(workdir, run, vocoder_run, vocoder_config):
    mel = dsp.MelSpec(rate_hz=8000, stft=dsp.StftSpec(512, 128), bands=40, fmax_hz=4000.0)
    with pytest.raises(ConfigError, match="holds no vocoder, a model told a mel: train one with configs/vocoder_dig"):
        make_inverter({"name": "vocoder", "workdir": str(workdir)}, mel)
    with pytest.raises(ConfigError, match="is of Waveform, which has no inverter: name a run of log-mels"):
        run.with_inverter({"name": "griffin_lim"})
    with pytest.raises(ConfigError, match="holds no vocoder: name the workdir of a model told a mel"):
        vocode_files(run, pathlib.Path("."), pathlib.Path("."))
    with pytest.raises(ConfigError, match=r"condition 'mel' is missing: a vocoder is told a log-mel \[frame, band\]"):
        vocoder_run.sample(jax.random.key(0))
    with pytest.raises(ConfigError, match="it is made of the condition 'mel', which this model has not"):
        make_model({**run.config, "prior": {"name": "spectral_envelope"}}, run.facts)


@pytest.mark.parametrize(
    "mel, told",
    [
        (np.zeros((16, 39)), "has the shape .*16, 39.: give"),
        (np.zeros((0, 40)), "has the shape .*0, 40.: give"),
        (np.full((16, 40), np.nan), "16 frames of the log-mel hold NaN or infinite values"),
        (np.zeros((15, 40)), "15 frames of 128 samples do not cover 2048 samples: give 16 frames"),
    ],
)
def test_mels_that_cannot_be_are_refused(vocoder_run, mel, told):
    with pytest.raises(ValueError, match=told):
        vocoder_run.sample(jax.random.key(0), {"mel": mel})


@pytest.mark.parametrize("name, kind", [("standard", Standard), ("spectral_envelope", SpectralEnvelope)])
def test_priors_are_chosen_by_name(vocoder_run, vocoder_config, name, kind):
    model = make_model({**vocoder_config, "prior": {"name": name}}, vocoder_run.facts)
    assert isinstance(model.objective.prior, kind)


def test_files_are_made_of_recordings_and_of_mels(vocoder_run, tmp_path):
    source, rng = tmp_path / "in", np.random.default_rng(0)
    quiet = 0.01 * rng.standard_normal(3000)
    write_audio(source / "a" / "clip.wav", quiet, 16000)
    np.save(source / "mel.npy", rng.normal(-4, 1, (9, 40)))
    written = vocode_files(vocoder_run, source, tmp_path / "out", steps=1, say=lambda line: None)
    assert [path.relative_to(tmp_path / "out").as_posix() for path in written] == ["a/clip.wav", "mel.wav"]
    (clip, rate_hz), (mel, _) = (soundfile.read(path) for path in written)
    assert (rate_hz, len(clip), len(mel)) == (8000, 1500, 9 * 128)
    np.save(tmp_path / "other.npy", np.zeros((9, 41)))
    with pytest.raises(ConfigError, match=r"other.npy has the shape \(9, 41\): the vocoder takes \[frame, 40\]"):
        vocode_files(vocoder_run, tmp_path / "other.npy", tmp_path / "out")
