#!/usr/bin/env bash
# Compute energy-based voice activity decisions (Kaldi's compute-vad).
# Usage: steps/compute_vad.sh [options] DATA [LOG [VAD_DIR]]      (--help lists the options)
#  e.g.: steps/compute_vad.sh --nj 4 data/train exp/make_vad/train feats/train
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino compute-vad "$@"
