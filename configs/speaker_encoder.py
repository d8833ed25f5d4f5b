"""Whose voice is it, by ear? An encoder whose embeddings are near for clips of one speaker and far for clips of two.

Question: how often is a pair of clips rightly told to be of one speaker or of two, at the threshold where both errors
are as frequent (equal error rate)? Asked of the official test clips, and of speakers that training never heard.

    python experiments/train.py --config=configs/speaker_encoder.py --workdir=runs/speaker_encoder

Cost: about a minute of 2 cores. Expect at most 5 % over all pairs of the 300 test clips, whose speakers are those of
training. experiments/studies/speaker_encoder.py measures it, and far more for speakers that were left out: four voices
do not teach what voices can differ in (docs/results/speaker_encoder.md).
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
    """Return the config; ``smoke`` takes seconds and learns nothing."""
    if arg not in ("", "smoke"):
        raise ValueError(f"configs/speaker_encoder.py has no size {arg!r}; choose smoke, or give none")
    config = common.judge()
    config.task = "speaker"
    config.conditions = ("speaker",)
    config.data.conditions = ("speaker",)
    config.objective = ConfigDict(
        {
            # nt_xent (temperature), ge2e (scale), prototypical (scale) or triplet (margin).
            "loss": ConfigDict({"name": "nt_xent", "temperature": 0.1}),
            "dim": 64,
            "noise_probability": 0.5,
            "max_shift_samples": 800,
        }
    )
    config.optimiser.learning_rate = 2e-3
    config.optimiser.warmup_steps = 50
    config.training.batch_size = 64
    config.training.total_steps = 300
    config.training.save_every = 300
    config.training.evaluate_every = 300
    config.training.held_out_clips = 300
    if arg == "smoke":
        common.smoke(config)
    return config
