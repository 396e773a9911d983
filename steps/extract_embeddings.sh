#!/usr/bin/env bash
# Embed every utterance of one or several data directories with a model folder.
# Usage: steps/extract_embeddings.sh [options] MODEL_DIR DATA XVECTOR_DIR [DATA XVECTOR_DIR ...]      (--help lists the options)
#  e.g.: steps/extract_embeddings.sh --nj 4 exp/dino_mini/seed0/teacher data/test exp/dino_mini/seed0/xvectors_test
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino extract-embeddings "$@"
