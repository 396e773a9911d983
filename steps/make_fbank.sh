#!/usr/bin/env bash
# Compute log mel filter banks and, in the same pass, the frame log-energies that compute_vad.sh reads.
# Usage: steps/make_fbank.sh [options] DATA [LOG [ARK_DIR]]      (--help lists the options)
#  e.g.: steps/make_fbank.sh --nj 4 data/train exp/make_fbank/train feats/train
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino make-fbank "$@"
