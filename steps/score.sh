#!/usr/bin/env bash
# Score trials by cosine or PLDA, and measure the scores: EER, minDCF, 95 % intervals, DET curve.
# Usage: steps/score.sh [options] TRIALS ENROLL_DIR TEST_DIR SCORES
#  e.g.: steps/score.sh --treatment centred --train-dir $dir/xvectors_train --utt2spk data/test/utt2spk \
#          data/test/trials $dir/xvectors_test $dir/xvectors_test $dir/scores/test.cosine.centred.txt
# TRIALS: lines `enroll test [target|nontarget]`; without the third field there are scores, but nothing to measure.
# ENROLL_DIR/spk2utt, where there is one, makes models of several utterances (the mean of their embeddings).
# Makes SCORES (`enroll test score`) and, beside it, STEM.result.json and STEM.det.json.
# Begin configuration.
backend=cosine      # cosine or plda
plda_dir=           # for plda: what steps/train_plda.sh made; where that was skipped, so is this
treatment=raw       # of embeddings, for cosine: raw, centred or whitened
train_dir=          # unlabelled training embeddings that centring and whitening learn from
utt2spk=            # speakers of the test, to draw for the intervals; without it utterances are drawn
trials_name=        # test_set of the results; default: the set that TEST_DIR is of
task=sv             # task of the results
resamples=1000      # of the bootstrap
seed=0              # of the bootstrap
cmd=run_local.sh    # how jobs run: run_local.sh, or any wrapper with the interface of Kaldi's run.pl
# End configuration.
set -Eeuo pipefail
echo "$0 $*" >&2
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
. parse_options.sh

die() { echo "$0: $1" >&2; exit 1; }
[ $# -eq 4 ] || die "expected TRIALS ENROLL_DIR TEST_DIR SCORES, got $# arguments; $0 --help tells more"
trials=$1 enroll=$2 test=$3 scores=$4
case $backend in
  cosine) labels=none ;;
  plda) labels=train; [ -n "$plda_dir" ] || die "--backend plda needs --plda-dir, made by steps/train_plda.sh" ;;
  *) die "--backend '$backend' is neither cosine nor plda" ;;
esac
case $treatment in
  raw) train_dir= ;; # nothing is learnt
  centred | whitened) [ -n "$train_dir" ] || die "--treatment $treatment needs --train-dir, a folder of unlabelled training embeddings" ;;
  *) die "--treatment '$treatment' is not raw, centred or whitened" ;;
esac
for f in "$trials" "$enroll/xvector.scp" "$test/xvector.scp" ${utt2spk:+"$utt2spk"} ${train_dir:+"$train_dir/xvector.scp"}; do
  [ -e "$f" ] || die "no such file: $f"
done

stem=$(basename "$scores" .txt) dir=$(dirname "$scores")
result=$dir/$stem.result.json det=$dir/$stem.det.json mark=$dir/.done.$stem log=$dir/log/score.$stem.log
if [ "$backend" = plda ] && [ -e "$plda_dir/skipped" ]; then
  rm -f "$scores" "$result" "$det" "$mark"
  echo "$0: skipped: $(cat "$plda_dir/skipped")" >&2
  exit 0
fi

made_from=(--version 1 --set "backend=$backend" --set "treatment=$treatment" --set "task=$task" --set "trials_name=$trials_name"
  --set "resamples=$resamples" --set "seed=$seed")
for f in "$trials" "$enroll/xvector.scp" "$test/xvector.scp" "$utt2spk" "$enroll/spk2utt" "$test/meta.yaml"; do
  [ ! -f "$f" ] || made_from+=(--text "$f")
done
for before in "$enroll"/.done* "$test"/.done* ${train_dir:+"$train_dir"/.done*} ${plda_dir:+"$plda_dir"/.done*}; do
  [ ! -e "$before" ] || made_from+=(--after "$before")
done
if PYDINO_MADE_FROM=$(pydino mark check --digest "$mark" "${made_from[@]}"); then
  echo "$0: $scores is up to date" >&2
  exit 0
fi
export PYDINO_MADE_FROM   # by which a rerun knows its own jobs again

mkdir -p "$dir/log"
rm -f "$mark" "$result" "$det"
score=(pydino score --backend "$backend" --treatment "$treatment" ${plda_dir:+--plda-dir "$plda_dir"} ${train_dir:+--train-dir "$train_dir"}
  "$trials" "$enroll" "$test" "$scores")
measure=(pydino evaluate-scores --task "$task" --backend "$backend" --treatment "$treatment" --labels "$labels" --resamples "$resamples"
  --seed "$seed" --det "$det" ${utt2spk:+--utt2spk "$utt2spk"} ${trials_name:+--trials-name "$trials_name"})
[ ! -e "$test/meta.yaml" ] || measure+=(--meta "$test/meta.yaml")
[ ! -e "$enroll/spk2utt" ] || measure+=(--enroll-spk2utt "$enroll/spk2utt")
# The first line tells whether the trials have labels; the readers check every line.
if awk 'NR == 1 { exit !(NF == 3) }' "$trials"; then
  $cmd "$log" "${score[@]}" "&&" "${measure[@]}" "$trials" "$scores" "$result"
  outputs=("$scores" "$result" "$det")
else
  $cmd "$log" "${score[@]}"
  echo "$0: $trials has no third field (target or nontarget): scores are written, error rates are not" >&2
  outputs=("$scores")
fi
pydino mark write "$mark" "${made_from[@]}" "${outputs[@]/#/--output=}"
echo "$0: succeeded: $(sed -n 's/^[^#].* pydino \(score\|evaluate-scores\): //p' "$log" | tail -n 1)" >&2
