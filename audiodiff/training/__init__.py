"""Train any Objective: optimiser, state, step, parallelism, checkpoints, writers and the loop."""

from audiodiff.training.checkpoint import CheckpointError, Checkpoints, latest_step, restore_params
from audiodiff.training.distributed import ConnectionRefused, connect, leader_first
from audiodiff.training.evaluate import evaluate_loss
from audiodiff.training.export import export_weights
from audiodiff.training.interruption import Interrupted
from audiodiff.training.loop import Batches, Result, train
from audiodiff.training.optimisers import (
    OPTIMISERS,
    SCHEDULES,
    WITH_AN_END,
    Optimiser,
    make_optimiser,
    rest_without_gradient,
)
from audiodiff.training.parallel import STRATEGIES, initialise, make_strategy, whole
from audiodiff.training.posthoc import reconstruct
from audiodiff.training.report import NonFiniteError
from audiodiff.training.state import PowerDecay, TrainState, constant_decay
from audiodiff.training.workdir import MAY_CHANGE, MAY_CHANGE_WITHOUT_AN_END, WorkdirError, prepare_workdir, read_config
from audiodiff.training.writers import Writer, read_metrics

__all__ = [
    "MAY_CHANGE",
    "MAY_CHANGE_WITHOUT_AN_END",
    "OPTIMISERS",
    "SCHEDULES",
    "STRATEGIES",
    "WITH_AN_END",
    "Batches",
    "CheckpointError",
    "Checkpoints",
    "ConnectionRefused",
    "Interrupted",
    "NonFiniteError",
    "Optimiser",
    "PowerDecay",
    "Result",
    "TrainState",
    "WorkdirError",
    "Writer",
    "connect",
    "constant_decay",
    "evaluate_loss",
    "export_weights",
    "latest_step",
    "leader_first",
    "make_optimiser",
    "initialise",
    "make_strategy",
    "prepare_workdir",
    "read_config",
    "read_metrics",
    "reconstruct",
    "rest_without_gradient",
    "restore_params",
    "train",
    "whole",
]
