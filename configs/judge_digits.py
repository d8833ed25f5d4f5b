"""Whose voice is it and which digit? The judge that scores generated digits.

Question: digit and speaker of a clip, each with a class for noise, silence and speech without its phase. Trained on the
official split by the same trainer; its weights' hash goes with every figure that it gives.

    python experiments/train.py --config=configs/judge_digits.py --workdir=runs/judge_digits

Cost: about 4 minutes of 2 cores. Expect at least 97 % of the 300 test clips right in both heads.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
    """Return the config; ``smoke`` takes seconds and learns nothing."""
    if arg not in ("", "smoke"):
        raise ValueError(f"configs/judge_digits.py has no size {arg!r}; choose smoke, or give none")
    config = common.judge()
    common.digits(config)
    config.optimiser.learning_rate = 2e-3
    config.training.batch_size = 64
    config.training.total_steps = 900
    config.training.save_every = 300
    config.training.evaluate_every = 300
    config.training.held_out_clips = 300
    if arg == "smoke":
        common.smoke(config)
    return config
