#!/usr/bin/env bash
# Decide by energy which frames are speech (Kaldi's compute-vad).
# Usage: steps/compute_vad.sh [options] DATA [LOG [VAD_DIR]]
#  e.g.: steps/compute_vad.sh --nj 4 data/train exp/make_vad/train feats/train
# Reads DATA/energy.scp, or the energy column of DATA/feats.scp if DATA/conf says that it has one. Writes DATA/vad.scp and
# DATA/conf/vad.yaml (every option as it was used). LOG is DATA/log and VAD_DIR is DATA/data unless given.
# Begin configuration.
nj=4                      # number of parallel jobs; the values do not depend on it
cmd=run_local.sh          # how jobs run: run_local.sh, or any wrapper with the interface of Kaldi's run.pl
vad_config=conf/vad.yaml  # options, Kaldi's under their own names with underscores
max_drop=0                # share of utterances that may be dropped (no frames); all are named
# End configuration.
set -Eeuo pipefail
echo "$0 $*" >&2
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
. parse_options.sh

if (($# < 1 || $# > 3)); then
  echo "$0: expected DATA [LOG [VAD_DIR]], got $# arguments; see $0 --help" >&2
  exit 1
fi
data=${1%/}
log=${2:-$data/log} arks=${3:-$data/data}
name=$(basename "$(cd "$data" 2>/dev/null && pwd -P || echo "$data")")
if [ ! -f "$vad_config" ]; then echo "$0: no such file $vad_config" >&2; exit 1; fi
if [[ ! $nj =~ ^[1-9][0-9]*$ ]]; then echo "$0: --nj must be a positive number, got '$nj'" >&2; exit 1; fi

mark=$data/.done.vad
from=(--version 1 --config "$vad_config" --set "max_drop=$max_drop" --set "vad_dir=$arks")
for file in "$data/energy.scp" "$data/feats.scp"; do
  if [ -f "$file" ]; then from+=(--text "$file"); fi
done
if [ -f "$data/.done.features" ]; then from+=(--after "$data/.done.features"); fi
if PYDINO_MADE_FROM=$(pydino mark check --digest "$mark" "${from[@]}"); then
  echo "$0: $data/vad.scp is up to date" >&2
  exit 0
fi
export PYDINO_MADE_FROM   # after a failure, a rerun made from the same does only the jobs that are missing

# Archives are replaced in place: until they are whole again, nothing may point into them.
rm -f "$mark" "$data/vad.scp"
mkdir -p "$log" "$arks"
# shellcheck disable=SC2086  # $cmd is a command with options
$cmd "JOB=1:$nj" "$log/vad_$name.JOB.log" \
  pydino compute-vad --config "$vad_config" --part "JOB/$nj" "$data" "$arks" "$log"
pydino gather-features --config "$vad_config" --jobs "$nj" --max-drop "$max_drop" vad "$data" "$arks" "$log"
made=()  # an archive that is later cut short or lost makes the step run again
for ((job = 1; job <= nj; job++)); do made+=(--output "$arks/vad_$name.$job.ark"); done
pydino mark write "$mark" "${from[@]}" "${made[@]}" --output "$data/vad.scp" --output "$data/conf/vad.yaml"
echo "$0: succeeded creating VAD output for $name: $(wc -l <"$data/vad.scp") utterances in $data/vad.scp" >&2
