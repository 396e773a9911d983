# The machinery of run.sh, sourced by it: which stages run, what a person sees of them, and what is said when one fails.
# Reads stage, stop_stage, skip_stages, list, dry_run and the array `recipe`; gives the functions stage, run (running.sh) and
# finish, and what run.sh does before the first stage: read_recipe, check_options, mistake.
# shellcheck shell=bash disable=SC2154
. running.sh

current_stage=    # "2 features" while it runs
stage_began=0

say() { echo "$(date '+%Y-%m-%d %H:%M:%S') run.sh: $*" >&2; }

# stage N NAME IN OUT: end the stage before, and be true if this one is to run. With --list, print its row instead.
stage() {
  end_stage
  case " ${recipe[stages]} " in *" $1 "*) ;; *) return 1 ;; esac
  if [ "$list" = true ]; then printf '%3d  %-10s %s -> %s\n' "$1" "$2" "$3" "$4"; return 1; fi
  if [ "$1" -lt "$stage" ] || [ "$1" -gt "$stop_stage" ]; then return 1; fi
  case " $skip_stages " in *" $1 "*) say "stage $1: $2: skipped, as --skip-stages says"; return 1 ;; esac
  current_stage="$1 $2" stage_began=$SECONDS
  say "stage $1: $2: $3 -> $4 (nj=$nj)"
}

# wanted N: whether the recipe has stage N, and the user does not skip it; to_run N: whether it is to run in this call, too.
wanted() { [[ " ${recipe[stages]} " == *" $1 "* && " $skip_stages " != *" $1 "* ]]; }
to_run() { wanted "$1" && [ "$1" -ge "$stage" ] && [ "$1" -le "$stop_stage" ]; }

# quote WORDS...: the words as a shell reads them back, quoted only where they need it.
quote() {
  local word quoted=()
  for word in "$@"; do
    case $word in '' | *[!A-Za-z0-9_./:=,+@%-]*) quoted+=("'${word//\'/\'\\\'\'}'") ;; *) quoted+=("$word") ;; esac
  done
  echo "${quoted[*]}"
}

end_stage() {
  [ -n "$current_stage" ] || return 0
  if [ "$dry_run" != true ]; then
    say "stage ${current_stage/ /: }: done in $((SECONDS - stage_began)) s; data, feats and exp take $({ du -shc data feats exp 2>/dev/null || true; } | tail -n 1 | cut -f 1)"
  fi
  current_stage=
}

# The last words: the tables in short, if they were made, and where they are.
finish() {
  end_stage
  if [ "$list" = true ] || [ "$dry_run" = true ]; then return 0; fi
  if [ "$stop_stage" -ge 11 ] && [ -f exp/RESULTS.md ]; then
    sed -n '/^| test/,/^$/p' exp/RESULTS.md
    say "results: $PWD/exp/RESULTS.md; with figures: $PWD/exp/report.html"
  fi
  say "finished in $SECONDS s"
}

# Read the checked recipe into the array `recipe`: entries of trials and tasks are lines.
read_recipe() {
  local text key value
  text=$(pydino recipe "$1") || return 1
  while IFS=$'\t' read -r key value; do
    # shellcheck disable=SC2004
    recipe[$key]+="${recipe[$key]:+$'\n'}$value"
  done <<< "$text"
}

# folder_of CORPUS: print where it is.
folder_of() {
  local option=${1}_root
  echo "${!option:-downloads/$1}"
}

# Print the recipe's corpora that have an option --CORPUS-root; one that is made on the spot has none.
corpora_with_option() {
  local name
  for name in ${recipe[corpora]}; do
    case " ${roots[*]} " in *" ${name}_root "*) echo "$name" ;; esac
  done
}

# Print which collections of noises and room responses were given.
noises() {
  [ -z "$musan_root" ] || echo musan
  [ -z "$rirs_root" ] || echo rirs
}

mistake() { echo "run.sh: $*" >&2; exit 1; }

check_number() {
  case $2 in '' | *[!0-9]*) mistake "--$1 needs a whole number, got '$2'" ;; esac
}

# Check the options of run.sh, so that a mistake does not wait for the stage that uses it.
check_options() {
  local name word
  for name in stage stop_stage nj ngpu num_nodes; do check_number "${name//_/-}" "${!name}"; done
  [ "$nj" -gt 0 ] || mistake "--nj needs one job or more"
  [ "$num_nodes" -gt 0 ] || mistake "--num-nodes needs one machine or more"
  if [ "$num_nodes" -gt 1 ] && [ "$(pydino resources --cmd "$cuda_cmd" local)" = true ]; then
    mistake "--num-nodes $num_nodes is for a scheduler that has several machines: choose the back-end slurm in cmd.sh, or leave it away"
  fi
  [ "$stage" -le "$stop_stage" ] || mistake "--stage $stage comes after --stop-stage $stop_stage: there is nothing to run"
  [[ $max_drop =~ ^(0|1|0?\.[0-9]+)$ ]] || mistake "--max-drop is a share between 0 and 1, got '$max_drop'"
  case $tag in '' | *[!A-Za-z0-9_.-]*) mistake "--tag may hold letters, digits and ._- (it becomes part of folder names), got '$tag'" ;; esac
  for word in $seeds; do check_number seeds "$word"; done
  for word in $skip_stages; do
    case " ${recipe[stages]} " in
      *" $word "*) ;;
      *) mistake "--skip-stages: the recipe has no stage '$word'; it has ${recipe[stages]} (separate several by blanks: \"4 10\")" ;;
    esac
  done
  for word in $models; do
    [[ $word != xvector && $word != xvector-* ]] || mistake "--models: $word is trained with labels: stage 9 does so, if the recipe's supervised.models names it"
  done
  for word in $models ${recipe[supervised]}; do
    [ -f "$conf/$word.yaml" ] || mistake "no $conf/$word.yaml, which the recipe or --models names; a model is a file there, named without its .yaml"
  done
  [ -z "$model" ] || [ -f "$model/config.yaml" ] || mistake "--model $model is no model folder; a trained one is exp/METHOD_TAG/seedN/teacher"
}
