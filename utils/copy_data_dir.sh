#!/usr/bin/env bash
# Copy a data directory, with optional affixes for utterance and speaker names; then validate the copy.
# Recordings keep their names where there are segments; utt2uniq maps renamed utterances to their original names.
# Usage: utils/copy_data_dir.sh [options] SOURCE DESTINATION
#  e.g.: utils/copy_data_dir.sh --utt-prefix sp1- --spk-prefix sp1- data/train data/train_sp1
# Begin configuration.
utt_prefix=    # prefix of the new utterance-ids
utt_suffix=    # suffix of the new utterance-ids, such as -noise
spk_prefix=    # prefix of the new speaker-ids
spk_suffix=    # suffix of the new speaker-ids
validate_opts= # options of validate_data_dir.sh for the copy
# End configuration.
set -Eeuo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
. parse_options.sh
# With = a value may start with a dash.
exec pydino copy-data-dir --utt-prefix="$utt_prefix" --utt-suffix="$utt_suffix" \
  --spk-prefix="$spk_prefix" --spk-suffix="$spk_suffix" --validate-opts="$validate_opts" -- "$@"
