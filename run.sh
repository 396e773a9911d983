#!/usr/bin/env bash
# Learn embeddings of whole utterances from unlabelled speech with DINO, and transfer them to other tasks: from recordings to
# error rates, in numbered stages. Without options: the synthetic corpus of egs/mini, in under 20 minutes on two cores.
# Usage: ./run.sh [options]              ./run.sh --list    the stages of the recipe
#        egs/CORPUS/run.sh [options]     the same for another corpus
# shellcheck disable=SC2034,SC1083   # the options are read by what is sourced below; {placeholders} are for for_each
# Begin configuration.
# What runs:
stage=0              # first stage
stop_stage=11        # last stage
skip_stages=         # stages to skip, such as "4 5"
list=false           # print the stages and exit
dry_run=false        # print the commands instead of running them
status=false         # show what is running, pending or failed in the recipe folder, and exit
detach=false         # run in the background under a controller, here or as a Slurm job (cmd.sh)
chain=false          # with --detach, on Slurm where jobs may not submit jobs: one job a stage, each with nj cores and ngpu GPUs
force=false          # redo finished work
# On what:
corpus_dir=          # recipe folder, with conf/; default: egs/mini
recipe_file=         # default: CORPUS_DIR/conf/recipe.yaml
work_dir=            # folder for data, feats and exp; default: CORPUS_DIR
root=()              # folder of the corpus; default: downloads/CORPUS in WORK_DIR
corpus=()            # NAME=DIR, for recipes with several corpora, and for noises: musan=DIR, rirs=DIR
train_sets=          # librispeech: splits to train on, such as "train-clean-100 train-other-500"
test_sets=           # librispeech: splits to test on
download=false       # fetch a free corpus first
allow_pipes=false    # run the commands in wav.scp; they come with the data
# How:
nj=                  # parallel jobs, each with its own number of threads; default: the cores of this machine, with Slurm 16 (cmd.sh)
max_drop=0           # fraction of recordings that may be unusable (unreadable, too short); all are listed
ngpu=-1              # GPUs for training and extraction; -1: all of this machine, with Slurm one if the cluster has any
num_nodes=1          # machines for training, each with ngpu GPUs; several need a scheduler
seeds=0              # one model per seed, such as "0 1 2"
models=              # models to train, such as "dino-koleo dino" (conf/MODEL.yaml); default: the recipe's
init=                # release (pydino release) that stage 4 goes on from, or model folder that its models start from
model=()             # a trained model folder for extraction, besides or instead of those trained here
tag=                 # part of the names of trained models, exp/MODEL_TAG; default: the recipe's name
# End configuration.
called_as=$0 called_with=("$@") called_from=$PWD
set -Eeuo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/path.sh"
. parse_options.sh
[ $# -eq 0 ] || { echo "$0: unexpected argument '$1', only options are allowed; $0 --help lists them" >&2; exit 1; }
. stages.sh
start_recipe

if stage 0 check "system and corpus" "ready, or the command or edit that fixes it"; then
  for_each check utils/check_system.sh --backend "${backend:-local}" --disk-gb {disk_gb} --programs {programs} --ngpu "$ngpu" {corpora}
  if [ "${backend:-local}" = slurm ]; then run utils/check_slurm.sh --train-cmd "$train_cmd" --cuda-cmd "$cuda_cmd" --ngpu "$ngpu"; fi
fi

if stage 1 data "corpus" "data/{${recipe[sets]}}"; then
  for_each downloads local/download.py {options} {corpus} {folder} \
    -- preparation local/{program} {options} {corpora} data \
    -- noises local/{program} {folder} data/{corpus}
fi

if stage 2 features "recordings" "filter banks, log-energy, VAD"; then
  for_each sets steps/make_fbank.sh --nj "$nj" --cmd "$train_cmd" --max-drop "$max_drop" --allow-pipes "$allow_pipes" \
      --compress {compress} --fbank-config {fbank} data/{set} exp/make_fbank/{set} feats/{set} \
    -- sets steps/compute_vad.sh --nj "$nj" --cmd "$train_cmd" --max-drop "$max_drop" \
      --vad-config {vad} data/{set} exp/make_vad/{set} feats/{set}
fi

if stage 3 train-set "data/{${recipe[train_sets]}}" "data/train_ssl: long enough, labels hidden"; then
  for_each train_set steps/make_train_set.sh {options} {data} data/train_ssl
fi

if stage 4 pretrain "data/train_ssl" "exp/MODEL_${recipe[tag]}/seedN/{teacher,student}"; then
  for_each training steps/train.sh --cmd "$cuda_cmd" --ngpu "$ngpu" --num-nodes "$num_nodes" --allow-pipes "$allow_pipes" \
      {options} data/train_ssl {exp} \
    -- training steps/monitor.sh --cmd "$cuda_cmd" --gpu "$ngpu" --allow-pipes "$allow_pipes" --may-fail true --data data/train_ssl {exp}
fi

if stage 5 extract "teachers and baselines" "embeddings of the sets that trials and tasks need"; then
  for_each baselines steps/make_baseline.sh {options} {data} {model} \
    -- extraction steps/extract_embeddings.sh --nj "$nj" --cmd "$cuda_cmd" --gpu "$ngpu" --max-drop "$max_drop" \
      --system {system} {model} {sets} {with_silence}
fi

if stage 6 score "embeddings and trials" "EER, minDCF and their intervals"; then
  for_each joins steps/join_embeddings.sh {embeddings} {joined} \
    -- plda steps/train_plda.sh {options} {labels} {embeddings} {plda} \
    -- scoring steps/score.sh {options} {trials} {enroll} {test} {scores} \
    -- calibration steps/calibrate.sh {options} {trials} {scores} {calibrated}
fi

if stage 7 cluster "training embeddings" "clusters; PLDA trained on them, and other scores that need no labels"; then
  for_each crops steps/extract_crops.sh --nj "$nj" --cmd "$cuda_cmd" --gpu "$ngpu" {options} {model} {data} {crops} \
    -- crop_trials steps/make_crop_trials.sh {crops} {embeddings} {label_free_trials} \
    -- joins steps/join_embeddings.sh {embeddings} {joined} \
    -- wccn steps/train_wccn.sh {crops} {wccn} \
    -- clusters steps/cluster.sh {options} {embeddings} {clusters} \
    -- cluster_trials steps/make_crop_trials.sh {options} {crops} {embeddings} {label_free_trials} \
    -- agreement steps/measure_clusters.sh {labels} {clusters} \
    -- thresholds steps/threshold.sh {options} {model} {data} {threshold} \
    -- plda steps/train_plda.sh {options} {labels} {embeddings} {plda} \
    -- scoring steps/score.sh {options} {trials} {enroll} {test} {scores} \
    -- calibration steps/calibrate.sh {options} {trials} {scores} {calibrated}
fi

if stage 8 refine "clusters of the model before" "exp/MODEL-{${recipe[rounds]// /,}}_${recipe[tag]}/seedN/model, trained on them; its clusters and scores"; then
  for round in ${recipe[rounds]}; do
    for_each --round "$round" training steps/train.sh --cmd "$cuda_cmd" --ngpu "$ngpu" --num-nodes "$num_nodes" \
        --allow-pipes "$allow_pipes" {options} data/train_ssl {exp} \
      -- training steps/monitor.sh --cmd "$cuda_cmd" --gpu "$ngpu" --allow-pipes "$allow_pipes" --may-fail true --data data/train_ssl {exp} \
      --and extraction steps/extract_embeddings.sh --nj "$nj" --cmd "$cuda_cmd" --gpu "$ngpu" --max-drop "$max_drop" \
        --system {system} {model} {sets} {with_silence} \
      --and crops steps/extract_crops.sh --nj "$nj" --cmd "$cuda_cmd" --gpu "$ngpu" {options} {model} {data} {crops} \
      -- crop_trials steps/make_crop_trials.sh {crops} {embeddings} {label_free_trials} \
      -- joins steps/join_embeddings.sh {embeddings} {joined} \
      -- wccn steps/train_wccn.sh {crops} {wccn} \
      -- clusters steps/cluster.sh {options} {embeddings} {clusters} \
      -- cluster_trials steps/make_crop_trials.sh {options} {crops} {embeddings} {label_free_trials} \
      -- agreement steps/measure_clusters.sh {labels} {clusters} \
      -- thresholds steps/threshold.sh {options} {model} {data} {threshold} \
      -- plda steps/train_plda.sh {options} {labels} {embeddings} {plda} \
      -- scoring steps/score.sh {options} {trials} {enroll} {test} {scores} \
      -- calibration steps/calibrate.sh {options} {trials} {scores} {calibrated}
  done
fi

if stage 9 baseline "data/train_ssl and labels" "exp/{${recipe[supervised]}}_${recipe[tag]}/seedN/model, the supervised comparison; its scores"; then
  for_each training steps/train.sh --cmd "$cuda_cmd" --ngpu "$ngpu" --num-nodes "$num_nodes" --allow-pipes "$allow_pipes" \
      {options} data/train_ssl {exp} \
    -- training steps/monitor.sh --cmd "$cuda_cmd" --gpu "$ngpu" --allow-pipes "$allow_pipes" --may-fail true --data data/train_ssl {exp} \
    --and extraction steps/extract_embeddings.sh --nj "$nj" --cmd "$cuda_cmd" --gpu "$ngpu" --max-drop "$max_drop" \
      --system {system} {model} {sets} {with_silence} \
    -- joins steps/join_embeddings.sh {embeddings} {joined} \
    -- plda steps/train_plda.sh {options} {labels} {embeddings} {plda} \
    -- scoring steps/score.sh {options} {trials} {enroll} {test} {scores} \
    -- calibration steps/calibrate.sh {options} {trials} {scores} {calibrated}
fi

if stage 10 transfer "models and labels" "classifiers of other tasks, on frozen embeddings and fine-tuned"; then
  for_each baselines steps/make_baseline.sh {options} {data} {model} \
    -- extraction steps/extract_embeddings.sh --nj "$nj" --cmd "$cuda_cmd" --gpu "$ngpu" --max-drop "$max_drop" \
      --system {system} {model} {sets} {with_silence} \
    -- task_dirs steps/make_task.sh {options} {data} {task_dir} \
    -- tasks steps/train_classifier.sh {options} {task_dir} {embeddings} {transfer} \
    --and tuning steps/finetune.sh --nj "$nj" --cmd "$cuda_cmd" --ngpu "$ngpu" {options} {task_dir} {model} {sets} {transfer} \
    --and controls steps/run_controls.sh {options} {task_dir} {sets} {controls}
fi

if stage 11 report "every result" "exp/{results.json,RESULTS.md,report.html}"; then
  run steps/report.sh --title "${recipe[name]}" --recipe "${recipe[file]}" exp
fi
finish
