#!/usr/bin/env bash
# Compute features and frame log-energies of a data directory: the common part of make_fbank.sh and make_mfcc.sh.
# Usage: steps/make_features.sh --kind fbank|mfcc --config YAML [options] DATA [LOG [ARK_DIR]]
#  e.g.: steps/make_features.sh --kind fbank --config conf/fbank.yaml data/train exp/make_fbank/train feats/train
# Begin configuration.
kind=                # fbank or mfcc
config=              # options of the features
nj=4                 # number of parallel jobs
cmd=run_local.sh     # how jobs run: run_local.sh, or any wrapper with the interface of Kaldi's run.pl
compress=true        # one byte a value instead of four
max_drop=0           # share of utterances that may be dropped (unreadable, too short); all are named
allow_pipes=false    # run the commands in wav.scp; they come with the data
channel=             # which channel of recordings with many, from 0
# End configuration.
set -Eeuo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
. parse_options.sh

self=steps/make_$kind.sh
if (($# < 1 || $# > 3)); then
  echo "$self: expected DATA [LOG [ARK_DIR]], got $# arguments; see $self --help" >&2
  exit 1
fi
data=${1%/}
log=${2:-$data/log} arks=${3:-$data/data}
name=$(basename "$(cd "$data" 2>/dev/null && pwd -P || echo "$data")")
for file in "$data/wav.scp" "$config"; do
  if [ ! -f "$file" ]; then echo "$self: no such file $file" >&2; exit 1; fi
done
if [[ ! $nj =~ ^[1-9][0-9]*$ ]]; then echo "$self: --nj must be a positive number, got '$nj'" >&2; exit 1; fi

mark=$data/.done.features
from=(--version 1 --config "$config" --text "$data/wav.scp" --set "kind=$kind" --set "compress=$compress"
  --set "max_drop=$max_drop" --set "channel=$channel" --set "ark_dir=$arks")
for file in "$data/segments" "$data/utt2hash"; do
  if [ -f "$file" ]; then from+=(--text "$file"); fi
done
if PYDINO_MADE_FROM=$(pydino mark check --digest "$mark" "${from[@]}"); then
  echo "$self: $data/feats.scp is up to date" >&2
  exit 0
fi
export PYDINO_MADE_FROM   # after a failure, a rerun made from the same does only the jobs that are missing

# Archives are replaced in place: until they are whole again, nothing may point into them.
rm -f "$mark" "$data/feats.scp" "$data/energy.scp"
mkdir -p "$log" "$arks"
options=(--config "$config")
if [ -n "$channel" ]; then options+=(--channel "$channel"); fi
# shellcheck disable=SC2086  # $cmd is a command with options
$cmd "JOB=1:$nj" "$log/make_${kind}_$name.JOB.log" \
  pydino "compute-$kind" "${options[@]}" --part "JOB/$nj" --compress "$compress" --allow-pipes "$allow_pipes" \
  "$data" "$arks" "$log"
pydino gather-features "${options[@]}" --jobs "$nj" --max-drop "$max_drop" "$kind" "$data" "$arks" "$log"
made=()  # an archive that is later cut short or lost makes the step run again
for ((job = 1; job <= nj; job++)); do
  made+=(--output "$arks/raw_${kind}_$name.$job.ark" --output "$arks/energy_${kind}_$name.$job.ark")
done
pydino mark write "$mark" "${from[@]}" "${made[@]}" --output "$data/feats.scp" --output "$data/energy.scp" \
  --output "$data/utt2num_frames" --output "$data/conf/$kind.yaml"
echo "$self: succeeded creating $kind features for $name: $(wc -l <"$data/feats.scp") utterances in $data/feats.scp" >&2
