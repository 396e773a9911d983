#!/usr/bin/env bash
# Measure the snapshots of a training run: scores without labels, one line per model, and whether the run is healthy; with trials also
# equal error rate and nearest neighbours.
# Usage: steps/monitor.sh [options] EXP DATA [TRIALS]
#  e.g.: steps/monitor.sh exp/dino-koleo_mini/seed0 data/train_ssl
#  e.g.: steps/monitor.sh --watch true exp/dino-koleo_mini/seed0 data/test data/test/trials
# DATA is the directory that the run was trained on or, with TRIALS, theirs. Training never reads the output: EXP/monitor.jsonl,
# EXP/monitor and EXP/tensorboard/monitor. It can be killed and restarted at any time: nothing is measured twice. Snapshots are saved if
# the configuration has snapshot_epochs; the final models are always measured.
# Begin configuration.
watch=false         # wait for more snapshots until the run is finished
may_fail=false      # true: warn instead of failing (run.sh: the training that is measured is whole)
labels=             # with TRIALS, labels for the ten nearest neighbours; default: DATA/utt2spk
allow_pipes=false   # run the commands in wav.scp, for a run on recordings
gpu=0               # 1 or more: embed on a GPU
cmd=run_local.sh    # how jobs run: run_local.sh, or any wrapper with the interface of Kaldi's run.pl
# End configuration.
set -Eeuo pipefail
echo "$0 $*" >&2
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
. parse_options.sh

die() { echo "$0: $1" >&2; exit 1; }
[ $# -eq 2 ] || [ $# -eq 3 ] || die "expected EXP DATA [TRIALS], got $# arguments; see $0 --help"
exp=${1%/} data=${2%/} trials=${3:-}
[ -d "$exp" ] || die "no such folder: $exp"
[ -d "$data" ] || die "no such folder: $data"
for f in ${trials:+"$data/feats.scp" "$trials"} ${labels:+"$labels"}; do
  [ -f "$f" ] || die "no such file: $f"
done
[[ $gpu =~ ^[0-9]+$ ]] || die "--gpu must be a number, got '$gpu'"
if [ "$gpu" -eq 0 ]; then device=cpu gpu_option=(); else device=cuda gpu_option=(--gpu 1); fi

# Show the log of the job while it runs, here or elsewhere.
log=$exp/log/monitor.log
mkdir -p "$exp/log"
tail -n 0 -F "$log" > >(grep --line-buffered -E '^[0-9: -]+pydino monitor: |^  ' >&2) 2>/dev/null &
follower=$!
trap 'sleep 0.5; kill $follower 2>/dev/null || true' EXIT

status=0
[ -n "$trials" ] || mkdir -p "$exp/monitor"   # without a verdict in it the report says "not measured"
# shellcheck disable=SC2086  # $cmd is a command with options
$cmd "${gpu_option[@]}" "$log" \
  pydino monitor --watch "$watch" --allow-pipes "$allow_pipes" ${labels:+--labels "$labels"} \
  --device "$device" --data "$data" ${trials:+--trials "$trials"} "$exp" || status=$?
if [ "$status" -ne 0 ]; then
  if [ "$may_fail" = false ] || [ "$status" -gt 128 ]; then exit "$status"; fi   # above 128: by a signal
  {
    echo "$0: warning: $exp is not measured: pydino monitor failed, see above and $log. Its models are whole."
    echo "To measure it, in $PWD:"
    echo "  $0 --gpu $gpu --allow-pipes $allow_pipes $exp $data${trials:+ $trials}"
  } >&2
  exit 0
fi
echo "$0: succeeded: $exp/monitor.jsonl" >&2
