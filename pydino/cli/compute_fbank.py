"""Compute log mel filter banks of a data directory, or of one part of it.

Writes ARK_DIR/raw_fbank_<name>.I.{ark,scp} and, from the same pass, the frame log-energies that voice
activity detection reads, ARK_DIR/energy_fbank_<name>.I.{ark,scp}. steps/make_fbank.sh runs it in parallel.
"""

from pydino.cli import _features


def add_arguments(parser):
    _features.add_arguments(parser, "fbank")


def run(args):
    _features.compute(args, "fbank")
