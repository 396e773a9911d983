#!/usr/bin/env bash
# Train a supervised x-vector: an encoder that tells the labels of utterances apart. The one step of training that reads labels.
# Usage: steps/train_xvector.sh [options] DATA UTT2LABEL [UTT2LABEL ...] EXP
#  e.g.: steps/train_xvector.sh --config conf/xvector.yaml --seed 0 data/train_ssl data/train/utt2spk exp/xvector_mini/seed0
# DATA is made by steps/make_train_set.sh; UTT2LABEL has, or several together have, a label for each of its utterances, and may have
# more. EXP gets model/ (a model folder), log.jsonl, tensorboard/, checkpoints/. An interrupted run goes on, also on another number of
# GPUs; a finished one is left alone; a different one, or one of other labels, in EXP is refused. SIGTERM and SIGUSR1 save the run and
# end it; a scheduler's job that hears SIGUSR1 queues itself again.
# Begin configuration.
config=conf/xvector.yaml # what defines the run
ngpu=0                  # of each node; 0: train on the CPU; several: one process each, with a share of every batch
num_nodes=1             # machines, each with its ngpu; more than one need a scheduler (cmd.sh)
num_processes=1         # of each node on the CPU
max_restarts=50         # times that a scheduler may queue the job again: after a time limit, a pre-emption, a dead node
seed=0                  # of weights, order, crops and augmentation
num_threads=            # CPU threads of each node; default: all of this machine, elsewhere (cmd) eight a process
data_workers=           # processes that read ahead; default: none on the CPU, up to eight a GPU
cmd=run_local.sh        # how jobs run: run_local.sh, or any wrapper with the interface of Kaldi's run.pl
allow_pipes=false       # run the commands in wav.scp (input: audio); they come with the data
force=false             # discard what is in EXP and start afresh
# End configuration.
set -Eeuo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
. parse_options.sh
. training_job.sh

if (($# < 3)); then
  echo "$0: expected DATA UTT2LABEL [UTT2LABEL ...] EXP, got $# arguments; see $0 --help" >&2
  exit 1
fi
data=$1 labels=("${@:2:$#-2}") exp=${*: -1}
for file in "$data/feats.scp" "$data/utt2spk" "${labels[@]}" "$config"; do
  if [ ! -f "$file" ]; then echo "$0: no such file $file" >&2; exit 1; fi
done

training_job train-xvector "$exp" --config "$config" --seed "$seed" --allow-pipes "$allow_pipes" "$data" "${labels[@]}" "$exp"
echo "$0: succeeded training $exp/model" >&2
