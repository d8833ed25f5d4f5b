"""Which label does a recording carry? A judge of any labels: digits, speakers, instruments, accents.

Question: the labels of a folder with one sub-folder a class, or those named of a manifest, each with a class for what
is no such sound. The classifier of configs/judge_digits.py, at 16 kHz and on a second of each file.

    python experiments/train.py --config=configs/judge_labels.py:folder --workdir=runs/judge --config.data.root=DIR
    python experiments/train.py --config=configs/judge_labels.py:manifest:speaker,accent --workdir=runs/judge \\
                                --config.data.root=DIR/manifest.jsonl
    python experiments/judge.py --workdir=runs/judge

A tenth of the files is held out by the hash of their names. A manifest with splits of its own, as
experiments/prepare.py writes it of a published set, is read with ``--config.data.held_out_share=0
--config.data.held_out_split=test --config.data.test_split=test``. Right on known speakers is not right on others
(docs/results/judges.md): ``--config.data.leave_out=speaker=p225 --config.data.test_split=left_out`` trains without one
and examines on that one.

Cost: about that of configs/judge_digits.py, whose network and number of steps it has. Its result is not measured on any
set. ``:folder:label:smoke`` takes seconds and learns nothing.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "folder") -> ConfigDict:
    """Return the config for ``LAYOUT[:LABEL,LABEL,...[:smoke]]``; where no labels are named, of the one "label"."""
    layout, _, rest = arg.partition(":")
    labels, _, size = rest.partition(":")
    if size not in ("", "smoke"):
        raise ValueError(f"configs/judge_labels.py has no size {size!r}; choose smoke, or give none")
    if layout not in ("folder", "manifest"):
        raise ValueError(f"configs/judge_labels.py has no layout {layout!r}; choose folder or manifest")
    config = common.judge()
    config.conditions = tuple(labels.split(",")) if labels else ("label",)
    config.data.name = layout
    config.data.conditions = config.conditions
    config.data.rate_hz = 16_000
    config.data.length_samples = 16_384
    config.data.crop = "random"
    config.data.held_out_share = 0.1
    config.data.held_out_split = "validation"
    config.data.test_split = "validation"
    # Frames as long as those of the digits' judge at half the rate.
    config.mel.update({"fft_samples": 1024, "hop_samples": 256, "window_samples": 1024})
    config.objective.max_shift_samples = 1600
    config.optimiser.learning_rate = 2e-3
    config.training.batch_size = 64
    config.training.total_steps = 900
    config.training.save_every = 300
    config.training.evaluate_every = 300
    config.training.held_out_clips = 300
    if size:
        common.smoke(config)
    return config
