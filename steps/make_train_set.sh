#!/usr/bin/env bash
# Make a pre-training directory: utterances that are long enough, silence marked, labels hidden.
# Usage: steps/make_train_set.sh [options] DATA... TRAIN_DIR      (--help lists the options)
#  e.g.: steps/make_train_set.sh --min-duration 2 data/train data/train_ssl
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino make-train-set "$@"
