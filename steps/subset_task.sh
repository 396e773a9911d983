#!/usr/bin/env bash
# Make a task folder of a share of the labels to train and to choose by; the test parts stay whole.
# Usage: steps/subset_task.sh [options] TASK_DIR NEW_TASK_DIR      (--help lists the options)
#  e.g.: steps/subset_task.sh --share 0.1 data/tasks/emotion exp/studies/labels/tasks/emotion_0.1
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino subset-task "$@"
