#!/usr/bin/env bash
# Run a small job on the cluster, one without a GPU and, with --ngpu, one with a GPU. They show whether conf/slurm.conf names a partition
# and an account that take jobs, whether nodes see this folder, and whether Python and PyTorch start there and find the GPU.
# Ends with "ready", or with the reason and what to edit. A job that has not ended in time is cancelled, and the check goes on with the
# reason that Slurm gave: a full cluster is no mistake. A job that has succeeded is not repeated until the commands, slurm.conf or .venv
# change.
# Usage: utils/check_slurm.sh [options]
#  e.g.: utils/check_slurm.sh --ngpu 1 --cuda-cmd "run_slurm.sh --mem 8G --time 2-0"
# Begin configuration.
train_cmd=run_slurm.sh   # how jobs without a GPU run (cmd.sh)
cuda_cmd=run_slurm.sh    # how jobs with a GPU run (cmd.sh)
ngpu=0                   # GPUs of a training; a job with one is run if there are any
seconds=120              # how long each job may wait in the queue and run
# End configuration.
set -Eeuo pipefail

if [ "${1:-}" = --on-node ]; then   # TOKEN PYTHON GPUS: what the job runs, in the folder from which it was submitted
  [ "$(cat exp/check_slurm/token)" = "$2" ] || { echo "this node sees another $PWD than the machine that submitted the job: it has to" \
    "be on a disk that all nodes share; clone there, or give run.sh a --work-dir there"; exit 1; }
  "$3" -c "" || { echo "this node cannot start $3 ($(readlink -f "$3")): make .venv anew (rm -r .venv) with a Python that nodes have at" \
    "the same path: docs/slurm.md"; exit 1; }
  exec "$3" -P -c '
import os, sys, torch
version, given = torch.__version__, os.environ.get("CUDA_VISIBLE_DEVICES")
if sys.argv[1] != "0" and not torch.cuda.is_available():
    why = f"Slurm gave it {given}, for which the driver or a PyTorch with CUDA is missing: compare nvidia-smi with torch.version.cuda"
    sys.exit(f"PyTorch {version} finds no GPU in a job with --gpu 1: " + (why if given else "see the lines of gpu in slurm.conf (--gres)"))
gpu = torch.cuda.get_device_name(0) if torch.ones(1, device="cuda" if sys.argv[1] != "0" else "cpu").is_cuda else "no GPU"
print(f"ready: PyTorch {version}, {gpu}")' "$4"
fi

. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
. parse_options.sh
fail() { echo "$0: $*" >&2; exit 1; }

# try NAME GPUS CMD: run the job, unless it has run with the same commands and configuration.
try() {
  local log=exp/check_slurm/$1.log what="a job without a GPU" status=0 seen configurations words token=$$-$RANDOM said=
  read -ra words <<< "$3"
  if [ "$2" != 0 ]; then what="a job with --gpu $2" words+=(--gpu "$2"); fi
  configurations=("${PYDINO_SLURM_CONF:-}" "${PYDINO_RECIPE_SLURM_CONF:-}" conf/slurm.conf "$PYDINO_ROOT"/{conf/slurm.conf,.venv/.ready})
  [[ ! $3 =~ \ --config[=\ ]([^ ]+) ]] || configurations+=("${BASH_REMATCH[1]}")
  seen=$({ echo "$3" "$(command -v python3)"; env | grep ^SBATCH_ || true; cat "${configurations[@]}" 2>/dev/null || true; } | cksum)
  if [ -z "${PYDINO_FORCE:-}" ] && [ "$seen" = "$(cat "exp/check_slurm/$1.seen" 2>/dev/null)" ]; then
    echo "$0: $what has run before ($log)" >&2
    return
  fi
  mkdir -p exp/check_slurm
  echo "$token" > exp/check_slurm/token
  # Without the variable, TERM cancels the job in a controller, too.
  env -u PYDINO_DETACHED timeout --foreground "$seconds" "${words[@]}" "$log" \
    bash "$PYDINO_ROOT/utils/check_slurm.sh" --on-node "$token" "$(command -v python3)" "$2" || status=$?
  if [ "$status" = 124 ]; then
    echo "$0: $what has not run within $seconds s: not seen to work yet, going on (docs/slurm.md explains Slurm's reasons)" >&2
    return
  fi
  ! grep -qs "check_slurm.sh: No such file" "$log" || fail "nodes do not see $PYDINO_ROOT: clone to a disk that all nodes share"
  [ "$status" = 0 ] || fail "$what does not run: see above for the reason. It was submitted with '$3' of cmd.sh"
  for _ in {1..20}; do   # a network disk may show it late
    if said=$(grep -m 1 "^ready: " "$log" 2>/dev/null); then break; fi
    sleep 1
  done
  [ -n "$said" ] || fail "$what has written $log, which is not here: the folder has to be on a disk that all nodes share"
  echo "$seen" > "exp/check_slurm/$1.seen"
  echo "$0: $said: $what ($(sed -n 's/^# Running on //p' "$log"))" >&2
}

try cpu 0 "$train_cmd"
[ "$ngpu" = 0 ] || try gpu 1 "$cuda_cmd"
