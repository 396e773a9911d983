"""The front end: from a waveform, or from stored features, to the input of the encoder.

An encoder that takes waveforms gets the samples of each frame as its columns; of the features, then, only the
frames are used, and the energies that VAD goes by.

One order in training and extraction alike: features, frames of silence removed by VAD, then normalisation, so
that the mean of the speech is subtracted. (The papers train on trimmed audio but normalise before trimming at
test: ``normalise_after_vad: false``.)

Axes: S samples, T frames, F columns of the features, or samples of a frame.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from pydino.audio import (
    KINDS,
    MAX_PEAK,
    Channel,
    NormalisationConfig,
    Stream,
    VadConfig,
    energy_vad,
    normalise,
    num_frames,
    samples_of_frames,
    select_voiced,
)
from pydino.base import ConfigError, UserError, config_from_dict, nearest, utterance_hash
from pydino.models import needed_features

STORED_SCALE = 32768.0  # stored features are of samples in the range of 16-bit integers, as in Kaldi


@dataclass
class FrontEndConfig:
    """Everything from a waveform to the encoder's input."""

    sample_rate: int  # Hz; other rates are resampled where the feature options allow it
    features: dict[str, Any]  # kind: fbank or mfcc, and any of its options (pydino/audio/options.py)
    waveform_scale: float = STORED_SCALE  # factor for samples in -1 to 1
    vad: VadConfig | None = None  # null: silence is kept
    normalisation: NormalisationConfig = field(default_factory=NormalisationConfig)
    normalise_after_vad: bool = True
    input: Literal["features", "waveform"] = "features"  # of the encoder; waveform: not normalised

    def __post_init__(self):
        if self.waveform_scale <= 0:
            raise ValueError(f"waveform_scale: {self.waveform_scale} is not positive; 32768 is Kaldi's")
        if self.input == "waveform" and self.normalisation.kind != "none":
            raise ValueError("normalisation is of features; with input: waveform set its kind to none")

    def feature_options(self, where: str = "options"):
        """Return the options of the features, checked: FbankConfig or MfccConfig.

        Raises:
            ConfigError: unknown kind, key or value, or a sample rate that is not the front end's; names
                ``where``.
        """
        options = dict(self.features)
        kind = options.pop("kind", None)
        if kind not in KINDS:
            raise ConfigError(
                f"{where}: features.kind must be one of {', '.join(KINDS)}, got "
                f"{kind!r}{nearest(kind, KINDS)}"
            )
        checked = config_from_dict(KINDS[kind][0], options, where=f"{where}: features")
        if checked.sample_frequency != self.sample_rate:
            raise ConfigError(
                f"{where}: sample_rate is {self.sample_rate} but features.sample_frequency "
                f"{checked.sample_frequency:g}; they must agree"
            )
        return checked


