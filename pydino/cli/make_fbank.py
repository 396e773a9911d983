"""Compute log mel filter banks and, in the same pass, the frame log-energies that compute_vad.sh reads.

steps/make_fbank.sh --nj 4 data/train exp/make_fbank/train feats/train

Reads DATA/wav.scp and, where there is one, DATA/segments. Writes DATA/feats.scp, energy.scp, utt2num_frames,
utt2dur, utt2audiohash (a hash of the samples of each utterance), frame_shift and conf/fbank.yaml (every
option as it was used).
"""

from pydino.cli._feature_step import verb_of

add_arguments, run, steps = verb_of("fbank")
