#!/usr/bin/env bash
# Train on one GPU. Not yet measured: no GPU was to be had.
#
#   experiments/launch/one_gpu.sh                                   the digits
#   CONFIG=configs/stereo_44k.py WORKDIR=runs/stereo experiments/launch/one_gpu.sh --config.training.batch_size=32
#
# Rerun it to go on. Everything is overridable: CONFIG, WORKDIR, GPU, XLA_FLAGS, and any flag of train.py behind it.
set -euo pipefail
cd "$(dirname "$0")/../.."
export CUDA_VISIBLE_DEVICES="${GPU:-0}"
export XLA_FLAGS="${XLA_FLAGS:---xla_gpu_enable_latency_hiding_scheduler=true}"
exec "${PYTHON:-python}" experiments/train.py --config="${CONFIG:-configs/digits_wave.py:gpu}" \
    --workdir="${WORKDIR:-runs/digits_gpu}" "$@"
