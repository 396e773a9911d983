#!/usr/bin/env bash
# Train an encoder, with the method of the configuration, as a job.
# Usage: steps/train.sh [options] DATA EXP
#  e.g.: steps/train.sh --config conf/dino-koleo.yaml --seed 0 data/train_ssl exp/dino-koleo_mini/seed0
#  e.g.: steps/train.sh --config conf/xvector.yaml --labels data/train/utt2spk data/train_ssl exp/xvector_mini/seed0
# steps/train.sh --help lists the options.
set -Eeuo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec pydino train --cmd run_local.sh "$@"
