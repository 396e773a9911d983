#!/usr/bin/env bash
# Run jobs on a Slurm cluster: the interface of Kaldi's slurm.pl, the logs and messages of run_slurm.sh.
# Usage: utils/run_slurm.sh [options] [JOB=1:N] LOG COMMAND [argument ...]
#  e.g.: utils/run_slurm.sh --mem 4G --time 1:00:00 JOB=1:4 exp/log/make.JOB.log make_things --part JOB \| sort \> things.JOB
# utils/run_slurm.sh --help lists the options.
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh" || exit 1
if [[ ${1-} == --help || ${1-} == -h ]]; then exec pydino run-slurm --help; fi
exec pydino run-slurm -- "$@" # after -- the wrapper parses everything itself: COMMAND has options too
