"""Bring a trained autoencoder to the model that diffuses in its latent, and see that it is the one that is meant."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from audiodiff.build.choices import ConfigError
from audiodiff.build.network import make_autoencoder
from audiodiff.networks.autoencoder import Autoencode
from audiodiff.representations import Latent
from audiodiff.training import restore_params
from audiodiff.types import PyTree


def hash_weights(params: PyTree) -> str:
    """Return the first 16 hex digits of the SHA-256 of all arrays with their paths."""
    digest = hashlib.sha256()
    leaves = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    for path in sorted(leaves):
        digest.update(path.encode())
        digest.update(np.ascontiguousarray(leaves[path]).tobytes())
    return digest.hexdigest()[:16]


def make_own_network(config: Mapping[str, Any], *, channels: int, sigma_data: float) -> Autoencode:
    """Build the network of an autoencoder's config, for audio of that many channels and standard deviation."""
    scale = float(np.float32(sigma_data))
    return make_autoencoder(config["network"], audio_channels=channels, scale=scale, dtype=config["dtype"])


def make_latent(config: Mapping[str, Any], params: PyTree, *, channels: int, sigma_data: float) -> Latent:
    """Build the latent of an autoencoder's config and weights; ``sigma_data`` is that of its audio."""
    return Latent(make_own_network(config, channels=channels, sigma_data=sigma_data), params)


def load_latent(
    folder: pathlib.Path,
    config: Mapping[str, Any],
    trained_on: Mapping[str, int],
    data: Mapping[str, int],
    *,
    sigma_data: float,
    wanted: str = "",
) -> Latent:
    """Load the latent of the run in ``folder``, whose weights must have the hash ``wanted`` if one is given.

    ``trained_on`` and ``data`` are rate_hz and channels of the autoencoder's data and of the model's. Raises
    ConfigError where they differ, where the run is of something else or its weights are others, naming both values.
    """
    if config["task"] != "autoencoder":
        raise ConfigError(
            f"{folder} holds a run of the task {config['task']!r} and no autoencoder: "
            "train one with configs/autoencoder_digits.py"
        )
    for name, own in trained_on.items():
        if own != data[name]:
            raise ConfigError(
                f"the autoencoder in {folder} has {name} {own} and the data have {data[name]}: train one on such data, "
                f"or set data.{name}={own}"
            )
    params = restore_params(folder, ema=config["training"]["ema_choice"] or None)
    latent = make_latent(config, params, channels=trained_on["channels"], sigma_data=sigma_data)
    check_latent(latent, wanted, folder, "representation.hash is")
    return latent


def check_latent(latent: Latent, wanted: str, folder: str | pathlib.Path, who: str) -> None:
    """Raise ConfigError where an autoencoder's weights have another hash than one that is wanted, naming both."""
    if wanted and (found := hash_weights(latent.params)) != wanted:
        raise ConfigError(
            f"{who} {wanted} and the autoencoder in {folder} has the weights {found}: bring back the one that is "
            "meant, or train the model anew in this one's latent"
        )
