# Functions of run.sh, sourced by it: start_recipe, then stage, for_each and run (running.sh), and finish.
# shellcheck shell=bash disable=SC2154   # the options of run.sh
. running.sh

current_stage=    # "2 features" while it runs
stage_began=0
declare -A recipe=()   # the output of `pydino recipe`

log() { echo "$(date '+%Y-%m-%d %H:%M:%S') run.sh: $*" >&2; }

die() { echo "run.sh: $*" >&2; exit 1; }

# Before the first stage: validate the options and the recipe, and make them the context of every for_each.
start_recipe() {
  local name options=() resolved
  corpus_dir=$(realpath -m -- "${corpus_dir:-$PYDINO_ROOT/egs/mini}")
  [ "$status" = false ] || exec pydino status "${work_dir:-$corpus_dir}"
  [ -f "$corpus_dir/cmd.sh" ] || die "no $corpus_dir/cmd.sh; --corpus-dir is a recipe folder, such as egs/mini"
  . "$corpus_dir/cmd.sh"
  nj=${nj:-${default_nj:-$(env -u OMP_NUM_THREADS nproc)}}
  for name in corpus_dir recipe_file work_dir stage stop_stage skip_stages train_sets test_sets download nj ngpu num_nodes max_drop \
      seeds models init tag list dry_run detach chain; do
    options+=("--${name//_/-}=${!name}")
  done
  resolved=$(pydino recipe --default-conf "$PYDINO_ROOT/conf" --cuda-cmd "$cuda_cmd" \
    "${root[@]/#/--root=}" "${corpus[@]/#/--corpus=}" "${model[@]/#/--model=}" "${options[@]}") || exit 1
  eval "$resolved"   # quoted by Python
  cd "$work_dir" || exit 1
  [ "$force" = false ] || export PYDINO_FORCE=${PYDINO_FORCE:-$(date +%Y%m%d%H%M%S)-$$}   # stored in marks, so that nothing is redone twice
  if [ "$list" = false ] && [ "$dry_run" = false ]; then
    . detach.sh
    [ "$detach" = false ] || detach_pipeline
    [ "$stop_stage" -eq 0 ] || refuse_beside_detached
  fi
  trap_signals
}

# to_run N: whether the recipe has stage N and this call runs it.
to_run() { [[ " ${recipe[to_run]} " == *" $1 "* ]]; }

# stage N NAME IN OUT: end the previous stage, and return true if this one is to run. With --list, print its row instead.
stage() {
  end_stage
  case " ${recipe[stages]} " in *" $1 "*) ;; *) return 1 ;; esac
  if [ "$list" = true ]; then printf '%3d  %-10s %s -> %s\n' "$1" "$2" "$3" "$4"; return 1; fi
  if [ "$1" -lt "$stage" ] || [ "$1" -gt "$stop_stage" ]; then return 1; fi
  to_run "$1" || { log "stage $1: $2: skipped by --skip-stages"; return 1; }
  current_stage="$1 $2" stage_began=$SECONDS
  log "stage $1: $2: $3 -> $4 (nj=$nj)"
}

# for_each [--round NAME] ROWS PROGRAM ARGUMENTS... [--|--and ROWS PROGRAM ARGUMENTS...]...: run PROGRAM for each of the recipe's rows of
# that kind (of stage 8: those of a round), whose values replace the {placeholders}; what follows --and needs nothing of what is before it
# (pydino for-each --help). With --dry-run the commands are printed.
for_each() {
  local options=(--context "${recipe[context]}" --stage "${current_stage%% *}" --cmd "$train_cmd")
  if [ "$1" = --round ]; then options+=(--round "$2"); shift 2; fi
  last_command=()   # it reports the failed command itself
  if [ "$dry_run" = true ]; then pydino for-each --dry-run "${options[@]}" -- "$@"; return; fi
  start "$PYDINO_ROOT/utils/pydino" for-each "${options[@]}" -- "$@"
}

end_stage() {
  [ -n "$current_stage" ] || return 0
  if [ "$dry_run" != true ]; then
    log "stage ${current_stage/ /: }: done in $((SECONDS - stage_began)) s; data, feats and exp take $({ du -shc data feats exp 2>/dev/null || true; } | tail -n 1 | cut -f 1)"
  fi
  current_stage=
}

# After the last stage: print a summary of the tables, if there are any, and their path.
finish() {
  end_stage
  if [ "$list" = true ] || [ "$dry_run" = true ]; then return 0; fi
  if [ "$stop_stage" -ge 11 ] && [ -f exp/RESULTS.md ]; then
    sed -n '/^| test/,/^$/p' exp/RESULTS.md
    log "results: $PWD/exp/RESULTS.md; with figures: $PWD/exp/report.html"
  fi
  log "finished in $SECONDS s"
}
