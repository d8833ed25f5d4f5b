"""Install audiodiff: raw-waveform audio diffusion in JAX/Flax, with its spectral twins."""

import pathlib

from setuptools import find_packages, setup

# Upper bounds stand where a library's next minor version is known to move its interface.
# constraints.txt pins the exact set that the suite was last green on.
CORE = [
    "jax>=0.10,<0.13",
    "flax>=0.12,<0.13",
    "optax>=0.2.8,<0.3",
    "orbax-checkpoint>=0.12,<0.13",
    "grain>=0.2.18,<0.3",
    "numpy>=2",
    "scipy>=1.14",
    "soundfile>=0.13",
    "soxr>=1.0",
    "ml-collections>=1.1",
    "absl-py>=2",
    "tensorboardX>=2.6",
    "matplotlib>=3.9",
]
# The suite's own tools and the independent implementations that it holds ours against.
# torch is pinned: on a machine without a GPU other spellings pull gigabytes of CUDA packages.
ORACLE = ["librosa>=0.11,<0.12", "torch==2.13.0", "torchmetrics>=1.9", "auraloss>=0.4"]
# Perceptual figures. pesq is built from source and needs a C compiler; without [lattice] ViSQOL's speech mode silently
# maps to another scale.
METRICS = ["pystoi>=0.4.1", "pesq>=0.0.4", "visqol-python[lattice]>=3.8"]
DEV = [
    "pytest>=9",
    "pytest-timeout>=2.4",
    "pytest-xdist>=3.6",
    "hypothesis>=6.100",
    "ruff>=0.15",
    "mypy>=2",
    "tensorboard>=2.20",
]

setup(
    name="audiodiff",
    version="0.1.0",
    description="Raw-waveform audio diffusion in JAX/Flax, measured honestly",
    long_description=pathlib.Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["audiodiff", "audiodiff.*"]),
    package_data={"audiodiff": ["py.typed"]},
    install_requires=CORE,
    extras_require={
        "oracle": ORACLE,
        "metrics": METRICS,
        "dev": DEV + ORACLE + METRICS,
        "wandb": ["wandb>=0.19"],
        "cuda": ["jax[cuda13]>=0.10,<0.13"],
    },
)
