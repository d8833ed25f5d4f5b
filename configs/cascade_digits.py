"""Does it pay to make sound from coarse to fine?

Question: spoken digits of two speakers at 8 kHz (the task of configs/compare_digits.py), made by one model of the whole
waveform, by cascades over a pyramid of rates, and in a latent.

    python experiments/cascade.py --config=configs/cascade_digits.py:two --workdir=runs/two
    python experiments/cascade.py --workdir=runs/two --out=samples

``:two``       0 to 1 kHz, then the three bands above it, told the first by concatenation
``:octave``    0 to 2 kHz, then the octave above
``:three``     0 to 1 kHz, 1 to 2 kHz, 2 to 4 kHz
``:attended``  ``:two`` with the finer stage told by cross-attention to the coarse one
``:both``      ``:two`` with both
``:whole``     ``:two`` with a finer stage that makes the whole waveform anew, and may mend the coarse one
``:bands``     four stages side by side, one for each band of 1 kHz; only the lowest is told to the others
``:frames``    frames of 16 ms (40 bands of log-mel), then samples told them, as a vocoder is
``:features``  an utterance, phrases of 256 ms, frames of 16 ms, then samples: log-mels pooled less and less
``:joint``     ``:two`` in one run of as many FLOPs, the finer stage beginning when a third of it is over
``:compare``   all arms of experiments/studies/hierarchy.py, at equal training FLOPs
``:smoke``     seconds; shows that everything runs, not that it learns

Two are one model each, trained by experiments/train.py:

``:upsample``  bandwidth extension of recordings at 2 kHz: run.sample(key, {"low": audio, "digit": ...}), of their audio
``:latent``    the waveform in the latent of runs/autoencoder (configs/autoencoder_digits.py)

Cost: ``:two`` takes 1e13 FLOPs, as a cell of the comparison does. Result: docs/results/hierarchy.md.
"""

from ml_collections import ConfigDict

from configs import common

CASCADES = ("two", "octave", "three", "attended", "both", "whole", "bands", "frames", "features", "joint", "smoke")
ALONE = ("upsample", "latent")
SIZES = (*CASCADES, *ALONE, "compare")

NETWORK: dict = {
    "name": "unet1d",
    "blocks": (1, 1, 1),
    "attention_heads": (0, 0, 4),
    "embedding": 128,
    "stem": "spectral",
}
SINGLE = NETWORK | {"factors": (32, 2, 2), "channels": (24, 32, 48), "atoms": 192, "atom_blocks": 9}
"""The waveform_unet of configs/compare_digits.py."""

# Patches of 4 ms in all: as many samples as a stage's rate makes of them.
LOW = NETWORK | {"factors": (8, 2, 2), "channels": (20, 28, 40), "atoms": 64, "atom_blocks": 9}
THREE_BANDS = NETWORK | {"factors": (8, 2, 2), "channels": (20, 28, 40), "atoms": 144, "atom_blocks": 5}
ONE_BAND = NETWORK | {"factors": (8, 2, 2), "channels": (16, 24, 32), "atoms": 64, "atom_blocks": 9}
HALF = NETWORK | {"factors": (16, 2, 2), "channels": (20, 28, 40), "atoms": 96, "atom_blocks": 9}
OCTAVE = NETWORK | {"factors": (16, 2, 2), "channels": (16, 24, 32), "atoms": 96, "atom_blocks": 9}
FRAMES = {
    "name": "unet1d",
    "stem": "random",
    "factors": (1, 2),
    "channels": (32, 48),
    "blocks": (1, 1),
    "attention_heads": (0, 4),
    "embedding": 128,
}
LATENT = NETWORK | {"factors": (1, 2, 2), "channels": (40, 48, 48), "stem": "random"}
POINT = FRAMES | {"factors": (1,), "channels": (64,), "blocks": (2,), "attention_heads": (0,)}

BUDGET_FLOPS = 1e13
SHARES = {
    "two": {"low": 0.5, "fine": 0.5},
    "octave": {"low": 0.6, "fine": 0.4},
    "three": {"low": 0.4, "middle": 0.3, "fine": 0.3},
    "frames": {"frames": 0.1, "samples": 0.9},
}
"""The share of the budget that each stage may spend."""

STEPS = {
    "two": {"low": 6000, "fine": 3900},
    "octave": {"low": 5800, "fine": 4000},
    "three": {"low": 4800, "middle": 4300, "fine": 3000},
    "frames": {"frames": 2600, "samples": 3900},
}
"""What these shares buy."""


def level(factors: tuple[int, ...], number: int, bands: tuple[int, ...] = ()) -> dict:
    """Return the section of a level of a pyramid."""
    return {
        "name": "pyramid",
        "factors": factors,
        "level": number,
        "bands": bands,
        "frame_samples": 256,
        "preemphasis": 0.9,
    }


def pooled(pool_frames: int) -> dict:
    """Return the section of a level of features."""
    return {"name": "pooled_mel", "mel": common.MEL_8K, "pool_frames": pool_frames}


def told(representation: dict, by: tuple[str, ...] = ("concat",), noise: float = 0.5) -> dict:
    """Return what a stage is told."""
    return {"representation": representation, "by": by, "noise": noise, "noise_at_sampling": 0.1 if noise else 0.0}


def stage(representation: dict, network: dict, steps: int = 4300, **levels: dict) -> ConfigDict:
    """Return the config of a stage, without the data, told ``levels``."""
    config = common.compared(representation, network, 1.5e-3)
    config.told = ConfigDict(levels)
    config.sampler.steps = 6 if levels else 20
    config.training.total_steps = steps
    return config


