"""Can a model of the spectrum say the ten digits in six voices?

Question: the task of configs/digits_wave.py, with the waveform's spectrum in its place: the same data, objective and
trainer; another representation and the 2-D U-Net, or the 1-D one over bins.

    python experiments/train.py --config=configs/digits_spectral.py:log_mel --workdir=runs/digits_log_mel

``:complex_stft``   Re and Im of a compressed STFT; exact
``:mdct``           a real transform of as many numbers as there are samples; exact
``:log_mel``        40 bands, back to audio by Griffin-Lim, which is the ceiling
``:log_mel_1d``     the same, its bands the channels of a 1-D U-Net
``:end_to_end``     the same as ``:log_mel``, trained on with a loss of the audio that a frozen vocoder makes of its
                    estimate, through every step of the vocoder: --init_from=runs/digits_log_mel, and
                    --config.representation.inverter.workdir=runs/vocoder_unet
``:smoke``          seconds; shows that everything runs, not that it learns

Cost and result are not yet measured; sizes are first guesses for two CPU cores.
"""

from ml_collections import ConfigDict

from configs import common

REPRESENTATIONS: dict[str, dict[str, object]] = {
    "complex_stft": {"fft_samples": 256, "hop_samples": 128, "window_samples": 256, "exponent": 0.5},
    "mdct": {"frame_samples": 256, "window": "kbd", "exponent": 0.5},
    "log_mel": {
        "mel": {
            "name": "librosa",
            "fft_samples": 512,
            "hop_samples": 128,
            "window_samples": 512,
            "bands": 40,
            "floor": 1e-4,
        },
        "inverter": {"name": "griffin_lim", "iterations": 32, "momentum": 0.99},
    },
}


def get_config(arg: str = "log_mel") -> ConfigDict:
    """Return the config of one representation."""
    if arg not in (sizes := (*REPRESENTATIONS, "log_mel_1d", "end_to_end", "smoke")):
        raise ValueError(f"configs/digits_spectral.py has no size {arg!r}; choose {', '.join(sizes)}")
    name = arg if arg in REPRESENTATIONS else "log_mel"
    config = common.diffusion()
    common.digits(config)
    config.data.validation_indices = (5,)
    config.data.held_out_split = "validation"
    config.data.bucket_samples = (4096, 6144)
    config.data.whole_share = 0.2
    config.representation = ConfigDict({"name": name, **REPRESENTATIONS[name]})
    config.network = ConfigDict(
        {
            "name": "unet2d",
            "frame_factors": (1, 2, 2),
            "bin_factors": (2, 2, 2),
            "channels": (48, 96, 160),
            "blocks": (1, 1, 1),
            "attention_heads": (0, 0, 4),
            "attention_axis": ("frame", "frame", "both"),
            "embedding": 256,
        }
    )
    if arg == "log_mel_1d":
        config.network = ConfigDict(
            {
                "name": "unet1d",
                "stem": "random",
                "factors": (1, 2, 2),
                "channels": (128, 192, 256),
                "blocks": (1, 1, 1),
                "attention_heads": (0, 0, 4),
                "embedding": 256,
            }
        )
    config.objective.levels.mean = -0.6
    config.objective.levels.std = 1.6
    config.sampler.steps = 30
    config.sampler.guidance = 2.0
    config.sampler.grid.sigma_max = 40.0
    config.training.batch_size = 16
    config.training.total_steps = 6000
    config.training.evaluate_every = 1000
    if arg == "end_to_end":
        config.representation.inverter = ConfigDict({"name": "vocoder", "workdir": "runs/vocoder_unet", "steps": 2})
        # Where noise is weak, and the estimate is one clip and no mean of many, whose sound would be none.
        config.objective.audio_loss = ConfigDict(
            {"weight": 0.1, "largest_ratio": 0.3, "fft_samples": (128, 256, 512, 1024)}
        )
        config.optimiser.learning_rate = 2e-4
        config.training.total_steps = 1000
    if arg == "smoke":
        config.network.channels = (8, 8, 16)
        config.network.attention_heads = (0, 0, 1)
        config.network.embedding = 32
        common.smoke(config)
        config.sampler.steps = 3
    return config
