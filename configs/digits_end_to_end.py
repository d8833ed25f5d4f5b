"""Does a generator of log-mels make better sound when it hears itself through its vocoder?

Question: the log-mel model of configs/digits_spectral.py, trained on with a loss of the audio that a frozen vocoder
makes of its estimate; gradients pass through every step of the vocoder to the mel.

    python experiments/train.py --config=configs/digits_end_to_end.py --workdir=runs/digits_end_to_end \\
        --init_from=runs/digits_log_mel --config.representation.inverter.workdir=runs/vocoder_unet

``:vocoder``  as above; the vocoder's weights are constants of the step, and stay as they are
``:smoke``    seconds, through Griffin-Lim; shows that everything runs, not that it learns

Cost and result: not yet measured. A step costs a generator's step and twice the vocoder's steps of evaluations.
"""

from ml_collections import ConfigDict

from configs import common, digits_spectral


def get_config(arg: str = "vocoder") -> ConfigDict:
    """Return the config of fine-tuning through an inverter."""
    if arg not in ("vocoder", "smoke"):
        raise ValueError(f"configs/digits_end_to_end.py has no size {arg!r}; choose vocoder or smoke")
    config = digits_spectral.get_config("log_mel")
    config.representation.inverter = ConfigDict({"name": "vocoder", "workdir": "runs/vocoder_unet", "steps": 2})
    # Only where the estimate is one clip and no mean of many: its sound would be none.
    config.objective.audio_loss = ConfigDict(
        {"weight": 0.1, "largest_ratio": 0.3, "fft_samples": (128, 256, 512, 1024)}
    )
    config.optimiser.learning_rate = 2e-4
    config.training.total_steps = 1000
    config.training.evaluate_every = 250
    if arg == "smoke":
        config = digits_spectral.get_config("smoke")
        config.representation.inverter = ConfigDict({"name": "griffin_lim", "iterations": 2})
        config.objective.audio_loss = ConfigDict({"weight": 0.1, "largest_ratio": 0.3, "fft_samples": (128, 256)})
        common.smoke(config)
    return config
