"""Audio: reading, filter banks and cepstra, voice activity, normalisation. Torch, the same on CPU and GPU; values equal Kaldi's."""

from .extractor import FrameExtractor
from .fbank import Fbank
from .frames import num_frames
from .mfcc import Mfcc
from .normalise import NormalisationConfig, apply_cmvn, cmvn_stats, mean_normalise, normalise, sliding_mean_normalise
from .options import FbankConfig, MfccConfig
from .reading import read_audio
from .resampling import resample
from .vad import VadConfig, energy_vad, select_voiced

KINDS = {"fbank": (FbankConfig, Fbank), "mfcc": (MfccConfig, Mfcc)}  # name of a kind of features -> (options, extractor)

__all__ = [
    "KINDS", "Fbank", "FbankConfig", "FrameExtractor", "Mfcc", "MfccConfig", "NormalisationConfig", "VadConfig", "apply_cmvn",
    "cmvn_stats", "energy_vad", "mean_normalise", "normalise", "num_frames", "read_audio", "resample", "select_voiced",
    "sliding_mean_normalise",
]
