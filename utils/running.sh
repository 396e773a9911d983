# How run.sh runs a step, and what it says when one fails or is interrupted. Sourced by stages.sh, whose variables it reads.
# shellcheck shell=bash disable=SC2154

last_command=()
listen=()   # the words before a step's, as long as Ctrl-C is not ignored (nohup)

{ true <&0; } 2>/dev/null || exec < /dev/null   # no standard input at all: what is started in the background is to have one

# What bash starts in the background is deaf to Ctrl-C, and older ones let no trap mend that.
hear_ctrl_c='
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])'
if [[ $(trap -p INT) != "trap -- '' "* ]]; then listen=(python3 -ISc "$hear_ctrl_c"); fi

# run PROGRAM ARGUMENTS...: PROGRAM is a path in the tree, such as steps/make_fbank.sh. With --dry-run it is only printed.
# No $(...) here: Ctrl-C that comes when one is just over is taken by bash to have been meant for it.
run() {
  last_command=("$@")
  if [ "$dry_run" = true ]; then echo "  $(quote "$@")"; return 0; fi
  local program=("$PYDINO_ROOT/$1" "${@:2}")
  if [[ $1 == *.py ]]; then program=(python3 "${program[@]}"); fi
  "${listen[@]}" "${program[@]}" <&0 &   # in the background: before the end of a command in front, bash would run no trap
  wait "$!"
}

# Called when a command fails. The wrapper or step that failed has already named its log and shown its end.
on_failure() {
  local status=$?
  trap - ERR
  [ -n "$current_stage" ] || exit "$status"
  {
    echo
    say "stage ${current_stage/ /: } failed"
    echo "The command, in $PWD, was:"
    echo "  $(quote "${last_command[@]}")"
    echo "What went wrong is said above, and in the log it names. When it is mended, go on with:"
    echo "  $(resume_command "${current_stage%% *}")"
  } >&2
  exit "$status"
}

# on_interrupt INT|TERM|HUP: hand it on, as it may have reached this process alone, or come before a step that has just begun could hear;
# wait until what was running has ended, and say how to go on.
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
