#!/usr/bin/env bash
# Fine-tune a model for a task, fold by fold, and classify the test part of each: a classifier and its results.
# Usage: steps/finetune.sh --mode MODE --config YAML [--config YAML] [options] TASK_DIR MODEL_DIR DATA... OUT_DIR
#  e.g.: steps/finetune.sh --mode affine-then-all --config conf/tune-affine.yaml --config conf/tune-all.yaml --nj 2 \
#          data/tasks/emotion exp/dino/seed0/teacher data/emodb exp/dino/seed0/transfer/emotion/affine-then-all
# steps/finetune.sh --help lists the options.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino finetune "$@"
