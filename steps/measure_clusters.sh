#!/usr/bin/env bash
# Measure how clusters agree with labels; a diagnostic, which nothing is chosen by.
# Usage: steps/measure_clusters.sh UTT2LABEL CLUSTER_DIR      (--help lists the options)
#  e.g.: steps/measure_clusters.sh data/train/utt2spk exp/dino_mini/seed0/clusters
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino measure-clusters "$@"
