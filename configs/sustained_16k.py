"""Can a model of half a second make a minute of sound whose seams cannot be measured?

Question: sustained sounds at 16 kHz that neither begin nor end, learnt from crops of 8,192 samples out of the middle of
4 s recordings, for any length to be sampled chunk by chunk or window by window (docs/results/long_audio.md).

    python experiments/train.py --config=configs/sustained_16k.py:gpu --workdir=runs/sustained_16k_gpu
    python experiments/sample.py --workdir=runs/sustained_16k_gpu --out=minutes --num=1 --seconds=60

Five sounds of the embedded set at eight pitches. Nothing is downloaded.

Cost and result, by size:

``:cpu``    3,000 steps of 8 crops, ten minutes of one core that has nothing else to do: not enough, its sounds are
            hoarse and two semitones off
``:gpu``    8,000 steps of 32 crops, 30 to 100 a second on one H200; after 2,001 F0 is within 5 cents of what was asked
            and no seam is found where half a chunk overlaps
``:smoke``  seconds; shows that everything runs, not that it learns
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "cpu") -> ConfigDict:
    """Return the config of one size."""
    if arg not in ("cpu", "gpu", "smoke"):
        raise ValueError(f"configs/sustained_16k.py has no size {arg!r}; choose cpu, gpu or smoke")
    config = common.diffusion()
    config.conditions = ("sound", "pitch")
    config.data.name = "embedded"
    config.data.sounds = ("ah", "ee", "oo", "organ", "brass")
    config.data.size = 640
    config.data.rate_hz = 16_000
    config.data.length_samples = 8192
    # A clip begins within 30 ms, rises within 80 ms, and the last 8 % are silence after 80 ms of fall: 7,100 samples.
    config.data.clip_samples = 65_536
    config.data.margin_samples = 8192
    config.data.crop = "random"
    config.data.flip_polarity = True
    config.data.conditions = ("sound", "pitch")
    config.data.held_out_split = "validation"
    config.representation.preemphasis = 0.9
    config.network = ConfigDict(
        {
            "name": "unet1d",
            "stem": "spectral",
            "atoms": 256,
            "atom_blocks": 9,
            "long_level": 2,
            "long_atoms": 512,
            "long_blocks": 7,
            "factors": (32, 2, 2),
            "channels": (64, 96, 128),
            "blocks": (1, 1, 1),
            "attention_heads": (0, 0, 4),
            "embedding": 128,
        }
    )
    config.objective.levels.mean = -0.8
    config.objective.levels.std = 1.7
    config.optimiser.learning_rate = 2e-3
    config.sampler.grid.sigma_max = 40.0
    config.sampler.steps = 24
    config.sampler.guidance = 1.5
    config.training.batch_size = 8
    config.training.total_steps = 3000
    config.training.save_every = 1000
    config.training.evaluate_every = 1000
    config.training.log_every = 20
    config.training.ema = ConfigDict({"long": ("power", 0.1)})
    config.training.ema_choice = "long"
    if arg == "gpu":
        config.training.batch_size = 32
        config.training.total_steps = 8000
        config.training.save_every = 2000
        config.training.evaluate_every = 2000
        config.training.num_threads = 4
    if arg == "smoke":
        config.network.channels = (16, 16, 16)
        config.network.attention_heads = (0, 0, 1)
        config.network.embedding = 32
        config.data.size = 40
        config.sampler.steps = 3
        common.smoke(config)
    return config
