"""Hold the defaults that configs begin from. Every key a config may have stands here or in the config itself."""

from ml_collections import ConfigDict


def diffusion() -> ConfigDict:
    """Return a diffusion run: EDM on the waveform, a U-Net, DPM-Solver++ 2M."""
    config = _run("diffusion")
    config.representation = ConfigDict({"name": "waveform", "preemphasis": 0.0})
    config.process = ConfigDict({"name": "edm"})
    config.parameterisation = "edm"
    config.network = ConfigDict({"name": "unet1d"})
    config.objective = ConfigDict(
        {
            # In units of sigma_data: EDM's P_mean = -1.2 at sigma_data = 0.5 is -0.507.
            "levels": ConfigDict({"name": "log_normal", "mean": -0.507, "std": 1.2}),
            "weighting": ConfigDict({"name": "edm"}),
            "drop_probability": 0.1,
            "drop_together": True,
            "learned_uncertainty": False,
            "mask_padding": False,
            "bands": 4,
        }
    )
    config.sampler = ConfigDict(
        {
            "name": "dpmpp_2m",
            "options": ConfigDict(),
            "steps": 40,
            "grid": ConfigDict({"name": "karras", "sigma_min": 0.003, "sigma_max": 80.0, "rho": 7.0}),
            "guidance": 1.0,
            # Guidance acts where low < sigma / (alpha sigma_data) <= high.
            "guidance_interval": (0.0, float("inf")),
            "guidance_rescale": 0.0,
        }
    )
    return config


def judge() -> ConfigDict:
    """Return a judge: a classifier of log-mels with a class for what is no such sound."""
    config = _run("judge")
    config.mel = ConfigDict(MEL_8K)
    config.network = ConfigDict({"name": "classifier", "widths": (64, 96, 128)})
    config.objective = ConfigDict({"reject_probability": 0.2, "noise_probability": 0.5, "max_shift_samples": 800})
    return config


def autoencoder() -> ConfigDict:
    """Return an autoencoder of waveforms: no conditions, a distance of spectra and one of samples."""
    config = _run("autoencoder")
    config.network = ConfigDict({"name": "autoencoder"})
    config.objective = ConfigDict(
        {
            "fft_samples": (128, 256, 512),
            "waveform_weight": 1.0,
            "preemphasis": 0.9,
            "latent_weight": 1.0,
            "latent_noise": 0.05,
        }
    )
    return config


def _run(task: str) -> ConfigDict:
    """Return what the runs of all tasks have: data, optimiser, the loop's settings."""
    config = ConfigDict({"task": task, "seed": 0, "dtype": "float32", "conditions": ()})
    config.data = data()
    config.optimiser = optimiser()
    config.training = training()
    return config


def data() -> ConfigDict:
    """Return the keys that every data set has; layouts and the embedded set take a few of their own."""
    return ConfigDict(
        {
            "name": "fsdd",
            "root": "",
            "rate_hz": 8000,
            "channels": 1,
            "length_samples": 8192,
            "bucket_samples": (),
            "whole_share": 0.0,
            "target_dbfs": -20.0,
            "crop": "start",
            "max_shift_samples": 0,
            "flip_polarity": False,
            "conditions": (),
            "condition_lengths": ConfigDict(),
            "in_memory": True,
            "train_split": "train",
            "held_out_split": "test",
            "test_split": "test",
            # Labels whose clips are in the split "left_out" alone, as ("speaker=theo", "digit=7"); on the command line
            # --config.data.leave_out=speaker=theo, several as "'speaker=theo','digit=7'".
            "leave_out": (),
            "strict": False,
            "max_bad_share": 0.05,
        }
    )


def digits(config: ConfigDict) -> None:
    """Condition a run on digit and speaker of FSDD's recordings."""
    config.conditions = ("digit", "speaker")
    config.data.conditions = ("digit", "speaker")


