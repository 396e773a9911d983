#!/usr/bin/env bash
# Install missing system packages (Debian, Ubuntu) if run as root; otherwise exit with the command to run.
# Usage: utils/install_system_packages.sh PROGRAM...     program names: sox espeak-ng python3-venv shellcheck slurm
set -Eeuo pipefail

missing=()
for name in "$@"; do
  case $name in
    python3-venv) python3 -Ic 'import ensurepip, venv' 2>/dev/null || missing+=("$name") ;;
    slurm) (PATH=$PATH:/usr/sbin:/sbin; command -v slurmctld slurmd sbatch munged | wc -l | grep -q 4) >/dev/null ||
      missing+=(slurmctld slurmd slurm-client munge) ;;
    *) command -v "$name" >/dev/null || missing+=("$name") ;;
  esac
done
[ ${#missing[@]} -gt 0 ] || exit 0

line="apt-get install -y --no-install-recommends ${missing[*]}"
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "$0: not installed here: ${missing[*]}. Run this, or its equivalent on your system, then start again:" >&2
  echo "  sudo $line" >&2
  case ${missing[*]} in
    python3-venv) echo "Without sudo: put a python3 that has venv first on PATH, that of a module or of conda" >&2 ;;
    *) echo "Without sudo: ask the administrator, or look for them in a module or in conda (conda install -c conda-forge ${missing[*]})" >&2 ;;
  esac
  exit 1
fi
echo "$0: installing from the system's packages: ${missing[*]}" >&2
log=$(mktemp)
if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq \
       --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "$0: '$line' failed (above); fix that and start again" >&2
  exit 1
fi
rm -f "$log"
