"""Compute mel-frequency cepstral coefficients and, in the same pass, the frame log-energies that
compute_vad.sh reads.

steps/make_mfcc.sh --nj 4 data/train exp/make_mfcc/train feats/train

Reads DATA/wav.scp and, where there is one, DATA/segments. Writes DATA/feats.scp, energy.scp, utt2num_frames,
utt2dur, frame_shift and conf/mfcc.yaml (every option as it was used).
"""

from pydino.cli import _feature_step


def add_arguments(parser):
    _feature_step.add_arguments(parser, "mfcc")


def run(args):
    _feature_step.run(args, "mfcc", lambda: _compute(args))


def steps(args):
    return _feature_step.steps(args, "mfcc")


def _compute(args):
    from pydino.cli._features import compute

    compute(args, "mfcc")
