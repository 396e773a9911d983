#!/usr/bin/env bash
# Calibrate scores, or fuse several score files, to log-likelihood ratios, and measure them.
# Usage: steps/calibrate.sh [options] --dev-trials TRIALS --dev-scores SCORES TRIALS SCORES... OUT
#                                                                      (--help lists the options)
#  e.g.: steps/calibrate.sh --dev-trials data/dev/trials --dev-scores $dir/scores/dev.cosine.raw.txt \
#          data/test/trials $dir/scores/test.cosine.raw.txt $dir/scores/test.cosine.raw.calibrated.txt
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino calibrate "$@"
