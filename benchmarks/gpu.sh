#!/usr/bin/env bash
# Test and benchmark this project on a machine with one GPU, in one command of at most 25 minutes.
# Usage: benchmarks/gpu.sh [options]
#  e.g.: benchmarks/gpu.sh                                     # everything
#        benchmarks/gpu.sh --sections "tests resume"           # a part
#        benchmarks/gpu.sh --device cpu --minutes 10           # a rehearsal, at reduced size
# Writes OUTPUT_DIR/gpu-DATE-DEVICE.md, complete after every section, to be committed. A section that fails or takes too long
# is reported there, and the next one runs. Sections:
#   tests       the tests marked gpu
#   resume      a training that is killed and resumed, against an uninterrupted one
#   precision   losses in fp32, bf16 and fp16 side by side
#   processes   two processes on one GPU, against one
#   supervised  the supervised configurations: loss and speed
#   steps       the step of every DINO configuration, with its roofline; then mini's beside the naive step
# Exit status: 0 if every section went well.
# Begin configuration.
device=cuda                        # cuda or cpu
minutes=25                         # time limit; sections that have not started by then are not run
sections="tests resume precision processes supervised steps"   # which, in this order
steps=0                            # of each training of a check; 0: 40, on a CPU 12
output_dir=benchmarks/results      # for the results
# End configuration.
set -Eeuo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
called="benchmarks/gpu.sh $*"
. "$root/path.sh"
. parse_options.sh
die() { echo "$0: $*" >&2; exit 1; }
[ $# -eq 0 ] || die "unexpected argument '$1'; $0 --help lists the options"
case $device in cuda | cpu) ;; *) die "--device must be cuda or cpu, got '$device'" ;; esac
case $minutes in '' | *[!0-9]*) die "--minutes must be a whole number, got '$minutes'" ;; esac
known=" tests resume precision processes supervised steps "
for section in $sections; do
  case $known in *" $section "*) ;; *) die "unknown section '$section'; known:$known" ;; esac
done
mkdir -p "$output_dir"
output_dir=$(cd "$output_dir" && pwd -P)
cd "$root"
made=$(mktemp -d)
job=
trap 'rm -rf "$made"' EXIT
trap '[ -z "$job" ] || kill "$job" 2>/dev/null; exit 130' INT TERM   # timeout stops its child

python3 benchmarks/report.py "$device" "$called" > "$made/header" || die "nothing was measured"
output=$output_dir/gpu-$(date +%F)-$(sed -n 's/^# //p' "$made/header" | tr -cs '[:alnum:]\n' - | sed 's/-$//').md
printf '\n| section | outcome | seconds |\n|---|---|---|\n' > "$made/summary"
: > "$made/body"
failed=0

# run TITLE SECONDS COMMAND...: run a command with a time limit, within the remaining time, and report it.
run() {
  local title=$1 limit=$2 left=$((60 * minutes - SECONDS - 10)) start=$SECONDS status=0 outcome
  shift 2
  [ "$left" -ge "$limit" ] || limit=$left
  if [ "$limit" -lt 5 ]; then
    outcome="**not run**: the $minutes minutes are over" status=1
    : > "$made/log"
  else
    echo "$0: $title (at most $limit s)" >&2
    timeout --kill-after=5 "$limit" "$@" > "$made/log" 2>&1 &
    job=$!
    wait "$job" || status=$?
    job=
    case $status in
      0) outcome="went well" ;;
      124 | 137) outcome="**stopped** after $limit s" ;;
      *) outcome="**failed**, exit status $status" ;;
    esac
  fi
  [ "$status" -eq 0 ] || failed=1
  echo "$0: $title: $outcome" >&2
  printf '| %s | %s | %s |\n' "$title" "$outcome" $((SECONDS - start)) >> "$made/summary"
  {
    printf '\n## %s\n\n    %s\n\n%s\n\n' "$title" "$*" "$outcome"
    tail -n 150 "$made/log" | sed 's/^/    /'
  } | sed -e "s|$made|DATA|g" -e "s|$root/||g" -e "s|$root|.|g" >> "$made/body"
  cat "$made/header" "$made/summary" "$made/body" > "$output.tmp"
  mv "$output.tmp" "$output"
}

check() { run "$1" "$2" python3 benchmarks/gpu_checks.py --device "$device" --made "$made/data" --steps "$steps" "$1"; }

step() {   # TITLE CONFIG NAIVE SECONDS: the step of one configuration
  local sizes=(--ngpu 1 --steps 24)
  [ "$device" = cuda ] || sizes=(--ngpu 0 --steps 3 --set batch_size=16)
  run "$1: $2" "$4" python3 benchmarks/train_step.py --config "$2" --naive "$3" --roofline true \
    --made "$made/data" "${sizes[@]}"
}

for section in $sections; do
  case $section in
    tests) run "tests" 240 python3 -m pytest -q -rA -p no:cacheprovider -m gpu tests ;;
    resume) check resume 240 ;;
    precision | processes | supervised) check "$section" 200 ;;
    steps)
      for config in egs/voxceleb/conf/dino*.yaml egs/[!v]*/conf/dino*.yaml; do
        case $device:$config in
          *smoke*) ;;
          cuda:* | cpu:egs/mini/conf/dino-koleo.yaml) step "step" "$config" false 100 ;;
        esac
      done
      step "beside the naive step" egs/mini/conf/dino-koleo.yaml true 150 ;;
  esac
done
echo "$output"
exit "$failed"