class FrontEnd:
    """From waveforms or stored features to the encoder's input.

    Args:
        config: FrontEndConfig.
        device: on which features are computed.
        where: file of the configuration, for messages.
    """

    def __init__(self, config: FrontEndConfig, device="cpu", where: str = "options"):
        self.config = config
        self.options = config.feature_options(where)
        self._extract = KINDS[config.features["kind"]][1](self.options, device)
        self.of_waveforms = config.input == "waveform"
        self.feature_dim = self._extract.dim  # columns of the features, whatever the encoder takes
        self.dim = self.options.window_shift if self.of_waveforms else self.feature_dim  # F

    def from_waveform(
        self, waveform, rate: int, keep_silence: bool = False, name: str = ""
    ) -> tuple[torch.Tensor, bool]:
        """Return the encoder's input (T, F) of a waveform, and whether any frame of it was voiced: arguments
        and errors as of :meth:`waveform_features`.
        """
        return self.prepare(*self.waveform_features(waveform, rate, keep_silence, name), in_place=True)

    def from_recording(
        self, recording: Channel, keep_silence: bool = False, name: str = ""
    ) -> tuple[torch.Tensor, bool]:
        """Return what :meth:`from_waveform` returns, for an open recording that is read in parts: hours of
        speech need little more memory than their features.

        Raises:
            UserError: as :meth:`waveform_features`, and where the recording cannot be read.
        """
        return self.prepare(*self.recording_features(recording, keep_silence, name), in_place=True)

    def waveform_features(
        self, waveform, rate: int, keep_silence: bool = False, name: str = ""
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return what :meth:`prepare` takes: the features, or samples, (T, F) of a waveform, and which frames
        are voiced (T,), None where silence is kept.

        Args:
            waveform: (S,) floats from -1 to 1, or int16, which is scaled.
            rate: Hz.
            keep_silence: skip the VAD.
            name: of the utterance; keys the dither, if any, like the utterance's key in a data directory.

        Raises:
            UserError: several channels, NaN or infinite samples, another range, a rate that may not be
                resampled, or less than one window.
        """
        samples = np.asarray(waveform)
        if samples.ndim != 1:
            raise UserError(
                f"a waveform of shape {samples.shape}; expected one channel, (samples,): select a channel or "
                "take their mean"
            )
        if samples.dtype != np.int16 and len(samples):
            peak = float(np.maximum(samples.max(), -samples.min()))
            if not np.isfinite(peak):
                raise UserError("samples are NaN or infinite; check how the recording was made")
            if peak > MAX_PEAK:
                raise UserError(
                    f"samples up to {peak:g}, but a waveform must be in the range [-1, 1]; divide 16-bit "
                    "integers by 32768, or pass them as an int16 array"
                )

        def read(first: int, last: int) -> np.ndarray:
            part = samples[first:last]
            scale = np.float32(32768) if samples.dtype == np.int16 else np.float32(1)
            return part.astype(np.float32) / scale

        return self._from_samples(read, len(samples), rate, keep_silence, name)

    def recording_features(
        self, recording: Channel, keep_silence: bool = False, name: str = ""
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return what :meth:`waveform_features` returns, for an open recording that is read in parts."""

        def read(first: int, last: int) -> np.ndarray:
            return recording.read(first, last).astype(np.float32, copy=False) / np.float32(32768)

        return self._from_samples(read, recording.samples, recording.rate, keep_silence, name)

    def _from_samples(self, read, total: int, rate: int, keep_silence: bool, name: str):
        self._check_rate(rate)
        scale = np.float32(self.config.waveform_scale)
        stream = Stream(read, total, rate, self.config.sample_rate)
        if num_frames(stream.samples, self.options) == 0:
            raise UserError(
                f"{stream.samples} samples at {self.config.sample_rate} Hz are less than one window "
                f"({self.options.frame_length:g} ms); omit this recording"
            )
        vad, read = None if keep_silence else self.config.vad, stream.read
        if self.of_waveforms:
            whole = stream.read(0, stream.samples)
            features, read = samples_of_frames(torch.from_numpy(whole), self.options), _part_of(whole)
            if vad is None:
                return features, None
        found, energies = self._extract.of_parts(
            lambda *span: read(*span) * scale, stream.samples, utterance_hash(name)
        )
        if not self.of_waveforms:
            features = found
        return features, None if vad is None else energy_vad(energies, vad)

    def _check_rate(self, rate: int) -> None:
        wanted = self.config.sample_rate
        option = "allow_downsample" if rate > wanted else "allow_upsample"
        if rate != wanted and not getattr(self.options, option):
            raise UserError(
                f"recorded at {rate} Hz, but the model takes {wanted} Hz and its features have {option}: "
                f"false; resample it first (sox in.wav -r {wanted} out.wav)"
            )

    def prepare(
        self, features: torch.Tensor, voiced=None, in_place: bool = False
    ) -> tuple[torch.Tensor, bool]:
        """Remove silence and normalise: common to waveforms and stored features.

        Args:
            features: (T, F), T at least 1.
            voiced: (T,), bool or Kaldi's 0.0 and 1.0; None keeps every frame.
            in_place: ``features`` may be overwritten.

        Returns:
            The encoder's input, and whether any frame was voiced. Where none is, every frame is kept: a poor
            embedding is better than none, and the caller warns.

        Raises:
            ValueError: ``voiced`` has not T frames.
        """
        any_voiced = voiced is None or bool(torch.as_tensor(voiced).any())
        select = voiced is not None and any_voiced
        if select and self.config.normalise_after_vad:
            features, in_place, select = select_voiced(features, voiced, in_place), True, False
        features = normalise(features, self.config.normalisation, out=features if in_place else None)
        return select_voiced(features, voiced) if select else features, any_voiced


def _part_of(samples: np.ndarray):
    """Return the function that reads samples [first, last)."""
    return lambda first, last: samples[first:last]


def check_front_end(encoder: dict, front_end: FrontEndConfig, where) -> None:
    """Raise UserError where an encoder was pre-trained on recordings of another rate than that of the data,
    or on other features.

    Args:
        encoder: its configuration.
        front_end: of the data.
        where: data directory, for the message.
    """
    found = {"sample_frequency": front_end.sample_rate, **front_end.features}
    wanted = {"sample_frequency": (encoder.get("sample_rate", front_end.sample_rate),)}
    for name, values in {**wanted, **needed_features(encoder)}.items():
        if found.get(name) not in values:
            raise UserError(
                f"{where} has features with {name}: {found.get(name)}, but the encoder {encoder['name']} was "
                f"pre-trained with {values[0]}; make them with '{name}: {values[0]}' in the configuration of "
                "stage 2 (recordings of a lower rate also need 'allow_upsample: true')"
            )
