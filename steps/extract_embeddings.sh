#!/usr/bin/env bash
# Embed every utterance of a data directory with a model folder.
# Usage: steps/extract_embeddings.sh [options] MODEL_DIR DATA XVECTOR_DIR
#  e.g.: steps/extract_embeddings.sh --nj 4 exp/dino_mini/seed0/teacher data/test exp/dino_mini/seed0/xvectors_test
# Reads DATA/{feats.scp,vad.scp}, which must have been made with the options the model was trained with, as DATA/conf tells.
# Writes XVECTOR_DIR/{xvector.ark,xvector.scp,meta.yaml}, and dropped.txt where an utterance had no features.
# Begin configuration.
nj=4                # number of parallel jobs; the values do not depend on it
gpu=0               # GPUs; with any, each runs one job and --nj is not used
cmd=run_local.sh    # how jobs run: run_local.sh, or any wrapper with the interface of Kaldi's run.pl
keep_silence=false  # use every frame, where the pauses are the signal; vad.scp is then not read
max_drop=0          # share of utterances that may be dropped (without features); all are named
# End configuration.
set -Eeuo pipefail
echo "$0 $*" >&2
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
. parse_options.sh

die() { echo "$0: $1" >&2; exit 1; }
[ $# -eq 3 ] || die "expected MODEL_DIR DATA XVECTOR_DIR, got $# arguments; $0 --help tells more"
model=${1%/} data=${2%/} out=${3%/}
for f in "$model/config.yaml" "$model/model.safetensors" "$data/feats.scp"; do
  [ -f "$f" ] || die "no such file: $f"
done
[[ $nj =~ ^[1-9][0-9]*$ ]] || die "--nj must be a positive number, got '$nj'"
[[ $gpu =~ ^[0-9]+$ ]] || die "--gpu must be a number of GPUs, got '$gpu'"

mark=$out/.done
made_from=(--version 1 --set "keep_silence=$keep_silence" --set "max_drop=$max_drop" --config "$model/config.yaml"
  --text "$model/model.safetensors" --text "$data/feats.scp")
for f in "$data/utt2spk" "$data/vad.scp"; do
  if [ -f "$f" ] && { [ "$f" != "$data/vad.scp" ] || [ "$keep_silence" = false ]; }; then made_from+=(--text "$f"); fi
done
for before in "$data/.done.features" "$data/.done.vad"; do
  [ ! -f "$before" ] || made_from+=(--after "$before")
done
if PYDINO_MADE_FROM=$(pydino mark check --digest "$mark" "${made_from[@]}"); then
  echo "$0: $out is up to date" >&2
  exit 0
fi
export PYDINO_MADE_FROM   # after a failure, a rerun made from the same does only the jobs that are missing

mkdir -p "$out/log"
rm -f "$mark" "$out"/xvector.{ark,scp}
device=cpu gpu_option=()
if [ "$gpu" -gt 0 ]; then device=cuda nj=$gpu gpu_option=(--gpu 1); fi
utterances=$(wc -l <"$data/feats.scp")
[ "$nj" -le "$utterances" ] || nj=$((utterances > 0 ? utterances : 1))
# shellcheck disable=SC2086  # $cmd is a command with options
$cmd "${gpu_option[@]}" "JOB=1:$nj" "$out/log/extract.JOB.log" \
  pydino extract-embeddings --part "JOB/$nj" --device "$device" --keep-silence "$keep_silence" "$model" "$data" "$out"
call="steps/extract_embeddings.sh$([ "$keep_silence" = false ] || echo ' --keep-silence true') $model $data $out"
pydino gather-embeddings --jobs "$nj" --max-drop "$max_drop" --keep-silence "$keep_silence" --command "$call" "$model" "$data" "$out"
rm -f "$out"/xvector.[0-9]*   # parts of an attempt with another --nj
pydino mark write "$mark" "${made_from[@]}" --output "$out/xvector.ark" --output "$out/xvector.scp" --output "$out/meta.yaml"
echo "$0: succeeded: $(wc -l <"$out/xvector.scp") embeddings in $out/xvector.scp" >&2
