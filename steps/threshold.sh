#!/usr/bin/env bash
# Set a threshold for recordings of your own, without labels, from which on two have the same speaker.
# Usage: steps/threshold.sh [options] MODEL_DIR DATA OUT_DIR      (--help lists the options)
#  e.g.: steps/threshold.sh exp/dino_mini/seed0/teacher data/train_ssl exp/dino_mini/seed0/threshold
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino threshold "$@"
