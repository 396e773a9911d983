#!/usr/bin/env bash
# Check a data directory; exit status 1 and every error named if something is wrong.
# Usage: utils/validate_data_dir.sh [--no-feats] [--no-text] [--no-wav] [--no-spk-sort] [--non-print] [--deep] DATA
#  e.g.: utils/validate_data_dir.sh --no-text --no-feats data/train
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh" || exit 1
exec pydino validate-data-dir "$@"
