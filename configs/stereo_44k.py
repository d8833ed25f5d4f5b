"""Does it scale to stereo at 44.1 kHz? Any folder or manifest of recordings, 1.5 s at a time.

Question: unconditional generation of 65,536 samples of two channels by the U-Net of configs/digits_wave.py with larger
factors, a stem of 64 samples and three levels of 4. Files of any rate and format are read; a random 1.5 s of each is a
training example, and one file in twenty is held out by the hash of its name.

    python experiments/train.py --config=configs/stereo_44k.py --workdir=runs/stereo --config.data.root=DIR

A manifest, as experiments/prepare.py writes it, is read with ``--config.data.name=manifest --config.data.root=FILE``.

Cost and result are not yet measured; it is meant for one GPU. ``:smoke`` takes seconds; it shows that everything runs,
not that it learns.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
    """Return the config; ``smoke`` takes seconds and learns nothing."""
    if arg not in ("", "smoke"):
        raise ValueError(f"configs/stereo_44k.py has no size {arg!r}; choose smoke, or give none")
    config = common.diffusion()
    config.data.name = "folder"
    config.data.held_out_share = 0.05
    config.data.rate_hz = 44_100
    config.data.channels = 2
    config.data.length_samples = 65_536
    config.data.crop = "random"
    config.data.flip_polarity = True
    config.data.in_memory = False
    config.data.held_out_split = "validation"
    config.data.test_split = "validation"
    config.dtype = "bfloat16"
    config.network = ConfigDict(
        {
            "name": "unet1d",
            "factors": (64, 4, 4, 4),
            "channels": (256, 384, 512, 512),
            "blocks": (2, 2, 2, 2),
            "attention_heads": (0, 0, 8, 8),
            "embedding": 512,
            "remat": False,
        }
    )
    config.objective.levels.mean = 0.0
    config.objective.levels.std = 1.5
    config.optimiser.learning_rate = 3e-4
    config.optimiser.warmup_steps = 1000
    config.training.total_steps = 100_000
    config.training.evaluate_every = 5000
    config.training.save_every = 1000
    config.training.held_out_clips = 16
    config.training.num_threads = 8
    if arg == "smoke":
        common.smoke(config)
        config.dtype = "float32"
        config.network.channels = (16, 16, 16, 16)
        config.network.blocks = (1, 1, 1, 1)
        config.network.attention_heads = (0, 0, 1, 1)
        config.network.embedding = 32
        config.sampler.steps = 3
    return config
