#!/usr/bin/env bash
# Run jobs on this machine: the interface, logs and messages of Kaldi's run.pl.
# Usage: utils/run_local.sh [options] [JOB=1:N] LOG COMMAND [argument ...]
#  e.g.: utils/run_local.sh --num-threads 2 JOB=1:4 exp/log/make.JOB.log make_things --part JOB \| sort \> things.JOB
# utils/run_local.sh --help lists the options.
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh" || exit 1
if [[ ${1-} == --help || ${1-} == -h ]]; then exec pydino run-local --help; fi
exec pydino run-local -- "$@" # after -- the wrapper parses everything itself: COMMAND has options too
