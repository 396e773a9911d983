#!/usr/bin/env bash
# Repair a data directory in place: sort, and keep the keys that every file has; old files are moved to DATA/.backup.
# Usage: utils/fix_data_dir.sh [--utt-extra-files 'F ...'] [--spk-extra-files 'F ...'] DATA
#  e.g.: utils/fix_data_dir.sh data/train
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh" || exit 1
exec pydino fix-data-dir "$@"
