#!/usr/bin/env bash
# Train LDA and PLDA on speakers or clusters. Skipped with a message where the labels do not allow it.
# Usage: steps/train_plda.sh [options] UTT2SPK XVECTOR_DIR... OUT_DIR      (--help lists the options)
#  e.g.: steps/train_plda.sh --lda-dim 100 data/train/utt2spk exp/dino_mini/seed0/xvectors_train exp/dino_mini/seed0/plda
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino train-plda "$@"
