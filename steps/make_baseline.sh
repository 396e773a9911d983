#!/usr/bin/env bash
# Make a model folder that has learnt nothing, to hold trained models against (pydino init-model --help says what each kind is).
# Usage: steps/make_baseline.sh --kind untrained|fbank-stats|fbank-stats-cmn [options] DATA MODEL_DIR
#  e.g.: steps/make_baseline.sh --kind untrained --like conf/dino.yaml data/train exp/untrained_mini/seed0/model
# Begin configuration.
kind=    # untrained, fbank-stats or fbank-stats-cmn
like=    # training configuration (YAML) or model folder: whose encoder, and whose normalisation
seed=0   # of the random weights
# End configuration.
set -Eeuo pipefail
echo "$0 $*" >&2
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
. parse_options.sh

die() { echo "$0: $1" >&2; exit 1; }
[ $# -eq 2 ] || die "expected DATA MODEL_DIR, got $# arguments; $0 --help tells more"
[ -n "$kind" ] || die "--kind is needed: untrained, fbank-stats or fbank-stats-cmn"
data=${1%/} model=${2%/}

mark=$model/.done
made_from=(--version 1 --set "kind=$kind" --set "seed=$seed")
if [ -d "$like" ]; then made_from+=(--config "$like/config.yaml"); elif [ -n "$like" ]; then made_from+=(--config "$like"); fi
for f in "$data"/conf/{fbank,mfcc,vad}.yaml; do
  [ ! -f "$f" ] || made_from+=(--config "$f")
done
if pydino mark check "$mark" "${made_from[@]}"; then
  echo "$0: $model is up to date" >&2
  exit 0
fi
rm -f "$mark"
pydino init-model --kind "$kind" ${like:+--like "$like"} --seed "$seed" "$data" "$model"
pydino mark write "$mark" "${made_from[@]}" --output "$model/config.yaml" --output "$model/model.safetensors"
echo "$0: succeeded: $model" >&2
