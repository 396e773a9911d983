"""Decide by energy which frames are speech (Kaldi's compute-vad).

steps/compute_vad.sh --nj 4 data/train exp/make_vad/train feats/train

Reads DATA/energy.scp, or the energy column of DATA/feats.scp if DATA/conf says that it has one. Writes
DATA/vad.scp (one 0.0 or 1.0 a frame) and DATA/conf/vad.yaml (every option as it was used).
"""

from pydino.cli import _feature_step


def add_arguments(parser):
    _feature_step.add_arguments(parser, "vad")


def run(args):
    _feature_step.run(args, "vad", lambda: _compute(args))


def steps(args):
    return _feature_step.steps(args, "vad")


def _compute(args):
    from pydino.cli._vad import compute

    compute(args)
