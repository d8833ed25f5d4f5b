"""Write a listening test as one HTML page, and beside it the plan that says what its stimuli are.

    python experiments/listen.py --kind=mushra --systems=ours=runs/a/samples,theirs=runs/b/samples \\
        --reference=data/real --out=runs/listen/page.html --trials=20

Give listeners the page and keep the plan (page.plan.json): it is the key. docs/listening.md tells how to go about it;
experiments/listening_results.py analyses the files that listeners send back.
"""

import pathlib

import command
from absl import flags

KIND = flags.DEFINE_string("kind", None, "mos, ab, abx or mushra.", required=True)
SYSTEMS = flags.DEFINE_string("systems", None, "Folders of clips by system, as ours=DIR,theirs=DIR.", required=True)
REFERENCE = flags.DEFINE_string("reference", None, "Folder of real clips: mushra needs it, mos rates it unnamed.")
OUT = flags.DEFINE_string("out", None, "Page to write, ending in .html.", required=True)
TRIALS = flags.DEFINE_integer("trials", 20, "How many questions each listener answers.")
SEED = flags.DEFINE_integer("seed", 0, "Seed of the clips drawn and of the ids of their stimuli.")
LEVEL = flags.DEFINE_float("level_lkfs", -26.0, "Loudness of all stimuli, lowered where one would clip.")
ANCHORS = flags.DEFINE_list("anchors_hz", ["3500", "7000"], "Cut-offs of the anchors of mushra.")
TITLE = flags.DEFINE_string("title", "A listening test", "Title that listeners see.")
NOTICE = flags.DEFINE_string("notice", "", "Text before the start, such as who asks and whom to ask.")


def folders(text: str) -> dict[str, pathlib.Path]:
    """Read ``ours=FOLDER,theirs=FOLDER``."""
    found: dict[str, pathlib.Path] = {}
    for name, _, folder in (part.partition("=") for part in text.split(",") if part.strip()):
        if not folder.strip() or name.strip() in found:
            raise ValueError(
                f"--systems has {name.strip()!r} without a folder, or twice: write it as ours=DIR,theirs=DIR"
            )
        found[name.strip()] = pathlib.Path(folder.strip())
    return found


def cutoffs(texts: list[str]) -> tuple[int, ...]:
    """Read 3500,7000."""
    for text in texts:
        if not text.strip().isdecimal():
            raise ValueError(f"--anchors_hz has {text!r}, not a whole number of Hz: write it as 3500,7000")
    return tuple(int(text) for text in texts)


def main() -> None:
    """Write page and plan."""
    from audiodiff.build.listening import Settings, write_test

    settings = Settings(
        kind=KIND.value,
        systems=folders(SYSTEMS.value),
        reference=pathlib.Path(REFERENCE.value) if REFERENCE.value else None,
        trials=TRIALS.value,
        seed=SEED.value,
        level_lkfs=LEVEL.value,
        anchors_hz=cutoffs(ANCHORS.value),
        title=TITLE.value,
        notice=NOTICE.value,
    )
    path, plan = write_test(pathlib.Path(OUT.value), settings)
    print(f"page: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    print(f"plan: {plan}, the key, which listeners must not see")


if __name__ == "__main__":
    command.run(main)
