"""Can six steps of diffusion make better sound of a 40-band mel than Griffin and Lim's algorithm?

Question: the waveforms of FSDD's recordings (8 kHz) from their log-mels; a model told a mel made of the clip itself.

    python experiments/train.py --config=configs/vocoder_digits.py:unet --workdir=runs/vocoder_unet
    python experiments/studies/vocoders.py --help

``:unet``        the U-Net of spectra of digits_wave, smaller, told the mel at its stem
``:priorgrad``   the same, its noise as loud as the mel's frames (PriorGrad)
``:specgrad``    the same, its noise coloured like the mel's spectrum (SpecGrad)
``:plain``       the same as these two with the standard prior: their control
``:flow``        the same as ``:plain`` by rectified flow: velocity, uniform time
``:diffwave``    DiffWave's stack, 20 layers of 48, with its learned upsampling of the mel
``:wavegrad``    WaveGrad's network, narrow
``:smoke``       seconds; shows that everything runs, not that it learns

Cost and result: docs/results/vocoders.md.
"""

from ml_collections import ConfigDict

from configs import common

SIZES = ("unet", "priorgrad", "specgrad", "plain", "flow", "diffwave", "wavegrad", "smoke")
PRIORS = {
    "priorgrad": {"name": "frame_energy", "floor": 0.01},
    "specgrad": {"name": "spectral_envelope", "floor": 0.003},
}


def get_config(arg: str = "unet") -> ConfigDict:
    """Return the config of one vocoder."""
    if arg not in SIZES:
        raise ValueError(f"configs/vocoder_digits.py has no vocoder {arg!r}; choose {', '.join(SIZES)}")
    config = common.diffusion()
    config.conditions = ("mel",)
    config.mel = ConfigDict(
        {"name": "librosa", "fft_samples": 512, "hop_samples": 128, "window_samples": 512, "bands": 40, "floor": 1e-4}
    )
    config.prior = ConfigDict({"name": "standard"})
    config.data.validation_indices = (5,)
    config.data.held_out_split = "validation"
    config.data.length_samples = 4096
    config.data.crop = "random"
    config.data.flip_polarity = True
    config.network = ConfigDict(
        {
            "name": "unet1d",
            "stem": "spectral",
            "atoms": 256,
            "atom_blocks": 9,
            "factors": (32, 2, 2),
            "channels": (112, 128, 160),
            "blocks": (2, 1, 1),
            "attention_heads": (0, 0, 0),
            "embedding": 160,
        }
    )
    # A vocoder is never asked without its mel: nothing is dropped, and there is no guidance.
    config.objective.drop_probability = 0.0
    config.objective.levels.mean = -0.8
    config.objective.levels.std = 1.6
    config.sampler.steps = 6
    config.sampler.match_mel = 4
    config.sampler.grid.sigma_min = 0.01
    config.sampler.grid.sigma_max = 20.0
    config.training.batch_size = 16
    config.training.total_steps = 12_000
    config.training.evaluate_every = 2000
    config.training.save_every = 1000
    if arg in ("unet", "smoke"):
        config.representation.preemphasis = 0.9
        config.objective.audio_loss = ConfigDict(
            {"weight": 0.1, "largest_ratio": 0.5, "fft_samples": (128, 256, 512, 1024)}
        )
    if arg in PRIORS:
        config.prior = ConfigDict(PRIORS[arg])
    if arg == "flow":
        config.process.name = "rectified_flow"
        config.parameterisation = "velocity"
        config.objective.weighting.name = "uniform"
        config.objective.levels = ConfigDict({"name": "logit_normal", "mean": 0.0, "std": 1.0})
        config.sampler.name = "euler"
        config.sampler.grid = ConfigDict({"name": "uniform_time", "largest_t": 1.0})
    if arg == "diffwave":
        config.network = ConfigDict(
            {
                "name": "dilated_stack",
                "residual_layers": 20,
                "residual_channels": 48,
                "dilation_cycle": 10,
                "upsample": (16, 8),
                "embedding_features": 192,
            }
        )
    if arg == "wavegrad":
        sizes = {"channels": (160, 128, 96, 64), "down_channels": (48, 64, 96), "frame_channels": 160}
        config.network = ConfigDict({"name": "wavegrad", "factors": (4, 4, 4, 2), "wave_channels": 24, **sizes})
    if arg == "smoke":
        config.network.channels = (8, 8, 8)
        config.network.blocks = (1, 1, 1)
        config.network.embedding = 16
        config.network.atoms = 32
        config.data.length_samples = 2048
        common.smoke(config)
        config.sampler.steps = 2
    return config
