"""Train a model or a judge.

    python experiments/train.py --config=configs/digits_wave.py:cpu --workdir=runs/digits_cpu [--config.key=value ...]

The same command goes on where it stopped. On several hosts or processes give each the same command with
--coordinator=auto (Slurm, TPU pods), or with HOST:PORT of process 0, --process_index and --process_count: see
experiments/launch/. Exit codes: 0 finished, or stopped by --max_minutes; 143 and 130 after
SIGTERM and SIGINT, saved; 1 bad input, in one line.
"""

import pathlib

import command
from absl import flags

CONFIG = command.define_config()
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
MAX_MINUTES = flags.DEFINE_float("max_minutes", None, "Save and stop after so many minutes; rerun to go on.")
INIT_FROM = flags.DEFINE_string("init_from", None, "Begin a new run with the weights of the run in this folder.")
OVERFIT = flags.DEFINE_bool("overfit_batch", False, "Train on the first batch alone: its loss must fall.")
PROFILE_STEPS = flags.DEFINE_list("profile_steps", None, "Write a trace of the steps from A to B - 1, as 100,110.")
DETERMINISTIC = flags.DEFINE_bool("deterministic", False, "Ask a GPU for the same bits in every run; costs speed.")
COORDINATOR = flags.DEFINE_string("coordinator", None, "auto, or HOST:PORT of process 0, where there are several.")
PROCESS_INDEX = flags.DEFINE_integer("process_index", None, "Which process this is, from 0.")
PROCESS_COUNT = flags.DEFINE_integer("process_count", None, "How many processes there are.")
CONNECT_TIMEOUT_S = flags.DEFINE_integer("connect_timeout_s", 300, "How long processes wait for each other.")


def main() -> None:
    """Run the experiment of the config."""
    from audiodiff.store import Store

    if DETERMINISTIC.value:
        command.be_deterministic()
    if COORDINATOR.value:
        from audiodiff.training import connect

        connect(
            COORDINATOR.value,
            process_index=PROCESS_INDEX.value,
            process_count=PROCESS_COUNT.value,
            timeout_s=CONNECT_TIMEOUT_S.value,
        )
    config = command.plain(CONFIG.value)
    # What an earlier start kept is read while the rest is imported.
    store = Store(command.store_folder(), [config, OVERFIT.value, INIT_FROM.value])
    from audiodiff.build.experiment import run_experiment

    run_experiment(
        config,
        pathlib.Path(WORKDIR.value),
        overfit_batch=OVERFIT.value,
        init_from=pathlib.Path(INIT_FROM.value) if INIT_FROM.value else None,
        max_minutes=MAX_MINUTES.value,
        profile_steps=steps(PROFILE_STEPS.value),
        store=store,
    )


def steps(values: list[str] | None) -> tuple[int, int] | None:
    """Read two steps."""
    if values is None:
        return None
    if len(values) != 2 or not all(value.isdigit() for value in values):
        raise ValueError(f"--profile_steps={','.join(values)} must be two steps, as 100,110")
    return int(values[0]), int(values[1])


if __name__ == "__main__":
    command.run(main)
