#!/usr/bin/env bash
# Train on the eight GPUs of one host, in one process. Not yet measured: no GPU was to be had.
#
#   experiments/launch/eight_gpus.sh                    parameters whole on every GPU
#   STRATEGY=fsdp experiments/launch/eight_gpus.sh      parameters, averages and optimiser in eight parts
#
# Rerun it to go on. Overridable: CONFIG, WORKDIR, STRATEGY, GPUS, XLA_FLAGS, and any flag of train.py behind it.
# The batch of the config is the global one: it must be a multiple of the number of GPUs.
set -euo pipefail
cd "$(dirname "$0")/../.."
export CUDA_VISIBLE_DEVICES="${GPUS:-0,1,2,3,4,5,6,7}"
export XLA_FLAGS="${XLA_FLAGS:---xla_gpu_enable_latency_hiding_scheduler=true}"
exec "${PYTHON:-python}" experiments/train.py --config="${CONFIG:-configs/digits_wave.py:gpu}" \
    --workdir="${WORKDIR:-runs/digits_8gpu}" --config.training.strategy="${STRATEGY:-jit}" "$@"
