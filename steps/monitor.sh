#!/usr/bin/env bash
# Measure the snapshots of a training run: scores without labels, one line per model, and whether the run is healthy; with trials also
# equal error rate and nearest neighbours.
# Usage: steps/monitor.sh [options] EXP      (--help lists the options)
#  e.g.: steps/monitor.sh --data data/train_ssl exp/dino-koleo_mini/seed0
#  e.g.: steps/monitor.sh --watch true --data data/test --trials data/test/trials exp/dino-koleo_mini/seed0
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino monitor --cmd run_local.sh "$@"
