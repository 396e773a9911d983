# How run.sh --detach hands its call over, and what keeps other runs out of the folder meanwhile; sourced by it. Reads what run.sh was called
# with, its options, the array `recipe`, and of cmd.sh control_cmd, train_cmd and cuda_cmd.
# shellcheck shell=bash disable=SC2154

# Hand this call over to a controller that goes on when the terminal is gone, and end.
detach_pipeline() {
  local number options=() stages=() program
  program=$(cd "$called_from" && realpath -- "$called_as")
  if [ "$chain" = true ]; then
    for number in ${recipe[stages]}; do
      if to_run "$number"; then stages+=("$number"); fi
    done
    options=(--chain "${stages[*]}" --gpu-stages "4 5 9" --train-cmd "$train_cmd" --cuda-cmd "$cuda_cmd" --nj "$nj" --ngpu "$ngpu")
  else
    options=(--wrapper "${control_cmd:-$train_cmd}")
  fi
  cd "$called_from" || exit 1   # the options may hold paths that are relative to it
  exec pydino detach "${options[@]}" "$work_dir/exp" -- "$program" "${called_with[@]}"
}

# Exit where a detached pipeline is running in this folder, unless it is the one that called.
refuse_beside_detached() {
  [ -e exp/run.json ] && [ "${PYDINO_DETACHED:-}" != "$PWD/exp" ] || return 0
  pydino detach --check exp || exit 1
}
