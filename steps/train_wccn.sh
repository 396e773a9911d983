#!/usr/bin/env bash
# Estimate within-class covariance normalisation on augmented crops, without labels.
# Usage: steps/train_wccn.sh [options] CROPS_DIR WCCN_DIR      (--help lists the options)
#  e.g.: steps/train_wccn.sh exp/dino_mini/seed0/crops_train_ssl exp/dino_mini/seed0/wccn
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino train-wccn "$@"
