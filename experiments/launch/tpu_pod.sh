#!/usr/bin/env bash
# Train on a TPU pod slice, the same command on every host. Not yet measured: no TPU was to be had.
#
#   TPU=my-slice ZONE=us-central2-b WORKDIR=/mnt/shared/runs/digits experiments/launch/tpu_pod.sh
#
# The project and its environment must be installed in ~/audiodiff on every host, and the workdir must lie on a file
# system that they share. Overridable: CONFIG, FOLDER, and any flag of train.py behind it.
set -euo pipefail
: "${TPU:?name the slice, as TPU=my-slice}" "${ZONE:?name its zone, as ZONE=us-central2-b}"
: "${WORKDIR:?name a folder that all hosts share, as WORKDIR=/mnt/shared/runs/digits}"
flags=$(printf ' %q' --coordinator=auto --config="${CONFIG:-configs/digits_wave.py:gpu}" --workdir="$WORKDIR" "$@")
exec gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all \
    --command="cd ${FOLDER:-audiodiff} && exec .venv/bin/python experiments/train.py$flags"
