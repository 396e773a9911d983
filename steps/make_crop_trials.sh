#!/usr/bin/env bash
# Make trials that need no label, from crops and whole utterances: to calibrate scores and set thresholds.
# Usage: steps/make_crop_trials.sh [options] CROPS_DIR XVECTOR_DIR [XVECTOR_DIR ...] OUT_DIR
#                                                                      (--help lists the options)
#  e.g.: steps/make_crop_trials.sh $dir/crops_train_ssl $dir/xvectors_train $dir/crop_trials
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino make-crop-trials "$@"
