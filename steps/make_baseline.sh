#!/usr/bin/env bash
# Make an untrained model folder, a baseline for trained models.
# Usage: steps/make_baseline.sh --kind untrained|fbank-stats|fbank-stats-cmn [options] DATA MODEL_DIR      (--help lists the options)
#  e.g.: steps/make_baseline.sh --kind untrained --like conf/dino.yaml data/train exp/untrained_mini/seed0/model
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino make-baseline "$@"
