#!/usr/bin/env bash
# Put the embeddings of several systems side by side.
# Usage: steps/join_embeddings.sh XVECTOR_DIR XVECTOR_DIR... OUT_DIR      (--help lists the options)
#  e.g.: steps/join_embeddings.sh exp/dino_mini/seed0/xvectors_test exp/fbank-stats-cmn_mini/seed0/xvectors_test exp/dino_mini/seed0/xvectors_test+statistics
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino join-embeddings "$@"
