"""How few numbers hold a spoken digit, phases and all, and can one diffuse in them?

Question: a waveform autoencoder of a stated ratio, and a diffusion model in its latent, on the recordings of
configs/compare_digits.py: two speakers of FSDD, ten digits, 4,096 samples.

    python experiments/train.py --config=configs/autoencoder_digits.py --workdir=runs/autoencoder
    python experiments/autoencoder.py --workdir=runs/autoencoder
    python experiments/train.py --config=configs/cascade_digits.py:latent --workdir=runs/latent

``:cpu``    four minutes of one core
``:smoke``  seconds; shows that everything works together, not that it learns

Cost and result: expect 2 : 1 in numbers, an SI-SDR of 13 to 14 dB over the test
clips, and the judge of configs/compare_digits.py right of 97 % or more of them; docs/results/latent.md. A step of 16
clips in the latent takes 1.3 GFLOP, a third of which is the frozen encoder.
"""

from ml_collections import ConfigDict

from configs import common

AUTOENCODER = {
    "name": "autoencoder",
    "factors": (32, 2),
    "channels": (128, 128),
    "encoder_blocks": (0, 1),
    "decoder_blocks": (1, 2),
    "latent_channels": 32,
}


def get_config(arg: str = "cpu") -> ConfigDict:
    """Return the config of one size."""
    if arg not in ("cpu", "smoke"):
        raise ValueError(f"configs/autoencoder_digits.py has no size {arg!r}; choose cpu or smoke")
    config = common.autoencoder()
    common.two_speakers(config)
    config.network = ConfigDict(AUTOENCODER)
    config.optimiser.learning_rate = 1.5e-3
    config.data.flip_polarity = True
    config.data.max_shift_samples = 256
    config.training.update({"batch_size": 16, "total_steps": 2000, "save_every": 500, "evaluate_every": 500})
    if arg == "smoke":
        common.smoke(config)
        config.network.update({"channels": (32, 32), "encoder_blocks": (0, 0), "decoder_blocks": (0, 0)})
    return config
