# Run a command that trains as a job, and show its lines while the job, wherever it runs, writes its log. To be sourced by a step.
# Usage: training_job VERB EXP [arguments of the verb]
# Reads from the step: cmd, ngpu (several: one process a GPU, started by torchrun), num_threads, data_workers, config, data.
# shellcheck shell=bash disable=SC2154   # the step's options

training_job() {
  local verb=$1 log=$2/log/train.log follower options=() start=(pydino) processes=$((ngpu > 1 ? ngpu : 1)) status=0
  if [ -z "$num_threads" ]; then num_threads=$(threads_for "$processes"); fi
  if [ "$ngpu" -gt 0 ]; then options=(--gpu "$ngpu"); fi
  if [ "$ngpu" -gt 1 ]; then start=(python3 -m torch.distributed.run --standalone --nproc-per-node "$ngpu" -m pydino); fi
  if [ -z "$data_workers" ]; then   # a CPU that trains has no core to spare; a GPU wants up to eight that read for it
    data_workers=0
    if [ "$ngpu" -gt 0 ]; then data_workers=$(((num_threads - 1) / ngpu < 8 ? (num_threads - 1) / ngpu : 8)); fi
  fi
  mkdir -p "$2/log"
  PYDINO_MADE_FROM=$(cat "$config" "$data/utt2spk" | sha256sum | cut -c 1-16)   # a job of another configuration is not this one's
  export PYDINO_MADE_FROM
  tail -n 0 -F "$log" > >(grep --line-buffered -E "^[0-9: -]+pydino $verb: " >&2) 2>/dev/null &
  follower=$!
  # shellcheck disable=SC2086  # $cmd is a command with options
  $cmd --num-threads "$num_threads" "${options[@]}" "$log" \
    "${start[@]}" "$verb" --ngpu "$ngpu" --threads $((num_threads / processes)) --data-workers "$data_workers" "${@:3}" || status=$?
  sleep 0.5   # for the last lines
  kill "$follower" 2>/dev/null || true
  return "$status"
}

# threads_for PROCESSES: print how many threads a job gets where the step was not told: this machine's, if it is to run here; else eight a
# process, or what the largest node of a cluster has.
threads_for() {
  local most
  case $cmd in run_local.sh*) nproc; return ;; esac
  most=$(sinfo -h -o %c 2>/dev/null | tr -dc '0-9\n' | sort -n | tail -n 1 || true)
  echo $((8 * $1 < ${most:-8 * $1} ? 8 * $1 : ${most:-8 * $1}))
}
