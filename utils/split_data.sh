#!/usr/bin/env bash
# Split a data directory for parallel jobs into DATA/split<N>[utt]/1 ... <N>; prints that folder.
# Usage: utils/split_data.sh [--per-utt] DATA N
#  e.g.: utils/split_data.sh --per-utt data/train 4
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh" || exit 1
exec pydino split-data "$@"
