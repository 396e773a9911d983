#!/usr/bin/env bash
# Cluster the embeddings of a training set: pseudo-labels, found without labels.
# Usage: steps/cluster.sh [options] XVECTOR_DIR... CLUSTER_DIR      (--help lists the options)
#  e.g.: steps/cluster.sh --crops exp/dino_mini/seed0/crops_train_ssl exp/dino_mini/seed0/xvectors_train exp/dino_mini/seed0/clusters
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino cluster "$@"
