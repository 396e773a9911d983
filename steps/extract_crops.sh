#!/usr/bin/env bash
# Embed augmented crops of every utterance of a pre-training directory.
# Usage: steps/extract_crops.sh [options] MODEL_DIR DATA OUT_DIR      (--help lists the options)
#  e.g.: steps/extract_crops.sh --nj 4 exp/dino_mini/seed0/teacher data/train_ssl exp/dino_mini/seed0/crops_train_ssl
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino extract-crops "$@"