def arms() -> dict[str, dict[str, ConfigDict]]:
    """Return the stages of every cascade, the coarsest first."""
    four, twice = (4,), (2, 2)
    low = stage(level(four, 0), LOW, STEPS["two"]["low"])

    def fine(by: tuple[str, ...] = ("concat",), noise: float = 0.5) -> ConfigDict:
        heard = told(level(four, 0), by, noise)
        return stage(level(four, 1, (1, 2, 3)), THREE_BANDS, STEPS["two"]["fine"], low=heard)

    return {
        "single": {"whole": stage(level(four, 1), SINGLE)},
        "octave": {
            "low": stage(level((2,), 0), HALF, STEPS["octave"]["low"]),
            "fine": stage(level((2,), 1, (1,)), OCTAVE, STEPS["octave"]["fine"], low=told(level((2,), 0))),
        },
        "frames": {
            "frames": stage(pooled(1), FRAMES, STEPS["frames"]["frames"]),
            "samples": stage(
                level(four, 1), SINGLE, STEPS["frames"]["samples"], frames=told(pooled(1), ("frames",), 0.25)
            ),
        },
        "latent": {"whole": stage({"name": "latent", "workdir": "autoencoder"}, LATENT)},
        "two": {"low": low, "fine": fine()},
        "three": {
            "low": stage(level(twice, 0), LOW, STEPS["three"]["low"]),
            "middle": stage(level(twice, 1, (1,)), ONE_BAND, STEPS["three"]["middle"], low=told(level(twice, 0))),
            "fine": stage(level(twice, 2, (1,)), OCTAVE, STEPS["three"]["fine"], middle=told(level(twice, 1))),
        },
        "attended": {"low": low, "fine": fine(("attention",))},
        "both": {"low": low, "fine": fine(("concat", "attention"))},
        "whole": {"low": low, "fine": stage(level(four, 1), SINGLE, 2200, low=told(level(four, 0)))},
        "bands": {"low": low}
        | {
            f"band{number}": stage(level(four, 1, (number,)), ONE_BAND, 2000, low=told(level(four, 0)))
            for number in (1, 2, 3)
        },
        "features": {
            "utterance": stage(pooled(0), POINT),
            "phrase": stage(pooled(16), POINT, utterance=told(pooled(0), ("global",), 0.25)),
            "frames": stage(
                pooled(1),
                FRAMES,
                utterance=told(pooled(0), ("global",), 0.25),
                phrase=told(pooled(16), ("frames",), 0.25),
            ),
            "samples": stage(level(four, 1), SINGLE, frames=told(pooled(1), ("frames",), 0.25)),
        },
        "upsample": {"fine": fine(noise=0.25)},
    }


def cascade(name: str, stages: dict[str, ConfigDict]) -> ConfigDict:
    """Return the config of a cascade of those stages in their order."""
    config = ConfigDict()
    config.task = "cascade"
    config.name = f"cascade_digits/{name}"
    common.two_speakers(config)
    config.stages = ConfigDict(stages)
    config.order = tuple(stages)
    return config


def get_config(arg: str = "two") -> ConfigDict:
    """Return the config of one cascade, or of all that are compared."""
    if arg not in SIZES:
        raise ValueError(f"configs/cascade_digits.py has no cascade {arg!r}; choose {', '.join(SIZES)}")
    if arg == "compare":
        return _comparison()
    if arg in ALONE:
        return _alone(arg)
    config = cascade(arg, arms()[{"joint": "two", "smoke": "two"}.get(arg, arg)])
    if arg == "bands":
        config.output = tuple(config.stages)
    if arg == "joint":
        _join(config)
    if arg == "smoke":
        for one in config.stages.values():
            _shrink(one)
    return config


def _join(config: ConfigDict) -> None:
    """Train all stages in one run, by the loop and the optimiser of the coarsest, each for as many steps as alone."""
    coarse = config.stages[config.order[0]]
    config.seed, config.optimiser, config.training = coarse.seed, coarse.optimiser, coarse.training
    steps = coarse.training.total_steps
    begins = {name: steps - one.training.total_steps for name, one in config.stages.items()}
    config.joint = ConfigDict({"spans": {name: (begin, None) for name, begin in begins.items()}})
    config.joint.update({"own_share": 0.0, "through": False})


def _alone(name: str) -> ConfigDict:
    """Return the training config of a model that is a whole by itself, for experiments/train.py."""
    (config,) = arms()[name].values()
    common.two_speakers(config)
    if name == "latent":
        config.representation.workdir = "runs/autoencoder"
    return config


def _comparison() -> ConfigDict:
    """Return all that experiments/studies/hierarchy.py trains and measures."""
    config = ConfigDict()
    config.task = "hierarchy"
    config.name = "hierarchy"
    common.two_speakers(config)
    found = arms()
    config.arms = ConfigDict(
        {name: cascade(name, found[name]) for name in ("single", "two", "octave", "three", "frames", "latent")}
    )
    # The share of the budget that each stage may spend.
    config.shares = ConfigDict({name: SHARES[name] for name in ("two", "octave", "three", "frames")})
    config.judge = common.compared_judge(common.MEL_8K)
    config.seeds = (0, 1, 2)
    config.budget_flops = BUDGET_FLOPS
    return config


def _shrink(config: ConfigDict) -> None:
    """Make a stage take a moment."""
    common.smoke(config)
    config.training.update(
        {"total_steps": 4, "save_every": 4, "evaluate_every": 4, "watch_clips": 0, "held_out_clips": 0}
    )
    config.sampler.steps = 1
    config.network = ConfigDict({"name": "dilated_stack", "residual_layers": 2, "residual_channels": 8})
    config.network.update({"dilation_cycle": 2, "embedding_features": 8})
