# The systems of a run: what is trained here, the model that --model gives, and the baselines; sourced by run.sh.
# A system is a folder METHOD_TAG/seedN in exp/, which holds its model folder and all that is made with it.
# shellcheck shell=bash disable=SC2154

baselines="fbank-stats fbank-stats-cmn untrained"

if [ -z "$models$model" ] && [ "$list" != true ] && [ "$stop_stage" -ge 5 ]; then
  echo "run.sh: the ${recipe[name]} recipe trains no model: name one with --model FOLDER (such as" \
    "../speechocean762/exp/dino-koleo_speechocean762/seed0/teacher), or stop before stage 5 with --stop-stage 4" >&2
  exit 1
fi

# systems: print the systems that learnt without labels, or nothing, the trained ones first.
systems() {
  local method seed
  for method in $models; do for seed in $seeds; do echo "${method}_$tag/seed$seed"; done; done
  if [ -n "$model" ]; then given_system; fi
  for method in $baselines; do echo "${method}_$tag/seed0"; done
}

# supervised_systems: print those that stage 9 trains.
supervised_systems() {
  local method seed
  for method in ${recipe[supervised]}; do for seed in $seeds; do echo "${method}_$tag/seed$seed"; done; done
}

# all_systems: print both; without those of stage 9 if they are not to be trained and have not been.
all_systems() {
  local system
  systems
  for system in $(supervised_systems); do
    if [ -e "exp/$system/.done.train" ] || [[ " $skip_stages " != *" 9 "* ]]; then echo "$system"; fi
  done
}

# The system of --model: named as it was where it was trained, exp/METHOD_TAG/seedN/teacher.
given_system() {
  echo "$(basename "$(dirname "$(dirname "$model")")")/$(basename "$(dirname "$model")")"
}

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
      run steps/score.sh --cmd "$train_cmd" --backend cosine --treatment "$treatment" --utt2spk "data/$set/utt2spk" --trials-name "$name" \
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
