#!/usr/bin/env bash
# Train DINO without labels: a student, and the teacher that follows it and becomes the model.
# Usage: steps/train_dino.sh [options] DATA EXP
#  e.g.: steps/train_dino.sh --config conf/dino-koleo.yaml --seed 0 data/train_ssl exp/dino-koleo_mini/seed0
# DATA is made by steps/make_train_set.sh. EXP gets teacher/ and student/ (model folders), log.jsonl, checkpoints/. An interrupted run
# goes on; a finished one is left alone; a different one in EXP is refused.
# Begin configuration.
config=conf/dino.yaml   # what defines the run
ngpu=0                  # 0: train on the CPU; 1: on a GPU
seed=0                  # of weights, order, crops and augmentation
num_threads=$(nproc)    # CPU threads
cmd=run_local.sh        # how jobs run: run_local.sh, or any wrapper with the interface of Kaldi's run.pl
force=false             # discard what is in EXP and start afresh
# End configuration.
set -Eeuo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
. parse_options.sh

if (($# != 2)); then
  echo "$0: expected DATA EXP, got $# arguments; see $0 --help" >&2
  exit 1
fi
data=$1 exp=$2
for file in "$data/feats.scp" "$data/utt2spk" "$config"; do
  if [ ! -f "$file" ]; then echo "$0: no such file $file" >&2; exit 1; fi
done
if [ "${PYDINO_FORCE:-false}" = true ]; then force=true; fi

# Show the line of each epoch while the job, wherever it runs, writes its log.
log=$exp/log/train.log
mkdir -p "$exp/log"
tail -n 0 -F "$log" > >(grep --line-buffered -E '^[0-9: -]+pydino train-dino: ' >&2) 2>/dev/null &
follower=$!
trap 'sleep 0.5; kill $follower 2>/dev/null || true' EXIT

options=()
if [ "$ngpu" -gt 0 ]; then options=(--gpu "$ngpu"); fi
# shellcheck disable=SC2086  # $cmd is a command with options
$cmd --num-threads "$num_threads" "${options[@]}" "$log" \
  pydino train-dino --config "$config" --seed "$seed" --ngpu "$ngpu" --threads "$num_threads" --force "$force" "$data" "$exp"
echo "$0: succeeded training $exp/teacher" >&2
