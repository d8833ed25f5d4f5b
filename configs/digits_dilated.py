"""Does a network of one resolution say the digits as well as a U-Net does?

Question: the run of configs/digits_wave.py with DiffWave's dilated stack (Kong et al. 2021) in the U-Net's place, all
else equal. Every layer works at the full rate: a step costs far more and sees 4,093 samples, half a clip.

    python experiments/train.py --config=configs/digits_dilated.py --workdir=runs/digits_dilated

Cost and result are not yet measured. ``:smoke`` takes seconds; it shows that everything runs, not that it learns.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
    """Return the config; ``smoke`` takes seconds and learns nothing."""
    if arg not in ("", "smoke"):
        raise ValueError(f"configs/digits_dilated.py has no size {arg!r}; choose smoke, or give none")
    config = common.diffusion()
    common.digits(config)
    config.data.validation_indices = (5,)
    config.data.held_out_split = "validation"
    config.representation.preemphasis = 0.9
    config.network = ConfigDict(
        {
            "name": "dilated_stack",
            "residual_layers": 20,
            "residual_channels": 64,
            "dilation_cycle": 10,
            "kernel_size": 3,
            "causal": False,
            "embedding_features": 256,
            "remat": False,
        }
    )
    config.objective.levels.mean = 0.0
    config.objective.levels.std = 1.5
    config.sampler.grid.sigma_max = 40.0
    config.sampler.guidance = 2.0
    config.training.batch_size = 16
    config.training.total_steps = 5500
    config.training.evaluate_every = 1000
    if arg == "smoke":
        common.smoke(config)
        config.network.residual_layers = 4
        config.network.residual_channels = 8
        config.network.dilation_cycle = 4
        config.network.embedding_features = 16
        config.sampler.steps = 3
    return config
