#!/usr/bin/env bash
# Leak controls of a task: do silence, the channel, the interviewer, metadata or duration tell the label?
# Usage: steps/run_controls.sh [options] TASK_DIR DATA... OUT_DIR      (--help lists the options)
#  e.g.: steps/run_controls.sh --model exp/dino_adress/seed0/teacher --metadata utt2age --metadata utt2gender \
#          data/tasks/ad data/train data/test exp/controls_adress/ad
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino run-controls "$@"
