#!/usr/bin/env bash
# Learn an embedding of whole utterances from unlabelled speech with DINO, and carry it to other tasks: from recordings to
# error rates, in numbered stages. Without options: the synthetic corpus of egs/mini, in under 20 minutes on two cores.
# Usage: ./run.sh [options]              ./run.sh --list    the stages of the recipe
#        egs/CORPUS/run.sh [options]     the same for another corpus
# shellcheck disable=SC2034   # the options are read by what is sourced below
# Begin configuration.
# What runs:
stage=0              # first stage
stop_stage=11        # last stage
skip_stages=         # stages to leave out, such as "4 5"
list=false           # print the stages and stop
dry_run=false        # print the commands and run none
status=false         # tell what runs, waits or failed in the recipe folder, and stop
detach=false         # go on when the terminal is gone: by a controller, here or as a Slurm job (cmd.sh)
chain=false          # with --detach, on Slurm where jobs may not submit jobs: one job a stage, each with nj cores and ngpu GPUs
force=false          # redo what is done already
# On what:
corpus_dir=          # recipe folder, with conf/; default: egs/mini
recipe_file=         # default: CORPUS_DIR/conf/recipe.yaml
work_dir=            # where data, feats and exp are made; default: CORPUS_DIR
speechocean762_root= # where the corpora are; default: downloads/CORPUS in WORK_DIR
librispeech_root=
emodb_root=
voxceleb1_root=
voxceleb2_root=
wavdir_root=         # your own folder of recordings
musan_root=          # noises, music and speech to mix in, and
rirs_root=           # room responses, for training on audio
train_sets=          # librispeech: splits to learn from, such as "train-clean-100 train-other-500"
test_sets=           # librispeech: splits to test on
download=false       # fetch a free corpus first
# How:
nj=$(env -u OMP_NUM_THREADS nproc)   # parallel jobs; each has its own number of threads
max_drop=0           # share of the recordings that may be unusable (unreadable, too short); all are named
ngpu=-1              # GPUs for training and extraction; -1: all that are here, with Slurm one if the cluster has any
num_nodes=1          # machines for training, each with ngpu GPUs; several need a scheduler
seeds=0              # one model a seed, such as "0 1 2"
models=              # what to train, such as "dino-koleo dino" (conf/MODEL.yaml); default: the recipe's
model=               # a trained model folder to extract with, beside or instead of what is trained here
tag=                 # part of the names of what is trained, exp/MODEL_TAG; default: the recipe's name
# End configuration.
called_as=$0 called_with=("$@") called_from=$PWD
set -Eeuo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/path.sh"
. parse_options.sh
[ $# -eq 0 ] || { echo "$0: no arguments are expected besides options, got '$1'; $0 --help lists them" >&2; exit 1; }
. stages.sh
declare -A recipe=()
roots=(speechocean762_root librispeech_root emodb_root voxceleb1_root voxceleb2_root wavdir_root musan_root rirs_root)
for name in corpus_dir recipe_file work_dir model "${roots[@]}"; do
  [ -z "${!name}" ] || printf -v "$name" '%s' "$(realpath -m -- "${!name}")"   # relative to where the user stands
done
corpus_dir=${corpus_dir:-$PYDINO_ROOT/egs/mini}
[ "$status" = false ] || exec pydino status "${work_dir:-$corpus_dir}"
conf=$corpus_dir/conf
[ -f "$corpus_dir/cmd.sh" ] || mistake "no $corpus_dir/cmd.sh; --corpus-dir is a recipe folder, such as egs/mini"
. "$corpus_dir/cmd.sh"
read_recipe "${recipe_file:-$conf/recipe.yaml}"
work_dir=${work_dir:-$corpus_dir}
mkdir -p "$work_dir" 2>/dev/null || mistake "cannot make the folder $work_dir; give --work-dir a place where you may write"
cd "$work_dir"
[ "$force" = false ] || export PYDINO_FORCE=${PYDINO_FORCE:-$(date +%Y%m%d%H%M%S)-$$}   # marks hold it: nothing is redone twice
[ "$ngpu" != -1 ] || ngpu=$(pydino resources --cmd "$cuda_cmd" gpus)
models=${models:-${recipe[models]}}
tag=${tag:-${recipe[name]}}
check_options
[ "$chain" = false ] || [ "$detach" = true ] || mistake "--chain goes with --detach"
. systems.sh   # which model folders are extracted, scored and probed
. detach.sh
if [ "$list" = false ] && [ "$dry_run" = false ]; then
  [ "$detach" = false ] || detach_pipeline
  [ "$stop_stage" -eq 0 ] || refuse_beside_detached
fi
trap on_failure ERR
trap 'on_interrupt INT' INT
trap 'on_interrupt TERM' TERM
trap 'on_interrupt HUP' HUP

if stage 0 check "system and corpus" "ready, or the line that mends it"; then
  folders=()
  if [ "$download" = false ]; then
    for name in $(corpora_with_option) $(noises); do folders+=("$name" "$(folder_of "$name")"); done
  fi
  run utils/check_system.sh --backend "${backend:-local}" --disk-gb "${recipe[disk_gb]}" --programs "${recipe[programs]}" --ngpu "$ngpu" \
    "${folders[@]}"
fi

if stage 1 data "corpus" "data/{${recipe[sets]// /,}}"; then
  parts=()
  [ -z "$train_sets$test_sets" ] || parts=(--parts "${train_sets:-train-clean-100} ${test_sets:-test-other}")   # LibriSpeech's
  folders=()
  for name in ${recipe[corpora]}; do
    folders+=("$(folder_of "$name")")
    [ "$download" = false ] || run local/download.py "${parts[@]}" "$name" "${folders[-1]}"
  done
  read -ra prepare_options <<< "${recipe[prepare_options]}"
  run "local/${recipe[prepare]}.py" "${prepare_options[@]}" ${train_sets:+--train-sets "$train_sets"} \
    ${test_sets:+--test-sets "$test_sets"} "${folders[@]}" data
  for name in $(noises); do
    [ "$download" = false ] || run local/download.py "$name" "$(folder_of "$name")"
    run "local/prepare_$name.py" "$(folder_of "$name")" "data/$name"
  done
fi

if stage 2 features "recordings" "filter banks and log-energy, and from it VAD"; then
  for set in ${recipe[sets]}; do
    run steps/make_fbank.sh --nj "$nj" --cmd "$train_cmd" --max-drop "$max_drop" --compress "${recipe[compress]}" --fbank-config "$conf/fbank.yaml" \
      "data/$set" "exp/make_fbank/$set" "feats/$set"
    run steps/compute_vad.sh --nj "$nj" --cmd "$train_cmd" --max-drop "$max_drop" --vad-config "$conf/vad.yaml" \
      "data/$set" "exp/make_vad/$set" "feats/$set"
  done
fi

if stage 3 train-set "data/{${recipe[train_sets]// /,}}" "data/train_ssl: long enough, labels hidden"; then
  check_labels
  read -ra train_dirs <<< "${recipe[train_sets]}"
  run steps/make_train_set.sh --min-duration "${recipe[min_duration]}" --keep-silence "${recipe[keep_silence]}" \
    --name "${recipe[name]}/${recipe[train_sets]// /+}" \
    "${train_dirs[@]/#/data/}" data/train_ssl
fi

if stage 4 pretrain "data/train_ssl" "exp/MODEL_$tag/seedN/{teacher,student}"; then
  for method in $models; do for seed in $seeds; do
    run steps/train.sh --cmd "$cuda_cmd" --ngpu "$ngpu" --num-nodes "$num_nodes" --config "$conf/$method.yaml" --seed "$seed" \
      data/train_ssl "exp/${method}_$tag/seed$seed"
  done; done
fi

if stage 5 extract "teachers and baselines" "embeddings of every set"; then
  make_baselines
  for system in $(systems); do extract "$system"; done
fi

if stage 6 score "embeddings and trials" "EER, minDCF and their intervals"; then
  for system in $(systems); do score "$system"; done
fi

if stage 9 baseline "data/train_ssl and labels" "exp/{${recipe[supervised]// /,}}_$tag/seedN/model, what labels would give; its scores"; then
  mapfile -t labels < <(label_maps)
  for method in ${recipe[supervised]}; do for seed in $seeds; do
    run steps/train.sh --cmd "$cuda_cmd" --ngpu "$ngpu" --num-nodes "$num_nodes" --config "$conf/$method.yaml" --seed "$seed" \
      "${labels[@]/#/--labels=}" data/train_ssl "exp/${method}_$tag/seed$seed"
  done; done
  for system in $(supervised_systems); do
    extract "$system"
    score "$system"
  done
fi

if stage 10 transfer "frozen embeddings and labels" "classifiers of other tasks"; then
  for system in $(all_systems); do train_classifiers "$system"; done
fi

if stage 11 report "every result" "exp/{results.json,RESULTS.md,report.html}"; then
  run steps/report.sh --title "${recipe[name]}" exp
fi
finish
