#!/usr/bin/env bash
# Write a part of a data directory to another.
# Usage: utils/subset_data_dir.sh [--speakers|--shortest|--first|--last|--per-spk] SOURCE N DESTINATION, or --spk-list|--utt-list FILE SOURCE DESTINATION
#  e.g.: utils/subset_data_dir.sh --per-spk data/train 5 data/train_5
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh" || exit 1
exec pydino subset-data-dir "$@"
