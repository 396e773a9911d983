# The systems of a run: what is trained here, the model that --model gives, and the baselines; sourced by run.sh.
# A system is a folder METHOD_TAG/seedN in exp/, which holds its model folder and all that is made with it.
# shellcheck shell=bash disable=SC2154

baselines="fbank-stats fbank-stats-cmn untrained"

if [ -z "$models$model" ] && [ "$list" != true ] && [ "$stop_stage" -ge 5 ]; then
  echo "run.sh: the ${recipe[name]} recipe trains no model: name one with --model FOLDER (such as" \
    "../speechocean762/exp/dino-koleo_speechocean762/seed0/teacher), or stop before stage 5 with --stop-stage 4" >&2
  exit 1
fi

# seeds_of METHODS...: print their systems, one a seed.
seeds_of() {
  local method seed
  for method in "$@"; do for seed in $seeds; do echo "${method}_$tag/seed$seed"; done; done
}

# shellcheck disable=SC2086  # lists of words
trained_systems() { seeds_of $models; }
# shellcheck disable=SC2086
supervised_systems() { seeds_of ${recipe[supervised]}; }   # those of stage 9

# systems: print all that stages 5 and 6 walk over, the trained ones first, each once.
systems() {
  local method
  {
    trained_systems
    if [ -n "$model" ]; then given_system; fi
    for method in $baselines; do echo "${method}_$tag/seed0"; done
  } | awk '!seen[$0]++'
}

# all_systems: print these and those of stage 9, without what it has not made and is not about to make.
all_systems() {
  local system
  {
    systems
    for system in $(supervised_systems); do
      if to_run 9 || is_extracted "$system"; then echo "$system"
      else say "without $system, which stage 9 has not made: ./run.sh --stage 9 makes it"; fi
    done
  } | awk '!seen[$0]++'
}

# is_extracted SYSTEM: whether all its embeddings are there.
is_extracted() {
  local set
  for set in ${recipe[sets]}; do [ -e "exp/$1/xvectors_$set/.done" ] || return 1; done
  for set in ${recipe[silence_sets]}; do [ -e "exp/$1/xvectors_${set}_with_silence/.done" ] || return 1; done
}

# label_maps: print the labels that stage 9 learns from, a file for each training set.
label_maps() {
  local set
  for set in ${recipe[train_sets]}; do echo "data/$set/${recipe[supervised_labels]}"; done
}

# check_labels: end with a message if some are missing, before DINO is trained and not days later.
check_labels() {
  local file
  if [ "$dry_run" = true ] || ! wanted 9; then return 0; fi
  for file in $(label_maps); do
    [ ! -d "${file%/*}" ] || [ -f "$file" ] || mistake "no $file, which supervised.labels of the recipe names; there are $(cd "${file%/*}" && echo utt2*)"
  done
}

# The system of --model: named as it was where it was trained, exp/METHOD_TAG/seedN/teacher.
given_system() {
  echo "$(basename "$(dirname "$(dirname "$model")")")/$(basename "$(dirname "$model")")"
}

# A system of --model that is called as one that is trained here must be that very one.
if [ -n "$model" ] && { trained_systems; supervised_systems; } | grep -Fx "$(given_system)" > /dev/null &&
  [[ $model != "$(realpath -m "exp/$(given_system)")"/* ]]; then
  mistake "--model $model would be called $(given_system), as is what is trained here: give another --tag"
fi

# model_folder SYSTEM: print its model folder.
model_folder() {
  if [ -n "$model" ] && [ "$1" = "$(given_system)" ]; then echo "$model"
  elif [[ " $baselines ${recipe[supervised]} " == *" ${1%_"$tag"/*} "* ]]; then echo "exp/$1/model"
  else echo "exp/$1/teacher"; fi
}

make_baselines() {
  local method first like
  first=${models%% *}
  like=${first:+$conf/$first.yaml}
  for method in $baselines; do
    run steps/make_baseline.sh --kind "$method" --like "${like:-$model}" "data/${recipe[sets]%% *}" "exp/${method}_$tag/seed0/model"
  done
}

# extract SYSTEM: embed every set, and with their silence those whose pauses are looked at.
extract() {
  local set
  for set in ${recipe[sets]}; do extract_set "$1" "$set" "exp/$1/xvectors_$set"; done
  for set in ${recipe[silence_sets]}; do extract_set "$1" "$set" "exp/$1/xvectors_${set}_with_silence" --keep-silence true; done
}

extract_set() {
  run steps/extract_embeddings.sh --nj "$nj" --cmd "$cuda_cmd" --gpu "$ngpu" --max-drop "$max_drop" "${@:4}" \
    "$(model_folder "$1")" "data/$2" "$3"
}

# score SYSTEM: every test, by cosine and by PLDA.
score() {
  score_cosine "$1"
  score_plda "$1"
}

# score_cosine SYSTEM: every test with plain, centred and whitened embeddings; the last two learn from unlabelled speech.
score_cosine() {
  local name set file treatment
  while read -r name set file; do
    [ -n "$name" ] || continue
    for treatment in raw centred whitened; do
      run steps/score.sh --cmd "$train_cmd" --backend cosine --centring "$treatment" --utt2spk "data/$set/utt2spk" --trials-name "$name" \
        --train-dir "exp/$1/xvectors_${recipe[train_sets]%% *}" \
        "$file" "exp/$1/xvectors_$set" "exp/$1/xvectors_$set" "exp/$1/scores/$name.cosine.$treatment.txt"
    done
  done <<< "${recipe[trials]:-}"
}

# score_plda SYSTEM: PLDA trained on the labels of a set, for comparison; where the labels do not allow it, it says so.
score_plda() {
  local train_set lda_dim name set file
  [ -n "${recipe[plda]:-}" ] || return 0
  read -r train_set lda_dim <<< "${recipe[plda]}"
  run steps/train_plda.sh --cmd "$train_cmd" --lda-dim "$lda_dim" "data/$train_set/utt2spk" "exp/$1/xvectors_$train_set" "exp/$1/plda"
  while read -r name set file; do
    run steps/score.sh --cmd "$train_cmd" --backend plda --plda-dir "exp/$1/plda" --utt2spk "data/$set/utt2spk" --trials-name "$name" \
      "$file" "exp/$1/xvectors_$set" "exp/$1/xvectors_$set" "exp/$1/scores/$name.plda.txt"
  done <<< "${recipe[trials]}"
}

train_classifiers() {
  local task set labels kind silence
  while read -r task set labels kind silence; do
    [ -n "$task" ] || continue
    run steps/train_classifier.sh --cmd "$train_cmd" --task "$task" --kind "$kind" --utt2spk "data/$set/utt2spk" \
      "exp/$1/xvectors_$set$([ "$silence" = false ] || echo _with_silence)" "data/$set/$labels" "exp/$1/transfer/$task"
  done <<< "${recipe[tasks]:-}"
}
