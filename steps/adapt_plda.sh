#!/usr/bin/env bash
# Adapt PLDA to unlabelled embeddings of another domain.
# Usage: steps/adapt_plda.sh [options] PLDA_DIR XVECTOR_DIR... OUT_DIR      (--help lists the options)
#  e.g.: steps/adapt_plda.sh exp/dino_mini/seed0/plda exp/dino_mini/seed0/xvectors_mine exp/dino_mini/seed0/plda_mine
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino adapt-plda "$@"
