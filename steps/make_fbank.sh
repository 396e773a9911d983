#!/usr/bin/env bash
# Compute log mel filter banks and, in the same pass, the frame log-energies that compute_vad.sh reads.
# Usage: steps/make_fbank.sh [options] DATA [LOG [ARK_DIR]]
#  e.g.: steps/make_fbank.sh --nj 4 data/train exp/make_fbank/train feats/train
# Reads DATA/wav.scp and, if it is there, DATA/segments. Writes DATA/{feats.scp,energy.scp,utt2num_frames,utt2dur,frame_shift}
# and DATA/conf/fbank.yaml (every option as it was used). LOG is DATA/log and ARK_DIR is DATA/data unless given.
# Begin configuration.
nj=4                       # number of parallel jobs; the values do not depend on it
cmd=run_local.sh           # how jobs run: run_local.sh, or any wrapper with the interface of Kaldi's run.pl
compress=true              # one byte a value instead of four
fbank_config=conf/fbank.yaml  # options, Kaldi's under their own names with underscores
max_drop=0                 # share of utterances that may be dropped (unreadable, too short); all are named
allow_pipes=false          # run the commands in wav.scp; they come with the data
channel=                   # which channel of recordings with many, from 0
# End configuration.
set -Eeuo pipefail
echo "$0 $*" >&2
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
. parse_options.sh

exec "$PYDINO_ROOT/steps/make_features.sh" --kind fbank --config "$fbank_config" --nj "$nj" --cmd "$cmd" --compress "$compress" \
  --max-drop "$max_drop" --allow-pipes "$allow_pipes" ${channel:+--channel "$channel"} "$@"
