#!/usr/bin/env bash
# Measure the snapshots of a training run on a trial list: equal error rate and nearest neighbours, one line per model.
# Usage: steps/monitor.sh [options] EXP DATA TRIALS
#  e.g.: steps/monitor.sh --watch true exp/dino-koleo_mini/seed0 data/test data/test/trials
# Training never reads the output: EXP/monitor.jsonl and EXP/tensorboard/monitor. It can be killed and restarted at any time: nothing is
# measured twice. Snapshots are saved if the configuration has snapshot_epochs; the final models are always measured.
# Begin configuration.
watch=false         # wait for more snapshots until the run is finished
labels=             # labels for the ten nearest neighbours; default: DATA/utt2spk
gpu=0               # 1: embed on a GPU
cmd=run_local.sh    # how jobs run: run_local.sh, or any wrapper with the interface of Kaldi's run.pl
# End configuration.
set -Eeuo pipefail
echo "$0 $*" >&2
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
. parse_options.sh

die() { echo "$0: $1" >&2; exit 1; }
[ $# -eq 3 ] || die "expected EXP DATA TRIALS, got $# arguments; see $0 --help"
exp=${1%/} data=${2%/} trials=$3
[ -d "$exp" ] || die "no such folder: $exp"
for f in "$data/feats.scp" "$trials" ${labels:+"$labels"}; do
  [ -f "$f" ] || die "no such file: $f"
done
case $gpu in
  0) device=cpu gpu_option=() ;;
  1) device=cuda gpu_option=(--gpu 1) ;;
  *) die "--gpu must be 0 or 1, got '$gpu'" ;;
esac

# Show the log of the job while it runs, here or elsewhere.
log=$exp/log/monitor.log
mkdir -p "$exp/log"
tail -n 0 -F "$log" > >(grep --line-buffered -E '^[0-9: -]+pydino monitor: ' >&2) 2>/dev/null &
follower=$!
trap 'sleep 0.5; kill $follower 2>/dev/null || true' EXIT

# shellcheck disable=SC2086  # $cmd is a command with options
$cmd "${gpu_option[@]}" "$log" \
  pydino monitor --watch "$watch" ${labels:+--labels "$labels"} --device "$device" --data "$data" --trials "$trials" "$exp"
echo "$0: succeeded: $exp/monitor.jsonl" >&2
