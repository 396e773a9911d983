#!/usr/bin/env bash
# Train and test a classifier on frozen embeddings, by cross-validation that keeps speakers apart.
# Usage: steps/train_classifier.sh --task NAME [options] XVECTOR_DIR LABELS OUT_DIR
#  e.g.: steps/train_classifier.sh --task emotion --utt2spk data/emodb/utt2spk \
#          $dir/xvectors_emodb data/emodb/utt2emotion $dir/transfer/emotion
# LABELS: lines `utt label`, or `spk label` for the speakers of --utt2spk.
# Makes OUT_DIR/{predictions.txt,utt2fold,TASK.result.json}.
# Begin configuration.
task=               # name in the results: emotion, gender, age, ad, ...
kind=class          # class: logistic regression (UAR, F1, accuracy); number: ridge regression (mean absolute error)
folds=speaker       # speaker: leave one out up to 10 speakers, 10 folds of whole speakers above; or a number of folds
utt2spk=            # without it, every utterance counts as a speaker of its own
max_drop=0.05       # part of the utterances that may lack a label or an embedding
resamples=1000      # of the bootstrap
seed=0              # of folds and bootstrap
cmd=run_local.sh    # how jobs run: run_local.sh, or any wrapper with the interface of Kaldi's run.pl
# End configuration.
set -Eeuo pipefail
echo "$0 $*" >&2
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
. parse_options.sh

die() { echo "$0: $1" >&2; exit 1; }
[ $# -eq 3 ] || die "expected XVECTOR_DIR LABELS OUT_DIR, got $# arguments; $0 --help tells more"
xvectors=$1 labels=$2 out=$3
[ -n "$task" ] || die "--task is needed: the name of the property, such as emotion"
for f in "$xvectors/xvector.scp" "$labels" ${utt2spk:+"$utt2spk"}; do
  [ -e "$f" ] || die "no such file: $f"
done

mark=$out/.done log=$out/log/train_classifier.log
made_from=(--version 1 --set "task=$task" --set "kind=$kind" --set "folds=$folds" --set "max_drop=$max_drop" --set "resamples=$resamples" --set "seed=$seed")
for f in "$xvectors/xvector.scp" "$xvectors/meta.yaml" "$labels" "$utt2spk"; do
  [ ! -f "$f" ] || made_from+=(--text "$f")
done
for before in "$xvectors"/.done*; do [ ! -e "$before" ] || made_from+=(--after "$before"); done
if PYDINO_MADE_FROM=$(pydino mark check --digest "$mark" "${made_from[@]}"); then
  echo "$0: $out is up to date" >&2
  exit 0
fi
export PYDINO_MADE_FROM   # by which a rerun knows its own jobs again

mkdir -p "$out/log"
rm -f "$mark"
$cmd "$log" pydino train-classifier --task "$task" --kind "$kind" --folds "$folds" ${utt2spk:+--utt2spk "$utt2spk"} \
  --max-drop "$max_drop" --resamples "$resamples" --seed "$seed" "$xvectors" "$labels" "$out"
pydino mark write "$mark" "${made_from[@]}" --output "$out/predictions.txt" --output "$out/utt2fold" --output "$out/$task.result.json"
echo "$0: succeeded: $(sed -n 's/^[^#].* pydino train-classifier: //p' "$log" | tail -n 1)" >&2
