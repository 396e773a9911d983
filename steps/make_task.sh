#!/usr/bin/env bash
# Make a task folder: labels, subjects, units and folds, fixed before any model sees the task.
# Usage: steps/make_task.sh --name NAME --labels TABLE [options] DATA... TASK_DIR      (--help lists the options)
#  e.g.: steps/make_task.sh --name emotion --labels utt2emotion data/emodb data/tasks/emotion
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino make-task "$@"
