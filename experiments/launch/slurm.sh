#!/usr/bin/env bash
# Train on several nodes under Slurm, one process a node with all of its GPUs. Not yet measured: no cluster was to be had.
#
#   sbatch --nodes=4 experiments/launch/slurm.sh --config.training.batch_size=1024
#
# The workdir must lie on a file system that all nodes share. Slurm sends SIGTERM before the time is up: the run saves,
# and the requeued job goes on. Overridable: CONFIG, WORKDIR, XLA_FLAGS, sbatch's options, any flag of train.py behind it.
#SBATCH --job-name=audiodiff
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/../..}"
export XLA_FLAGS="${XLA_FLAGS:---xla_gpu_enable_latency_hiding_scheduler=true}"
exec srun --kill-on-bad-exit=1 "${PYTHON:-python}" experiments/train.py --coordinator=auto \
    --config="${CONFIG:-configs/digits_wave.py:gpu}" --workdir="${WORKDIR:-runs/digits_slurm}" "$@"
