"""The utterances of a data directory, and their features and log-energies computed in batches."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pydino.base import UserError
from pydino.kaldi import read_table
from pydino.kaldi.segments import parse_segment

from .audio_hash import HashingReader
from .frames import num_frames
from .reading import open_channel, span_of
from .resampling import check_rate
from .streaming import Stream

# A minute at 16 kHz: enough for few calls, small enough for the cache of the machine
_BATCH_SAMPLES = 1 << 20
# Four minutes: longer utterances are read and computed in parts, so that hours of speech fit into memory.
_LONG = 1 << 22


@dataclass
class Utterance:
    """Where the audio of an utterance is; start and end in seconds, None for the whole recording."""

    key: str
    rxfilename: str
    start: float | None = None
    end: float | None = None

    def explain(self, error: UserError) -> str:
        """Return a message that names the line of ``segments``, where there is one."""
        return str(error) if self.start is None else f"line of {self.key} in segments: {error}"


def utterances(data) -> list[Utterance]:
    """Return the utterances of a data directory, sorted: those of ``segments`` if it is there, else of
    ``wav.scp``.

    Raises:
        UserError: a table is malformed, or ``utt2spk`` is there and lacks one of the utterances.
    """
    found = _utterances(data)
    if Path(f"{data}/utt2spk").exists():
        speakers = read_table(f"{data}/utt2spk")
        without = [utterance.key for utterance in found if utterance.key not in speakers]
        if without:
            raise UserError(
                f"{data}/utt2spk: {len(without)} of {len(found)} utterances have no speaker, first: "
                f"{without[0]}; add a line for each, or "
                f"take them out of all files with utils/fix_data_dir.sh {data}"
            )
    return found


def _utterances(data) -> list[Utterance]:
    recordings = read_table(f"{data}/wav.scp")
    if not Path(f"{data}/segments").exists():
        return [Utterance(*item) for item in recordings.items()]
    found = []
    for key, line in read_table(f"{data}/segments").items():
        recording, start, end = parse_segment(key, line, f"{data}/segments")
        try:
            found.append(Utterance(key, recordings[recording], start, end))
        except KeyError as error:
            raise UserError(
                f"{data}/segments: recording {error} of utterance {key} is not in {data}/wav.scp"
            ) from error
    return found


def read_samples(utterance: Utterance, options, allow_pipes: bool = False) -> np.ndarray:
    """Return the samples of an utterance at the rate of the features, (S,) float32 in the range of 16-bit
    integers.

    Args:
        options: of the features (FbankConfig or MfccConfig).
        allow_pipes: run the commands in ``wav.scp``.

    Raises:
        UserError: it cannot be read, or is of a rate that the features do not allow.
    """
    channel = None if options.channel < 0 else options.channel
    try:
        with open_channel(utterance.rxfilename, allow_pipes, channel) as audio:
            stream, *_ = _stream(utterance, audio, options)
            return stream.read(0, stream.samples)
    except UserError as error:
        raise UserError(utterance.explain(error)) from error


@dataclass(frozen=True)
class Extracted:
    """What was computed of an utterance.

    Attributes:
        features: (T, F) float32.
        energy: (T,) float32, log-energy.
        seconds: of the recording that the utterance spans.
        rate: Hz, of the recording.
        audio_hash: of the samples (:class:`HashingReader`).
    """

    key: str
    features: torch.Tensor
    energy: torch.Tensor
    seconds: float
    rate: int
    audio_hash: str


def extract(
    todo: Iterable[Utterance],
    extractor,
    dropped: dict[str, str],
    allow_pipes: bool = False,
    hashes: Callable[[str], int] | None = None,
) -> Iterator[Extracted]:
    """Yield features and log-energies of utterances, in order; read and computed in batches, and long
    utterances in parts.

    Args:
        extractor: of :data:`pydino.audio.KINDS`.
        dropped: receives the utterances that cannot be used, with the reasons.
        allow_pipes: run the commands in ``wav.scp``.
        hashes: from utterance to the number that keys its dither; None without dither.
    """
    config, batch, samples = extractor.config, [], 0
    channel = None if config.channel < 0 else config.channel
    for utterance in todo:
        try:
            with open_channel(utterance.rxfilename, allow_pipes, channel) as audio:
                stream, seconds, hashed = _stream(utterance, audio, config)
                is_long = stream.samples > _LONG
                if is_long:
                    key = 0 if hashes is None else hashes(utterance.key)
                    made = extractor.of_parts(stream.read, stream.samples, key)
                else:
                    made = stream.read(0, stream.samples)
                about = seconds, audio.rate, hashed.audio_hash()
        except UserError as error:
            dropped[utterance.key] = utterance.explain(error)
            continue
        if not is_long:
            batch.append((utterance.key, made, *about))
            samples += stream.samples
        if samples >= _BATCH_SAMPLES or is_long:
            yield from _extract_batch(batch, extractor, hashes)
            batch, samples = [], 0
        if is_long:
            yield Extracted(utterance.key, *made, *about)
    yield from _extract_batch(batch, extractor, hashes)


def _extract_batch(batch, extractor, hashes) -> Iterator[Extracted]:
    if batch:
        keys, waveforms, *about = zip(*batch, strict=True)
        made = extractor.with_energy(waveforms, None if hashes is None else [hashes(key) for key in keys])
        for values in zip(keys, *made, *about, strict=True):
            yield Extracted(*values)


def _stream(utterance: Utterance, audio, config) -> tuple[Stream, float, HashingReader]:
    """Return the samples at the rate of the features, the seconds they last, and what hashes them; raise
    UserError if they will not do.
    """
    first, last = span_of(utterance.start, utterance.end, audio.samples, audio.rate, utterance.rxfilename)
    wanted, seconds = int(config.sample_frequency), (last - first) / audio.rate
    check_rate(audio.rate, config, utterance.rxfilename)
    hashed = HashingReader(
        lambda begin, end: audio.read(first + begin, first + end), last - first, audio.rate
    )
    stream = Stream(hashed.read, last - first, audio.rate, wanted)
    if seconds < config.min_duration:
        raise UserError(
            f"{utterance.rxfilename}: {seconds:.3f} s is less than min_duration, {config.min_duration:g} s"
        )
    if num_frames(stream.samples, config) == 0:
        raise UserError(
            f"{utterance.rxfilename}: {seconds:.4f} s is too short for one window of "
            f"{config.frame_length:g} ms; leave it out of the data directory"
        )
    return stream, seconds, hashed
