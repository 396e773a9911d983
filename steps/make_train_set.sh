#!/usr/bin/env bash
# Make a pre-training directory: utterances that are long enough, silence marked, labels hidden. Where the sources have audio, wav.scp
# and segments go along.
# Usage: steps/make_train_set.sh [options] DATA... TRAIN_DIR
#  e.g.: steps/make_train_set.sh --min-duration 2 data/train data/train_ssl
# Begin configuration.
min_duration=2       # seconds left after silence is removed
keep_silence=false   # learn from the pauses too
name=                # name of the training set in results; default: the folder's name
# End configuration.
set -Eeuo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
. parse_options.sh

if (($# < 2)); then
  echo "$0: expected DATA... TRAIN_DIR, got $# arguments; see $0 --help" >&2
  exit 1
fi
sources=("${@:1:$#-1}") target=${!#}
mark=$target/.done
from=(--version 2 --set "min_duration=$min_duration" --set "keep_silence=$keep_silence" --set "name=$name")
for source in "${sources[@]}"; do
  for file in feats.scp utt2num_frames wav.scp segments conf/fbank.yaml conf/mfcc.yaml; do
    if [ -f "$source/$file" ]; then from+=(--text "$source/$file"); fi
  done
  for file in vad.scp conf/vad.yaml; do
    if [ "$keep_silence" = false ] && [ -f "$source/$file" ]; then from+=(--text "$source/$file"); fi
  done
  for before in "$source/.done.features" "$source/.done.vad"; do
    if [ -f "$before" ]; then from+=(--after "$before"); fi
  done
done
if pydino mark check "$mark" "${from[@]}"; then
  echo "$0: $target is up to date" >&2
  exit 0
fi
pydino make-train-set --min-duration "$min_duration" --keep-silence "$keep_silence" --name "$name" "${sources[@]}" "$target"
pydino mark write "$mark" "${from[@]}" --output "$target/feats.scp" --output "$target/utt2spk" --output "$target/utt2hash"
echo "$0: succeeded creating $target: $(wc -l <"$target/feats.scp") utterances, $(wc -l <"$target/dropped.txt") dropped" >&2
