#!/usr/bin/env bash
# Train and test a classifier on frozen embeddings, by cross-validation that keeps speakers apart.
# Usage: steps/train_classifier.sh --task NAME [options] XVECTOR_DIR LABELS OUT_DIR      (--help lists the options)
#  e.g.: steps/train_classifier.sh --task emotion --utt2spk data/emodb/utt2spk \
#          $dir/xvectors_emodb data/emodb/utt2emotion $dir/transfer/emotion
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino train-classifier "$@"
