# Where jobs run. A wrapper has the interface of Kaldi's run.pl:
#   WRAPPER [--mem 4G] [--gpu 1] ... JOB=1:N LOG COMMAND
# Your own queue.pl or slurm.pl can be used here.
# shellcheck shell=bash disable=SC2034   # default_nj is read by run.sh
# local: this machine; slurm: a cluster, whose partition and account are set in conf/slurm.conf.
# PYDINO_BACKEND overrides it.
backend=local

backend=${PYDINO_BACKEND:-$backend}
# train_cmd: features, scoring, classifiers; cuda_cmd: training and extraction, to which steps add
# --gpu N; control_cmd: the controller of ./run.sh --detach, which only waits (on a cluster: a long
# --time, a modest partition).
case $backend in
  local)   # memory is an estimate: as many jobs at once as fit
    export train_cmd="run_local.sh --mem 1G"
    export cuda_cmd="run_local.sh --mem 3G"
    export control_cmd="run_local.sh --mem 1G" ;;
  slurm)   # memory and time are limits
    default_nj=16   # --nj of run.sh where it is not given; the cores of a login node say nothing about the cluster
    export train_cmd="run_slurm.sh --mem 2G"
    export cuda_cmd="run_slurm.sh --mem 8G"
    export control_cmd="run_slurm.sh --mem 2G" ;;
  *) echo "cmd.sh: the backend is 'local' or 'slurm', not '$backend' (cmd.sh, or PYDINO_BACKEND)" >&2; return 1 ;;
esac
# A recipe's conf/slurm.conf replaces the project's: that of the folder whose cmd.sh sources this one.
recipe_conf=$(realpath -- "$(dirname -- "${BASH_SOURCE[1]:-.}")")/conf/slurm.conf
if [ -f "$recipe_conf" ]; then export PYDINO_RECIPE_SLURM_CONF=$recipe_conf; else unset PYDINO_RECIPE_SLURM_CONF; fi
unset recipe_conf
