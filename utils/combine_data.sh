#!/usr/bin/env bash
# Combine data directories into one.
# Usage: utils/combine_data.sh [--skip-fix true|false] DESTINATION SOURCE ...
#  e.g.: utils/combine_data.sh data/train data/train_a data/train_b
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh" || exit 1
exec pydino combine-data "$@"
