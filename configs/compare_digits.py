"""When is it better to diffuse the waveform, and when its spectrum?

Question: four models of the same recordings, each with the network made for what it diffuses, under one trainer, one
objective, one sampler, one judge and as good as one number of parameters. Each is measured twice in one run: when it
has spent a number of FLOPs, and when it has spent a time.

    python experiments/compare.py --config=configs/compare_digits.py --workdir=runs/compare

``waveform_unet``     samples; the 1-D U-Net with a spectral stem
``waveform_dilated``  samples; DiffWave's stack at one resolution
``complex_stft``      Re and Im of a compressed STFT, exact; the 2-D U-Net
``log_mel``           40 bands; the 2-D U-Net, then back to audio by Griffin-Lim and by a diffusion vocoder

Task: two speakers of FSDD, ten digits, 4,096 samples, official split; 900 clips to train on and 100 to test.

``:cpu``    200 s of 2 cores a cell by the clock or 1e13 FLOPs, three seeds: an hour to train, another to sample
``:gpu``    the same cells with twenty times the FLOPs, or a minute of one H100-class GPU each (not yet run)
``:smoke``  two minutes; shows that everything runs, not that anything learns

A step of 16 clips takes 2.3, 33, 5.4 and 3.5 GFLOP, in the order above, at 445,216 to 462,706 parameters: a layer at
the full rate does 4,096 products where one over patches does 128. Sizes were found by counting both, not by results,
and learning rates are those of configs/digits_wave.py and configs/common.py, as they are. Cost and result: 35 minutes
to train all cells two at a time, half an hour to sample them; docs/results/time-vs-spectral.md.
"""

from ml_collections import ConfigDict

from configs import common

MEL = common.MEL_8K
"""The judge hears in it, the log-mel model speaks it and the vocoder is told it."""

UNET1D: dict = {"name": "unet1d", "blocks": (1, 1, 1), "attention_heads": (0, 0, 4), "embedding": 128}
UNET2D: dict = {
    "name": "unet2d",
    "blocks": (1, 1, 1),
    "attention_heads": (0, 0, 4),
    "attention_axis": ("frame", "frame", "both"),
    "embedding": 128,
}
GRIFFIN_LIM = {"name": "griffin_lim", "iterations": 32, "momentum": 0.99}

ARMS: dict[str, dict] = {
    "waveform_unet": {
        "representation": {"name": "waveform", "preemphasis": 0.9},
        "network": UNET1D
        | {"factors": (32, 2, 2), "channels": (24, 32, 48), "stem": "spectral", "atoms": 192, "atom_blocks": 9},
        "learning_rate": 1.5e-3,
    },
    "waveform_dilated": {
        "representation": {"name": "waveform", "preemphasis": 0.9},
        "network": {
            "name": "dilated_stack",
            "residual_layers": 10,
            "residual_channels": 32,
            "dilation_cycle": 10,
            "embedding_features": 416,
        },
        "learning_rate": 1e-3,
    },
    "complex_stft": {
        "representation": {
            "name": "complex_stft",
            "fft_samples": 256,
            "hop_samples": 128,
            "window_samples": 256,
            "exponent": 0.5,
        },
        "network": UNET2D | {"frame_factors": (1, 2, 2), "bin_factors": (4, 2, 2), "channels": (12, 24, 40)},
        "learning_rate": 1e-3,
    },
    "log_mel": {
        "representation": {"name": "log_mel", "mel": MEL, "inverter": GRIFFIN_LIM},
        "network": UNET2D | {"frame_factors": (1, 2, 2), "bin_factors": (2, 2, 2), "channels": (16, 24, 40)},
        "learning_rate": 1e-3,
    },
}
"""What each arm diffuses, and by what; all else is the same."""


def get_config(arg: str = "cpu") -> ConfigDict:
    """Return the config of one size."""
    if arg not in ("cpu", "gpu", "smoke"):
        raise ValueError(f"configs/compare_digits.py has no size {arg!r}; choose cpu, gpu or smoke")
    config = ConfigDict()
    config.task = "comparison"
    config.name = f"compare_digits/{arg}"
    common.two_speakers(config)
    config.arms = ConfigDict({name: common.compared(**choice) for name, choice in ARMS.items()})
    config.order = tuple(ARMS)  # differences are from the first
    # Of every arm that needs one; a workdir is below the comparison's. The vocoder is a copy of runs/vocoder_unet,
    # trained by configs/vocoder_digits.py on all six speakers: its training is no part of the budgets.
    config.inverters = ConfigDict(
        {"griffin_lim": GRIFFIN_LIM, "vocoder": {"name": "vocoder", "workdir": "vocoder", "steps": 6}}
    )
    config.judge = common.compared_judge(MEL)
    config.seeds = (0, 1, 2)
    config.budget = ConfigDict({"flops": 1e13, "seconds": 200.0})
    config.parameters_within = 0.1
    config.clips = 100
    config.sweep = ConfigDict({"steps": (1, 2, 4, 6, 10, 20, 50, 100), "clips": 20})
    config.generation_batch = 50
    config.calibration = ConfigDict({"rounds": 7, "steps_a_turn": 2})
    config.speed = ConfigDict({"batches": (1, 16), "rounds": 5})
    if arg == "gpu":
        config.budget.update({"flops": 2e14, "seconds": 60.0})
        config.calibration.rounds = 15
    if arg == "smoke":
        _shrink(config)
    return config


def _vocoder() -> ConfigDict:
    """Return a vocoder that takes a moment; that of the other sizes is trained by configs/vocoder_digits.py."""
    config = common.diffusion()
    del config.data
    config.conditions = ("mel",)
    config.mel = ConfigDict(MEL)
    config.objective.drop_probability = 0.0
    config.sampler.steps = 1
    config.training.devices = 1
    return config


def _shrink(config: ConfigDict) -> None:
    """Make a comparison take a minute: two arms, two seeds, a few steps of the network that is compiled soonest."""
    config.order = ("waveform_dilated", "log_mel")
    tiny = {
        "name": "dilated_stack",
        "residual_layers": 2,
        "residual_channels": 8,
        "dilation_cycle": 2,
        "embedding_features": 8,
    }
    config.vocoder = _vocoder()
    for trained in (*(config.arms[name] for name in config.order), config.vocoder):
        trained.network = ConfigDict(tiny)
    config.judge.network.update({"widths": (8,), "features": 8})
    for shared in (config.judge, config.vocoder):
        common.smoke(shared)
        shared.training.update({"total_steps": 4, "save_every": 4, "evaluate_every": 4, "watch_clips": 0})
    for arm in config.arms.values():
        arm.optimiser.warmup_steps = 1
        arm.sampler.steps = 2
        arm.training.batch_size = 4
    config.inverters.griffin_lim.iterations = 2
    config.inverters.vocoder.steps = 1
    config.data.length_samples = 2048
    config.seeds = (0, 1)
    config.budget.update({"flops": 2e8, "seconds": 0.05})
    config.parameters_within = 100.0
    config.clips = 20
    config.sweep.update({"steps": (1, 2), "clips": 20})
    config.generation_batch = 20
    config.calibration.update({"rounds": 2, "steps_a_turn": 1})
    config.speed.update({"batches": (1,), "rounds": 2})
