# Run a command that trains as a job, and show its lines while the job, wherever it runs, writes its log. To be sourced by a step.
# Usage: training_job VERB EXP [arguments of the verb]
# Reads from the step: seed, force, cmd, ngpu and num_processes (several: one process a GPU, started by torchrun), num_nodes, max_restarts, num_threads,
# data_workers, config, data.
# shellcheck shell=bash disable=SC2154   # the step's options

training_job() {
  local name
  for name in ngpu num_nodes num_processes max_restarts seed num_threads data_workers; do check_count "$name" "${!name}"; done
  local verb=$1 log=$2/log/train.log follower job ended='' options=() in_job=() scheduler=auto processes=$((ngpu > 0 ? ngpu : num_processes)) status=0
  local wrapper=${cmd%% *}
  case ${wrapper##*/} in run_local.sh | run.pl)
    scheduler=none
    if [ "$num_nodes" -gt 1 ]; then
      echo "$0: --num-nodes $num_nodes is for a scheduler that has several machines, and '$cmd' runs jobs on this one;" \
        "choose the back-end slurm in cmd.sh, or leave --num-nodes away" >&2
      return 1
    fi ;;
  esac
  if [ -z "$num_threads" ]; then num_threads=$(threads_for "$processes"); fi
  if [ "$ngpu" -gt 0 ]; then options=(--gpu "$ngpu"); fi
  if [ "$num_nodes" -gt 1 ]; then options+=(--num-nodes "$num_nodes"); fi
  if [ -z "$data_workers" ]; then   # a CPU that trains has no core to spare; a GPU wants up to eight that read for it
    data_workers=0
    if [ "$ngpu" -gt 0 ]; then data_workers=$(((num_threads - 1) / ngpu < 8 ? (num_threads - 1) / ngpu : 8)); fi
  fi
  # What sbatch is to know of a job that saves itself, through whatever wrapper calls it (a site's own options come later and win): two
  # minutes before the time limit its steps hear SIGUSR1; Slurm may queue it again; its log then goes on.
  local -x SBATCH_SIGNAL=${SBATCH_SIGNAL:-USR1@120} SBATCH_REQUEUE=1 SBATCH_OPEN_MODE=append
  # A token of this call, so that what it discards is not discarded once more when a scheduler starts its job again.
  if [ "$force" = true ]; then export PYDINO_FORCE=${PYDINO_FORCE:-$(date +%Y%m%d%H%M%S)-$$}; fi
  case ${wrapper##*/} in
    run_local.sh | run_slurm.sh) ;;
    *) if [ -n "${PYDINO_FORCE:-}" ]; then in_job=(env "PYDINO_FORCE=$PYDINO_FORCE"); fi ;;   # it may give its jobs no variables
  esac
  mkdir -p "$2/log"
  PYDINO_MADE_FROM=$(cat "$config" "$data/utt2spk" | sha256sum | cut -c 1-16)   # a job of another configuration is not this one's
  export PYDINO_MADE_FROM
  tail --pid=$$ -n 0 -F "$log" > >(grep --line-buffered -E "^([0-9: -]+)?pydino ($verb|launch): " >&2) 2>/dev/null &
  follower=$!
  # In the background, so that a signal to this step reaches the job, which saves the run before it ends.
  # shellcheck disable=SC2086  # $cmd is a command with options
  $cmd --num-threads "$num_threads" "${options[@]}" "$log" \
    "${in_job[@]}" pydino launch --scheduler "$scheduler" --processes "$processes" --num-nodes "$num_nodes" --max-restarts "$max_restarts" -- \
    "$verb" --ngpu "$ngpu" --threads $((num_threads / processes > 0 ? num_threads / processes : 1)) --data-workers "$data_workers" "${@:3}" &
  job=$!
  trap 'ended=130; kill -TERM "$job"' INT
  trap 'ended=143; kill -TERM "$job"' TERM
  trap 'ended=138; kill -USR1 "$job"' USR1
  while true; do
    status=0
    wait "$job" || status=$?   # a signal ends the waiting, not the job
    kill -0 "$job" 2>/dev/null || break
  done
  trap - INT TERM USR1
  sleep 0.5   # for the last lines
  kill "$follower" 2>/dev/null || true
  return "${ended:-$status}"
}

# check_count OPTION VALUE: end the step where it is no number that makes sense, before a job waits in a queue for that.
check_count() {
  local least=0
  case $1 in num_nodes | num_processes | num_threads) least=1 ;; esac
  case $1 in num_threads | data_workers) [ -n "$2" ] || return 0 ;; esac
  if [[ ! $2 =~ ^[0-9]{1,9}$ ]] || [ "$2" -lt "$least" ]; then
    echo "$0: --${1//_/-} should be a whole number from $least on, got '$2'" >&2
    exit 1
  fi
}

# threads_for PROCESSES: print how many threads a job gets where the step was not told: this machine's, if it is to run here; else eight a
# process, or what the largest node of a cluster has.
threads_for() {
  local most
  case $cmd in run_local.sh*) nproc; return ;; esac
  most=$(sinfo -h -o %c 2>/dev/null | tr -dc '0-9\n' | sort -n | tail -n 1 || true)
  echo $((8 * $1 < ${most:-8 * $1} ? 8 * $1 : ${most:-8 * $1}))
}
