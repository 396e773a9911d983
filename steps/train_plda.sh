#!/usr/bin/env bash
# Train LDA and PLDA on labelled embeddings. Where the labels do not allow it, the step says so and is skipped.
# Usage: steps/train_plda.sh [options] UTT2SPK XVECTOR_DIR OUT_DIR
#  e.g.: steps/train_plda.sh --lda-dim 100 data/train/utt2spk exp/dino_mini/seed0/xvectors_train exp/dino_mini/seed0/plda
# Makes OUT_DIR/{mean.vec,transform.mat,plda}, as Kaldi writes them, or OUT_DIR/skipped with the reason.
# Begin configuration.
lda_dim=100         # dimensions after LDA; at most the embedding's, and the number of speakers less one
num_em_iters=10     # iterations of expectation maximisation
max_drop=0.05       # part of the utterances that may lack a speaker or an embedding
cmd=run_local.sh    # how jobs run: run_local.sh, or any wrapper with the interface of Kaldi's run.pl
# End configuration.
set -Eeuo pipefail
echo "$0 $*" >&2
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
. parse_options.sh

if [ $# -ne 3 ]; then
  echo "$0: expected UTT2SPK XVECTOR_DIR OUT_DIR, got $# arguments; $0 --help tells more" >&2
  exit 1
fi
utt2spk=$1 xvectors=$2 out=$3
for f in "$utt2spk" "$xvectors/xvector.scp"; do
  [ -e "$f" ] || { echo "$0: no such file: $f" >&2; exit 1; }
done

mark=$out/.done
made_from=(--version 1 --set "lda_dim=$lda_dim" --set "num_em_iters=$num_em_iters" --set "max_drop=$max_drop" --text "$utt2spk" --text "$xvectors/xvector.scp")
for before in "$xvectors"/.done*; do [ ! -e "$before" ] || made_from+=(--after "$before"); done
if PYDINO_MADE_FROM=$(pydino mark check --digest "$mark" "${made_from[@]}"); then
  echo "$0: $out is up to date" >&2
  exit 0
fi
export PYDINO_MADE_FROM   # by which a rerun knows its own jobs again
mkdir -p "$out/log"
rm -f "$mark"
$cmd "$out/log/train_plda.log" \
  pydino train-plda --lda-dim "$lda_dim" --num-em-iters "$num_em_iters" --max-drop "$max_drop" "$utt2spk" "$xvectors" "$out"

if [ -e "$out/skipped" ]; then
  pydino mark write "$mark" "${made_from[@]}" --output "$out/skipped"
  echo "$0: skipped: $(cat "$out/skipped")" >&2
  exit 0
fi
pydino mark write "$mark" "${made_from[@]}" --output "$out/mean.vec" --output "$out/transform.mat" --output "$out/plda"
echo "$0: succeeded: $(sed -n 's/^[^#].* pydino train-plda: //p' "$out/log/train_plda.log" | tail -n 1)" >&2
