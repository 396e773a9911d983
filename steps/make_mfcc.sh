#!/usr/bin/env bash
# Compute mel-frequency cepstral coefficients and, in the same pass, the frame log-energies that compute_vad.sh reads.
# Usage: steps/make_mfcc.sh [options] DATA [LOG [ARK_DIR]]      (--help lists the options)
#  e.g.: steps/make_mfcc.sh --nj 4 data/train exp/make_mfcc/train feats/train
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino make-mfcc "$@"
