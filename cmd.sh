# Where jobs run. A wrapper has the interface of Kaldi's run.pl: WRAPPER [--mem 4G] [--gpu 1] ... JOB=1:N LOG COMMAND;
# your own queue.pl or slurm.pl can stand here.
# shellcheck shell=bash
export train_cmd="run_local.sh --mem 2G"   # features, scoring, classifiers
export cuda_cmd="run_local.sh --mem 8G"    # training and extraction; steps add --gpu N where one is asked for
