# Running programs in run.sh, and handling their failure or interruption. Sourced by stages.sh, whose variables it reads.
# shellcheck shell=bash disable=SC2154

last_command=()   # the command to report on failure; empty if the program reports it itself
ctrl_c=()         # prefix of every command, unless Ctrl-C is ignored (nohup)

{ true <&0; } 2>/dev/null || exec < /dev/null   # background processes need a standard input

# Background processes of bash ignore Ctrl-C, which traps cannot change in older versions.
restore_ctrl_c='
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])'
if [[ $(trap -p INT) != "trap -- '' "* ]]; then ctrl_c=(python3 -ISc "$restore_ctrl_c"); fi

# run PROGRAM ARGUMENTS...: PROGRAM is a path in the tree, such as steps/report.sh. With --dry-run it is only printed.
run() {
  last_command=("$@")
  if [ "$dry_run" = true ]; then echo "  $(quote "$@")"; return 0; fi
  start "$PYDINO_ROOT/$1" "${@:2}"
}

# start PROGRAM ARGUMENTS...: run it such that traps run immediately.
# No $(...) here: bash attributes a Ctrl-C that arrives just after one to it.
start() {
  "${ctrl_c[@]}" "$@" <&0 &   # in the background: bash runs traps only after a foreground command has ended
  wait "$!"
}

trap_signals() {
  trap on_failure ERR
  trap 'on_interrupt INT' INT
  trap 'on_interrupt TERM' TERM
  trap 'on_interrupt HUP' HUP
}

# quote WORDS...: print the words as shell input, quoted only where necessary.
quote() {
  local word quoted=()
  for word in "$@"; do
    case $word in '' | *[!A-Za-z0-9_./:=,+@%-]*) quoted+=("'${word//\'/\'\\\'\'}'") ;; *) quoted+=("$word") ;; esac
  done
  echo "${quoted[*]}"
}

# Called when a command fails. The failed wrapper or step has already shown the end of its log.
on_failure() {
  local status=$?
  trap - ERR
  [ -n "$current_stage" ] || exit "$status"
  {
    [ ${#last_command[@]} -eq 0 ] || printf '%s\n' "The command, in $PWD, was:" "  $(quote "${last_command[@]}")"
    echo
    log "stage ${current_stage/ /: } failed"
    echo "See above, and the log named there, for the reason. After fixing it, resume with (from stage 1 if it was the corpus or its labels):"
    echo "  $(resume_command "${current_stage%% *}")"
  } >&2
  exit "$status"
}

# on_interrupt INT|TERM|HUP: forward the signal, which may have reached this process alone, or arrived before a step that has just started
# could receive it; wait until the running program has ended, and print the command that resumes.
on_interrupt() {
  local number
  number=$(kill -l "$1")
  trap - ERR
  trap '' INT TERM HUP
  python3 -P -c "from pydino.jobs.signals import forward_to_relatives as forward; forward($number)" || true
  [ -z "${!:-}" ] || wait "$!" || true
  [ -z "$current_stage" ] || {
    echo
    log "interrupted in stage ${current_stage/ /: }. Resume with:"
    echo "  $(resume_command "${current_stage%% *}")"
  } >&2 || true   # the terminal may be closed
  if [ "$1" = INT ]; then trap - INT; kill -INT $$; fi   # so that a loop in the calling shell ends too
  exit $((128 + number))
}

# The command that resumes from stage $1: this call with its --stage replaced, from its folder, with the variables that were set for it and
# change what runs. With the token of --force, what this run has redone already is kept. Of a detached pipeline, the call that detached it.
resume_command() {
  local word skip=false kept=() variables=()
  if [ -n "${PYDINO_RESUME:-}" ] && [ "${PYDINO_DETACHED:-}" = "$PWD/exp" ]; then
    echo "${PYDINO_RESUME/ --stage STAGE/ --stage $1}"
    return
  fi
  for word in "${called_with[@]}"; do
    if [ "$skip" = true ]; then skip=false; continue; fi
    case $word in --stage) skip=true ;; --stage=*) ;; *) kept+=("$word") ;; esac
  done
  for word in PYDINO_BACKEND PYDINO_SLURM_CONF PYDINO_MASTER_ADDR PYDINO_NO_VENV PYDINO_FORCE CUDA_VISIBLE_DEVICES; do
    case ${SLURM_JOB_ID:+allocation}$word in allocationCUDA_*) continue ;; esac   # the next allocation has other GPUs
    [ -z "${!word+set}" ] || variables+=("$word=${!word}")
  done
  [ ${#variables[@]} -eq 0 ] || variables=(env "${variables[@]}")
  echo "cd $(quote "$called_from") && $(quote "${variables[@]}" "$called_as" --stage "$1" "${kept[@]}")"
}
