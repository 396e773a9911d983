#!/usr/bin/env bash
# Copy a data directory, with affixes for the names of utterances and speakers if wanted.
# Usage: utils/copy_data_dir.sh [--utt-prefix|--utt-suffix|--spk-prefix|--spk-suffix TEXT] [--validate-opts 'OPTION ...'] SOURCE DESTINATION
#  e.g.: utils/copy_data_dir.sh --utt-prefix sp1- --spk-prefix sp1- data/train data/train_sp1
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh" || exit 1
exec pydino copy-data-dir "$@"
