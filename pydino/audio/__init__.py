"""Audio: reading, filter banks and cepstra, voice activity, normalisation. Torch, the same on CPU and GPU;
values equal Kaldi's.
"""

from .audio_hash import HashingReader
from .extractor import FrameExtractor
from .fbank import Fbank
from .frames import num_frames, samples_of_frames
from .mel import filter_centres
from .mfcc import Mfcc
from .normalise import (
    NormalisationConfig,
    apply_cmvn,
    cmvn_stats,
    mean_normalise,
    normalise,
    sliding_mean_normalise,
)
from .options import FbankConfig, MfccConfig
from .reading import MAX_PEAK, Channel, open_channel, read_audio, read_parts, span_of
from .recording_statistics import channel_statistics, clipped_share, mean_and_deviation
from .resampling import check_rate, needed_samples, resample
from .streaming import Stream
from .vad import VadConfig, energy_vad, select_voiced

# name of a kind of features -> (options, extractor)
KINDS = {"fbank": (FbankConfig, Fbank), "mfcc": (MfccConfig, Mfcc)}

__all__ = [
    "KINDS",
    "MAX_PEAK",
    "Channel",
    "Fbank",
    "FbankConfig",
    "FrameExtractor",
    "HashingReader",
    "Mfcc",
    "MfccConfig",
    "NormalisationConfig",
    "Stream",
    "VadConfig",
    "apply_cmvn",
    "channel_statistics",
    "check_rate",
    "clipped_share",
    "cmvn_stats",
    "energy_vad",
    "filter_centres",
    "mean_and_deviation",
    "mean_normalise",
    "needed_samples",
    "normalise",
    "num_frames",
    "open_channel",
    "read_audio",
    "read_parts",
    "resample",
    "samples_of_frames",
    "select_voiced",
    "sliding_mean_normalise",
    "span_of",
]
