"""Set up what every test shares: eight virtual CPU devices, quick compiling, its cache, the data if there are any."""

import gc
import os
import pathlib
from typing import Any

# These must stand before the first JAX operation of the process.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compile in less than half of the time what runs for a moment: that is most of the suite. A variable reaches the
# processes that tests start as well. Of the second flag an XLA passes over what it does not know. XLA_FLAGS="" tests
# programs as users compile them.
QUICK = "--xla_backend_optimization_level=0 --xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters"
if os.environ["JAX_PLATFORMS"] == "cpu":
    os.environ.setdefault("XLA_FLAGS", QUICK)
ROOT = pathlib.Path(__file__).resolve().parent.parent

import jax  # noqa: E402
import pytest  # noqa: E402

BY_FILE = ("tests", "benchmarks", "configs", "experiments", "networks", "training")
"""Rooms whose files share no fixture and are long: each is done by whichever process is free."""

# Tracing makes millions of objects that live on: looking through them for garbage as often as Python does by default
# takes a tenth of the suite's time.
gc.set_threshold(50_000, 20, 10)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax-tests"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


@pytest.hookimpl(optionalhook=True)  # there is nothing to share out without xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a room, or of a file, in one process: they share fixtures and compiled programs.

    Not by the mark xdist_group, which xdist 3.8 writes where pytest 9.2 no longer reads it.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByRoom(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = pathlib.PurePath(nodeid.partition("::")[0])
            return str(file) if file.parent.name in BY_FILE else file.parent.name

    return ByRoom(config, log) if config.getvalue("dist") == "loadscope" else None


@pytest.fixture(scope="session")
def fsdd_root() -> pathlib.Path:
    """Return the folder of the Free Spoken Digit Dataset, or skip the test in plain sight."""
    root = os.environ.get("AUDIODIFF_DATA")
    if not root or not (pathlib.Path(root) / "fsdd").is_dir():
        pytest.skip("AUDIODIFF_DATA does not name a folder that holds fsdd/")
    return pathlib.Path(root).resolve() / "fsdd"
