#!/usr/bin/env bash
# Train and test a classifier on frozen embeddings, over the folds of a task.
# Usage: steps/train_classifier.sh [options] TASK_DIR XVECTOR_DIR... OUT_DIR      (--help lists the options)
#  e.g.: steps/train_classifier.sh --classifier svm data/tasks/emotion $dir/xvectors_emodb $dir/transfer/emotion/svm
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino train-classifier "$@"
