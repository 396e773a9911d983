# How run.sh runs a program, and what it says when one fails or is interrupted. Sourced by stages.sh, whose variables it reads.
# shellcheck shell=bash disable=SC2154

last_command=()   # what a failure is blamed on; empty where the program names it itself
ctrl_c=()         # the words before a program's, unless Ctrl-C is ignored (nohup)

{ true <&0; } 2>/dev/null || exec < /dev/null   # no standard input at all: what is started in the background is to have one

# What bash starts in the background ignores Ctrl-C, and in older versions no trap changes that.
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

# start PROGRAM ARGUMENTS...: run it so that a trap is run before it ends.
# No $(...) here: Ctrl-C that comes when one is just over is taken by bash to have been meant for it.
start() {
  "${ctrl_c[@]}" "$@" <&0 &   # in the background: bash runs no trap before the end of a command in front
  wait "$!"
}

trap_signals() {
  trap on_failure ERR
  trap 'on_interrupt INT' INT
  trap 'on_interrupt TERM' TERM
  trap 'on_interrupt HUP' HUP
}

# quote WORDS...: the words as a shell reads them back, quoted only where they need it.
quote() {
  local word quoted=()
  for word in "$@"; do
    case $word in '' | *[!A-Za-z0-9_./:=,+@%-]*) quoted+=("'${word//\'/\'\\\'\'}'") ;; *) quoted+=("$word") ;; esac
  done
  echo "${quoted[*]}"
}

# Called when a command fails. The wrapper or step that failed has already named its log and shown its end.
on_failure() {
  local status=$?
  trap - ERR
  [ -n "$current_stage" ] || exit "$status"
  {
    [ ${#last_command[@]} -eq 0 ] || printf '%s\n' "The command, in $PWD, was:" "  $(quote "${last_command[@]}")"
    echo
    say "stage ${current_stage/ /: } failed"
    echo "What went wrong is said above, and in the log it names. When it is fixed, go on with:"
    echo "  $(resume_command "${current_stage%% *}")"
  } >&2
  exit "$status"
}

# on_interrupt INT|TERM|HUP: pass the signal on, as it may have reached this process alone, or come before a step that has just started
# could receive it; wait until what was running has ended, and say how to go on.
on_interrupt() {
  local number
  number=$(kill -l "$1")
  trap - ERR
  trap '' INT TERM HUP
  python3 -P -m pydino.jobs.signals "$number" || true
  [ -z "${!:-}" ] || wait "$!" || true
  [ -z "$current_stage" ] || {
    echo
    say "interrupted in stage ${current_stage/ /: }. Go on with:"
    echo "  $(resume_command "${current_stage%% *}")"
  } >&2 || true   # the terminal may have gone
  if [ "$1" = INT ]; then trap - INT; kill -INT $$; fi   # so that a loop in a shell around us ends as well
  exit $((128 + number))
}

# The call that goes on from stage $1: the call of this run with its own --stage taken out.
resume_command() {
  local word skip=false kept=()
  for word in "${called_with[@]}"; do
    if [ "$skip" = true ]; then skip=false; continue; fi
    case $word in --stage) skip=true ;; --stage=*) ;; *) kept+=("$word") ;; esac
  done
  quote "$called_as" --stage "$1" "${kept[@]}"
}
