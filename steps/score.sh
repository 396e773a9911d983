#!/usr/bin/env bash
# Score trials by cosine or PLDA, and measure the scores: EER, minDCF, 95 % intervals, DET curve.
# Usage: steps/score.sh [options] TRIALS ENROLL_DIR TEST_DIR SCORES      (--help lists the options)
#  e.g.: steps/score.sh --centring centred --train-dir $dir/xvectors_train --utt2spk data/test/utt2spk \
#          data/test/trials $dir/xvectors_test $dir/xvectors_test $dir/scores/test.cosine.centred.txt
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino score "$@"
