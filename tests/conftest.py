"""Set up what every test shares: eight virtual CPU devices, one compile cache, the data set if there is one."""

import os
import pathlib

# These must stand before the first JAX operation of the process.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
ROOT = pathlib.Path(__file__).resolve().parent.parent

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax-tests"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a room in one process: they share fixtures and compiled programs."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(item.path.parent.name))


@pytest.fixture(scope="session")
def fsdd_root() -> pathlib.Path:
    """Return the folder of the Free Spoken Digit Dataset, or skip the test in plain sight."""
    root = os.environ.get("AUDIODIFF_DATA")
    if not root or not (pathlib.Path(root) / "fsdd").is_dir():
        pytest.skip("AUDIODIFF_DATA does not name a folder that holds fsdd/")
    return pathlib.Path(root).resolve() / "fsdd"
