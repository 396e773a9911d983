#!/usr/bin/env bash
# Leak controls of a task: do silence, the channel, the interviewer, metadata or duration tell the label?
# Usage: steps/run_controls.sh [options] TASK_DIR DATA... OUT_DIR      (--help lists the options)
#  e.g.: steps/run_controls.sh --model MODEL_DIR --metadata utt2age --metadata utt2gender \
#          data/tasks/diagnosis data/adress_train data/adress_test exp/controls_adress/diagnosis
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino run-controls "$@"
