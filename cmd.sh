# Where jobs run. A wrapper has the interface of Kaldi's run.pl: WRAPPER [--mem 4G] [--gpu 1] ... JOB=1:N LOG COMMAND;
# your own queue.pl or slurm.pl can stand here.
# shellcheck shell=bash
backend=local   # local: this machine; slurm: a cluster, whose partition and account stand in conf/slurm.conf. PYDINO_BACKEND overrides it.

backend=${PYDINO_BACKEND:-$backend}
case $backend in
  local | slurm) ;;
  *) echo "cmd.sh: the backend is 'local' or 'slurm', not '$backend' (cmd.sh, or PYDINO_BACKEND)" >&2; return 1 ;;
esac
export train_cmd="run_$backend.sh --mem 2G"   # features, scoring, classifiers
export cuda_cmd="run_$backend.sh --mem 8G"    # training and extraction; steps add --gpu N where one is asked for
export control_cmd="run_$backend.sh --mem 2G" # the controller of ./run.sh --detach, which only waits: a long --time, a modest partition
# A recipe's conf/slurm.conf goes before the project's: that of the folder whose cmd.sh sources this one.
recipe_conf=$(cd "$(dirname "${BASH_SOURCE[1]:-.}")" && pwd -P)/conf/slurm.conf
[ ! -f "$recipe_conf" ] || export PYDINO_SLURM_CONF=$recipe_conf
unset recipe_conf
