"""The launch files call the training script with flags that it knows, and pass on what they are given."""

from __future__ import annotations

import os
import pathlib
import re
import shlex
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "experiments" / "launch"
NEEDED = {"tpu_pod.sh": {"TPU": "slice", "ZONE": "zone", "WORKDIR": "/shared/a run"}}
KNOWN = set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', (ROOT / "experiments" / "train.py").read_text())) | {"config"}


@pytest.fixture
def launched(tmp_path):
    """Run a launch file with programs that print their arguments in the place of the real ones."""
    for name in ("python", "srun", "gcloud"):
        fake = tmp_path / name
        fake.write_text(f'#!/bin/sh\nprintf "%s\\n" {name} "$@"\n')
        fake.chmod(0o755)

    def run(name, *arguments, **environment):
        variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **NEEDED.get(name, {}), **environment}
        done = subprocess.run([LAUNCH / name, *arguments], env=variables, capture_output=True, text=True, check=True)
        words = done.stdout.splitlines()
        if words[0] == "gcloud":
            words = shlex.split(words[-1].removeprefix("--command="))
        return words[words.index("experiments/train.py") + 1 :]

    return run


@pytest.mark.parametrize("name", sorted(path.name for path in LAUNCH.glob("*.sh")))
def test_flags_are_known_overridable_and_passed_on(launched, name):
    words = launched(name, "--config.seed=1", "--config.data.root=/a b", CONFIG="configs/demo.py")
    flags = [re.match(r"--(\w+)", word)[1] for word in words]
    assert set(flags) <= KNOWN
    assert words[-2:] == ["--config.seed=1", "--config.data.root=/a b"]
    assert "--config=configs/demo.py" in words
    assert any(word.startswith("--workdir=") for word in words)
    config = next(word for word in launched(name) if word.startswith("--config=")).removeprefix("--config=")
    assert (ROOT / config.partition(":")[0]).is_file()


@pytest.mark.parametrize("name", ["slurm.sh", "tpu_pod.sh"])
def test_several_hosts_find_each_other(launched, name):
    assert "--coordinator=auto" in launched(name)


def test_a_pod_without_a_shared_folder_is_refused():
    environment = {"PATH": os.environ["PATH"], "TPU": "slice", "ZONE": "zone"}
    done = subprocess.run([LAUNCH / "tpu_pod.sh"], env=environment, capture_output=True, text=True)
    assert done.returncode and "name a folder that all hosts share" in done.stderr
