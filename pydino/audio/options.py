"""Options of the features, with Kaldi's names and defaults; each group validates itself.

Kaldi's `--num-mel-bins=80` is `num_mel_bins: 80` in YAML. Omitted, because they have no meaning here:
`max-feature-vectors` (memory of the online decoder), `output-format` (HTK and Sphinx files),
`utt2spk`/`vtln-map` (warp factors per speaker are labels).
"""

import math
from dataclasses import dataclass
from typing import Literal

from .mel import mel_weights

LONGEST_WINDOW = 2**20  # samples
LOWEST_RATE, HIGHEST_RATE = 100, 10_000_000  # Hz


@dataclass
class FrameOptions:
    """How a waveform is cut into windows (Kaldi's feat/feature-window.h). Times in milliseconds, frequencies
    in Hz.
    """

    sample_frequency: float = 16000.0
    frame_length: float = 25.0
    frame_shift: float = 10.0
    snip_edges: bool = True  # only windows that fit; false: one window a shift, the ends mirrored
    # standard deviation of the noise added to each sample of each window; 0: none, reproducible by Kaldi
    dither: float = 1.0
    remove_dc_offset: bool = True
    preemphasis_coefficient: float = 0.97
    window_type: Literal["povey", "hamming", "hanning", "rectangular", "sine", "blackman"] = "povey"
    blackman_coeff: float = 0.42
    round_to_power_of_two: bool = True
    allow_downsample: bool = False  # accept audio of a higher rate and resample it to sample_frequency
    allow_upsample: bool = False  # the same for a lower rate
    channel: int = -1  # channel to use of several; -1: the recording must have one
    min_duration: float = 0.0  # seconds; shorter utterances are dropped, and named

    @property
    def window_size(self) -> int:
        """Samples in a window."""
        return int(self.sample_frequency * 0.001 * self.frame_length)

    @property
    def window_shift(self) -> int:
        """Samples from one window to the next."""
        return int(self.sample_frequency * 0.001 * self.frame_shift)

    @property
    def padded_size(self) -> int:
        """Points of the Fourier transform."""
        return 1 << (self.window_size - 1).bit_length() if self.round_to_power_of_two else self.window_size

    def __post_init__(self):
        if not LOWEST_RATE <= self.sample_frequency <= HIGHEST_RATE:
            raise ValueError(f"sample_frequency: {self.sample_frequency} Hz is not a sample rate")
        for name in ("frame_length", "frame_shift"):
            if abs(getattr(self, name)) > LONGEST_WINDOW:
                raise ValueError(f"{name}: {getattr(self, name):g} ms is no length of a window")
        if self.window_shift < 1:
            raise ValueError(
                f"frame_shift: {self.frame_shift} ms is less than a sample; it is in milliseconds (10 is "
                "usual)"
            )
        if self.window_size < 2:
            raise ValueError(
                f"frame_length: {self.frame_length} ms is less than two samples; it is in milliseconds (25 "
                "is usual)"
            )
        if self.window_size > LONGEST_WINDOW:
            raise ValueError(
                f"frame_length: {self.frame_length} ms is more than {LONGEST_WINDOW} samples; it is in "
                "milliseconds (25 is usual)"
            )
        if self.padded_size % 2:
            raise ValueError(
                f"frame_length: {self.window_size} samples is odd; set round_to_power_of_two: true"
            )
        if not 0 <= self.preemphasis_coefficient <= 1:
            raise ValueError(f"preemphasis_coefficient: {self.preemphasis_coefficient} is outside 0 to 1")
        if self.dither < 0:
            raise ValueError(f"dither: {self.dither} is negative; it is a standard deviation")
        if self.channel < -1:
            raise ValueError(
                f"channel: {self.channel} does not exist; channels count from 0, and -1 expects a single one"
            )
        if self.min_duration < 0:
            raise ValueError(f"min_duration: {self.min_duration} s is negative")


@dataclass
class MelOptions(FrameOptions):
    """Mel filters (feat/mel-computations.h) and the energy column."""

    num_mel_bins: int = 23
    low_freq: float = 20.0
    high_freq: float = 0.0  # 0 or less: relative to the Nyquist frequency
    vtln_low: float = 100.0  # lower cut-off of the warping function, if vtln_warp is not 1
    vtln_high: float = -500.0  # upper cut-off; negative: relative to the Nyquist frequency
    vtln_warp: float = 1.0  # factor of vocal tract length normalisation, the same for all
    debug_mel: bool = False  # log the frequencies of every filter
    use_energy: bool = False  # add a column of log-energy
    # floor of the energy (not of its logarithm); with dither 0 and digital silence, try 1.0
    energy_floor: float = 0.0
    raw_energy: bool = True  # energy before pre-emphasis and window; false: after
    htk_compat: bool = False  # energy, or C0, in the last column
    subtract_mean: bool = False  # subtract the mean over time of each utterance

    def __post_init__(self):
        super().__post_init__()
        if self.energy_floor < 0:
            raise ValueError(f"energy_floor: {self.energy_floor} is negative")
        mel_weights(self)  # raises an error for impossible frequencies

    @property
    def log_energy_floor(self) -> float:
        """Natural logarithm of the floor; minus infinity if there is none."""
        return math.log(self.energy_floor) if self.energy_floor > 0 else -math.inf


@dataclass
class FbankConfig(MelOptions):
    """Options of Kaldi's compute-fbank-feats."""

    use_log_fbank: bool = True  # natural logarithm; false: linear
    use_power: bool = True  # power spectrum; false: magnitude


@dataclass
class MfccConfig(MelOptions):
    """Options of Kaldi's compute-mfcc-feats. Note that the energy replaces C0 unless use_energy is false."""

    use_energy: bool = True
    num_ceps: int = 13
    cepstral_lifter: float = 22.0  # 0: none

    def __post_init__(self):
        super().__post_init__()
        if not 1 <= self.num_ceps <= self.num_mel_bins:
            raise ValueError(
                f"num_ceps: {self.num_ceps} is outside 1 to num_mel_bins, which is {self.num_mel_bins}"
            )
