#!/usr/bin/env bash
# Check that this machine has what a recipe needs; ends with "ready", or with the command or edit that fixes it.
# Usage: utils/check_system.sh [options] [CORPUS FOLDER]...
#  e.g.: utils/check_system.sh --disk-gb 5 librispeech /corpora/LibriSpeech
# The FOLDER of a CORPUS is set by the option --corpus CORPUS=FOLDER of run.sh.
# Begin configuration.
programs=      # system programs that are required, such as "espeak-ng sox"
disk_gb=1      # free disk space required in the current folder
ngpu=0         # GPUs required
backend=local  # where jobs run: here, or slurm
# End configuration.
set -Eeuo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
. parse_options.sh

fail() { echo "$0: $*" >&2; exit 1; }

[ -w . ] || fail "$PWD is not writable; copy the recipe folder to a writable place, or give run.sh --work-dir"
read -ra wanted <<< "$programs"
[ ${#wanted[@]} -eq 0 ] || bash "$PYDINO_ROOT/utils/install_system_packages.sh" "${wanted[@]}"
free_kb=$(df -Pk . | awk 'NR == 2 { print $4 }')
free_gb=$(awk -v free="$free_kb" 'BEGIN { printf "%.1f", free / 1048576 }')
# The output of an earlier run needs no further space.
made_kb=$(du -skc downloads data feats exp 2>/dev/null | awk 'END { print $1 + 0 }' || true)
awk -v free="$free_kb" -v made="$made_kb" -v need="$disk_gb" 'BEGIN { exit !(free + made >= need * 1048576) }' ||
  fail "$PWD has $free_gb GB free, the recipe needs $disk_gb GB; free some space, or give run.sh a --work-dir on another disk"
if [ "$backend" = slurm ]; then
  said=$(sinfo -s 2>&1) || fail "cmd.sh sends jobs to Slurm, which does not answer here: $(tail -n 1 <<< "$said"). Log in where sbatch works, or \
run them on this machine: backend=local in cmd.sh"
fi
read -r cores found < <(pydino resources cores gpus)
why=nvidia-smi
[ -z "${CUDA_VISIBLE_DEVICES+set}" ] || why="CUDA_VISIBLE_DEVICES is '$CUDA_VISIBLE_DEVICES'"
[ "$found" -ge "$ngpu" ] || [ "$backend" = slurm ] ||
  fail "--ngpu $ngpu was requested, but $found are available here ($why); run with --ngpu $found"
while (($# >= 2)); do
  [ -d "$2" ] || fail "no corpus at $(realpath -m -- "$2"); give its folder with --corpus $1=DIR (see the README of the recipe for how to get it)"
  shift 2
done
pydino versions --ngpu "$ngpu"
echo "$0: ready: $cores cores, $found GPUs, $free_gb GB free" >&2