def optimiser() -> ConfigDict:
    """Return AdamW with a short warm-up and a cosine."""
    return ConfigDict(
        {
            "name": "adamw",
            "learning_rate": 1e-3,
            "schedule": "cosine",
            "warmup_steps": 100,
            "end_factor": 0.02,
            "weight_decay": 0.0,
            "clip_norm": 1.0,
            "b1": 0.9,
            "b2": 0.99,
            # Paths of parameters that stay as they are, as "network/encoder*".
            "frozen": (),
        }
    )


def training() -> ConfigDict:
    """Return the loop's settings."""
    return ConfigDict(
        {
            "batch_size": 32,
            "total_steps": 1000,
            # "jit", "fsdp" (the state in parts over a host's devices, or ``fsdp`` of them) or "pmap"; 0 means all.
            "strategy": "jit",
            "devices": 0,
            "fsdp": 0,
            "microbatches": 1,
            "ema": ConfigDict({"short": ("constant", 0.999)}),
            "ema_choice": "short",
            # Of averages ("power", sigma_rel); any other length can then be had after training. 0: never.
            "snapshot_every": 0,
            "save_every": 500,
            "evaluate_every": 500,
            "log_every": 50,
            "keep": 2,
            "held_out_clips": 64,
            "watch_clips": 4,
            "num_threads": 1,
            # Weights & Biases beside the event files: "", "offline" or "online".
            "wandb": "",
        }
    )


def two_speakers(config: ConfigDict) -> None:
    """Let a comparison be of two speakers' digits in 4,096 samples, into which 97 of 100 of their clips fit."""
    config.data = data()
    config.data.conditions = ("digit", "speaker")
    config.data.length_samples = 4096
    config.data.leave_out = tuple(f"speaker={speaker}" for speaker in ("george", "jackson", "lucas", "theo"))


def compared(representation: dict, network: dict, learning_rate: float) -> ConfigDict:
    """Return a training config of the two speakers' digits, without the data, that may be stopped at any step.

    The learning rate is constant, and the average of the weights over a fixed share of what was run.
    """
    config = diffusion()
    del config.data
    config.conditions = ("digit", "speaker")
    config.representation = ConfigDict(representation)
    config.network = ConfigDict(network)
    config.objective.levels.mean = -0.6
    config.objective.levels.std = 1.6
    config.optimiser.learning_rate = learning_rate
    config.optimiser.schedule = "constant"
    config.sampler.steps = 20
    config.sampler.guidance = 2.0
    config.sampler.grid.sigma_max = 40.0
    config.training.batch_size = 16
    config.training.devices = 1  # what a step takes is that of one, however many there are
    config.training.ema = ConfigDict({"long": ("power", 0.1)})
    config.training.ema_choice = "long"
    config.training.held_out_clips = 0
    config.training.watch_clips = 0
    return config


def compared_judge(mel: dict) -> ConfigDict:
    """Return the judge of two speakers' digits, without the data; of 100 clips its 64 features have a covariance."""
    config = judge()
    del config.data
    config.conditions = ("digit", "speaker")
    config.mel = ConfigDict(mel)
    config.network.features = 64
    config.optimiser.learning_rate = 2e-3
    config.training.update({"batch_size": 64, "total_steps": 600, "save_every": 300, "evaluate_every": 300})
    config.training.held_out_clips = 100
    config.training.devices = 1
    return config


MEL_8K = {"name": "librosa", "fft_samples": 512, "hop_samples": 128, "window_samples": 512, "bands": 40, "floor": 1e-4}
"""The mel that a judge of recordings at 8 kHz hears, and that log-mel models speak to be heard by it."""


def smoke(config: ConfigDict) -> None:
    """Make a run take seconds: it shows that everything works together, not that it learns."""
    config.optimiser.warmup_steps = 2
    config.training.update(
        {
            "batch_size": 4,
            "total_steps": 10,
            "save_every": 5,
            "evaluate_every": 10,
            "log_every": 5,
            "held_out_clips": 4,
            "watch_clips": 1,
        }
    )
