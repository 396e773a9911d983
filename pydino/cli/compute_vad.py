"""Decide by energy which frames are speech (Kaldi's compute-vad).

steps/compute_vad.sh --nj 4 data/train exp/make_vad/train feats/train

Reads DATA/energy.scp, or the energy column of DATA/feats.scp if DATA/conf says that it has one. Writes
DATA/vad.scp (one 0.0 or 1.0 a frame) and DATA/conf/vad.yaml (every option as it was used).
"""

from pydino.cli._feature_step import verb_of

add_arguments, run, steps = verb_of("vad")
