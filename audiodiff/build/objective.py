"""Build objectives: what a config and the facts of its data make of what is minimised, for every task."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from audiodiff import dsp
from audiodiff.build.choices import ConfigError, Table, call, choose, construct
from audiodiff.build.joint import TASK as JOINT
from audiodiff.build.joint import make_joint_objective
from audiodiff.build.latent import make_own_network
from audiodiff.build.model import Facts, check_label_conditions, make_features, make_judge, make_model
from audiodiff.build.network import make_classifier
from audiodiff.objectives.reconstruction import ReconstructionObjective
from audiodiff.objectives.verification import EMBEDDING, Loss, SpeakerObjective, ge2e, nt_xent, prototypical, triplet
from audiodiff.types import Objective

SPEAKER_OPTIONS = ("noise_probability", "max_shift_samples")
AUTOENCODER_OPTIONS = ("waveform_weight", "preemphasis", "latent_weight", "latent_noise")


def _loss(function: Callable[..., Any]) -> Callable[..., Loss]:
    """Return a builder of a loss with its options, which are leaves: other values compile nothing anew."""
    return functools.partial(jax.tree_util.Partial, function)


SPEAKER_LOSSES: Table[Loss] = {
    "ge2e": (_loss(ge2e), ("scale",)),
    "nt_xent": (_loss(nt_xent), ("temperature",)),
    "prototypical": (_loss(prototypical), ("scale",)),
    "triplet": (_loss(triplet), ("margin",)),
}
"""What a speaker encoder minimises, ``(**options) -> (embeddings, speakers, weight) -> loss``."""


def make_speaker_objective(config: Mapping[str, Any], facts: Facts) -> SpeakerObjective:
    """Build the objective of a speaker encoder's config, which has one condition, the speaker.

    Raises ConfigError as :func:`make_judge` does.
    """
    check_label_conditions(config, facts, "speaker encoder")
    if len(config["conditions"]) != 1:
        listed = ", ".join(config["conditions"]) or "none"
        raise ConfigError(f"a speaker encoder takes one condition, the speaker, and conditions has {listed}: give one")
    training = dict(config["objective"])
    loss, dim = training.pop("loss"), training.pop("dim")
    return call(
        "objective",
        SpeakerObjective,
        training,
        SPEAKER_OPTIONS,
        network=make_classifier(config["network"], ((EMBEDDING, dim),), config["dtype"]),
        features=make_features(config, facts, "speaker encoder"),
        loss=construct("speaker loss", SPEAKER_LOSSES, loss),
        condition=config["conditions"][0],
    )


def make_autoencoder_objective(config: Mapping[str, Any], facts: Facts) -> ReconstructionObjective:
    """Build the objective of an autoencoder's config, which has no conditions."""
    training = dict(config["objective"])
    stfts = tuple(dsp.StftSpec(size, size // 4) for size in training.pop("fft_samples"))
    return call(
        "objective",
        ReconstructionObjective,
        training,
        AUTOENCODER_OPTIONS,
        network=make_own_network(config, channels=facts.channels, sigma_data=facts.sigma_data),
        distance=dsp.MultiResolutionSpec(stfts, power_floor=1e-7),
    )


OBJECTIVES: dict[str, Callable[[Mapping[str, Any], Any], Objective]] = {
    "diffusion": lambda config, facts: make_model(config, facts).objective,
    "judge": make_judge,
    "speaker": make_speaker_objective,
    "autoencoder": make_autoencoder_objective,
    JOINT: make_joint_objective,
}
"""What is trained -> its objective."""


def make_objective(config: Mapping[str, Any], facts: Facts | Mapping[str, Facts]) -> Objective:
    """Build the objective of any config, from the facts of its data, or of each of several stages."""
    return choose("task", config["task"], OBJECTIVES)(config, facts)
