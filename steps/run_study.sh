#!/usr/bin/env bash
# Run a study in the folder of its recipe: the cells of a grid, their table, and their figure.
# Usage: steps/run_study.sh [options] conf/studies/NAME.yaml      (--help lists the options)
#  e.g.: cd egs/emodb && ../../steps/run_study.sh --model MODEL_DIR conf/studies/chunks.yaml
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino run-study "$@"
