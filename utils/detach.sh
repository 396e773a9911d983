# Sourced by run.sh: --detach starts a controller, and other runs in the same folder are refused meanwhile. Reads the call and the options of
# run.sh, the array `recipe`, and control_cmd, train_cmd and cuda_cmd of cmd.sh.
# shellcheck shell=bash disable=SC2154

# Start a controller that runs this call in the background, and exit.
detach_pipeline() {
  local number options=() stages=() program
  program=$(cd "$called_from" && realpath -- "$called_as")
  if [ "$chain" = true ]; then
    for number in ${recipe[stages]}; do
      if to_run "$number"; then stages+=("$number"); fi
    done
    options=(--chain "${stages[*]}" --gpu-stages "4 5 7 8 9" --train-cmd "$train_cmd" --cuda-cmd "$cuda_cmd" --nj "$nj" --ngpu "$ngpu")
  else
    options=(--wrapper "${control_cmd:-$train_cmd}")
  fi
  PYDINO_RESUME=$(resume_command STAGE)
  export PYDINO_RESUME   # for the pipeline, whose own call has another back-end or no --detach
  cd "$called_from" || exit 1   # the options may contain paths relative to it
  exec pydino detach "${options[@]}" "$work_dir/exp" -- "$program" "${called_with[@]}"
}

# Exit if a detached pipeline is running in this folder, unless this call is part of it.
refuse_beside_detached() {
  [ -e exp/run.json ] && [ "${PYDINO_DETACHED:-}" != "$PWD/exp" ] || return 0
  pydino detach --check exp || exit 1
}
