"""Compute log mel filter banks and, in the same pass, the frame log-energies that compute_vad.sh reads.

steps/make_fbank.sh --nj 4 data/train exp/make_fbank/train feats/train

Reads DATA/wav.scp and, where there is one, DATA/segments. Writes DATA/feats.scp, energy.scp, utt2num_frames,
utt2dur, frame_shift and conf/fbank.yaml (every option as it was used).
"""

from pydino.cli import _feature_step


def add_arguments(parser):
    _feature_step.add_arguments(parser, "fbank")


def run(args):
    _feature_step.run(args, "fbank", lambda: _compute(args))


def steps(args):
    return _feature_step.steps(args, "fbank")


def _compute(args):
    from pydino.cli._features import compute

    compute(args, "fbank")
