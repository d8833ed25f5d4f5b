"""Look again at the step that stopped a run because its loss or gradient was not finite.

    python experiments/replay.py --workdir=runs/digits_cpu

Says which examples, parameters and gradients are not finite. With --where it stops, with a traceback, at the operation
that first gives a NaN.
"""

import command
from absl import flags

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
STEP = flags.DEFINE_integer("step", None, "Which of the steps kept (default: the last).")
WHERE = flags.DEFINE_bool("where", False, "Show where the first NaN arises.")


def main() -> None:
    """Replay and print."""
    from audiodiff.build.replay import replay

    command.TRACEBACK.value = command.TRACEBACK.value or WHERE.value
    print("\n".join(replay(WORKDIR.value, step=STEP.value, where=WHERE.value)))


if __name__ == "__main__":
    command.run(main)
