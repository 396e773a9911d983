"""A pre-training directory as the source of training on audio: waveforms with the silence removed.

Speech frames are the frames that VAD kept, counted from 0, or all of them where silence is kept. The samples
from i * shift to (i + 1) * shift belong to frame i of an utterance, all that remain to the last frame, at the
sample rate of the features. As in :class:`TrainingSet`, the order, and every draw, depend on the hash in
``utt2hash``; names are used only to look up an utterance in another table.
"""

import math
from pathlib import Path

import numpy as np
import torch

from pydino.audio import check_rate, needed_samples, num_frames, read_parts, resample, span_of
from pydino.base import UserError
from pydino.kaldi import read_table
from pydino.kaldi.segments import parse_segment

from .training_dir import REMEDY, check_current, read_hashes, read_voiced
from .training_set import check_unlabelled
from .waveforms import Waveforms

_SEEK = 1.0  # seconds: parts of a recording with a smaller gap are read as one


class AudioSet:
    """Audio of a pre-training directory. It holds no open file, so that it can be sent to other processes.

    Args:
        data: directory with wav.scp, utt2hash, utt2num_frames, segments where recordings contain several
            utterances, and vad.scp unless silence is kept.
        options: FrameOptions (FbankConfig or MfccConfig) that the features of ``data`` were computed with:
            rate, frames, channel.
        context: seconds before each crop that are read too, for reverberation that extends into it.
        allow_pipes: run the commands in wav.scp; they come with the data.
        only: hashes of the utterances to take; None: all.

    Attributes:
        hashes: (N,) uint64, ascending: the order of everything else here.
        lengths: (N,) speech frames.

    Raises:
        UserError: labels, missing files or keys, two utterances of one hash, or an utterance without a voiced
            frame.
    """

    def __init__(
        self,
        data,
        options,
        context: float = 0.5,
        allow_pipes: bool = False,
        only: np.ndarray | None = None,
    ):
        data = Path(data)
        check_unlabelled(data)
        check_current(data)
        self.options, self.context, self.allow_pipes = options, context, allow_pipes
        self.hashes, keys = read_hashes(data, only)
        self._read_places(data, keys)
        self._frames = np.array(
            [int(frames) for frames in _entries(data / "utt2num_frames", keys)], dtype=np.int64
        )
        self._packed = self._packed_at = None
        self.lengths = self._frames
        if (data / "vad.scp").exists():
            self._read_voiced(data, keys)

    def __len__(self) -> int:
        return len(self.hashes)

    def _read_places(self, data: Path, keys: list[str]) -> None:
        """Read where the audio of each utterance is: its recording, and start and end where there are
        segments.
        """
        if not (data / "wav.scp").exists():
            raise UserError(f"no {data}/wav.scp, which training on audio needs; {REMEDY} (stage 3)")
        self._segments = None  # (N, 2) seconds
        if (data / "segments").exists():
            path = data / "segments"
            lines = zip(keys, _entries(path, keys), strict=True)
            segments = [parse_segment(key, rest, path) for key, rest in lines]
            self._segments = np.array([times for _, *times in segments]).reshape(len(keys), 2)
            keys = [recording for recording, *_ in segments]
        self._recordings = _entries(data / "wav.scp", keys)

    def _read_voiced(self, data: Path, keys: list[str]) -> None:
        """Read the VAD decisions of all utterances into one bit array: 100 MB for a million of 8 s."""
        ends = np.cumsum((self._frames + 7) // 8)
        self._packed, self._packed_at = np.zeros(ends[-1], dtype=np.uint8), np.concatenate([[0], ends])
        self.lengths = np.zeros(len(keys), dtype=np.int64)
        for place, voiced in read_voiced(data, keys, self._frames.__getitem__):
            self.lengths[place] = np.count_nonzero(voiced)
            self._packed[self._packed_at[place] : self._packed_at[place + 1]] = np.packbits(voiced)

    def collect(
        self, indices: np.ndarray, starts: np.ndarray, sizes: np.ndarray, factors: np.ndarray | None = None
    ) -> Waveforms:
        """Read the audio that the crops of a batch need: one piece of each utterance, silence removed, opened
        once.

        Where the crops of an utterance are far apart, the audio between them is omitted; the samples that a
        crop needs before and after it (half a window, the length of the resampling filter, the context) are
        always included, as far as they exist. If a crop is longer than the utterance, the piece is the whole
        utterance, and the crop wraps around.

        Args:
            indices: (B,) utterances.
            starts: (B, V) speech frames.
            sizes: (V,) frames of each crop.
            factors: (B,) speed factors: a crop of L frames spans L * factor speech frames. None: all 1.

        Raises:
            UserError: a recording that is missing, damaged, of a rate that the features do not allow, or
                changed since they were computed.
        """
        factors = np.ones(len(indices)) if factors is None else np.asarray(factors, dtype=np.float64)
        spans = np.ceil(np.outer(factors, sizes) - 1e-6).astype(np.int64)
        # A window exceeds its frame by at most its length minus the shift.
        margins = (
            np.ceil(np.maximum(factors, 1.0) * (self.options.window_size / self.options.window_shift)).astype(
                np.int64
            )
            + 1
        )
        contexts = margins + np.ceil(factors * self.context * 1000 / self.options.frame_shift).astype(
            np.int64
        )
        firsts = np.maximum(starts - contexts[:, None], 0)
        ends = starts + spans
        lengths = self.lengths[indices][:, None]
        wraps = (ends > lengths).any(axis=1)
        ends = np.minimum(ends + margins[:, None], lengths)
        firsts[wraps], ends[wraps] = 0, lengths[wraps]

        plans = [self._merge(first, end) for first, end in zip(firsts.tolist(), ends.tolist(), strict=True)]
        pieces = _Buffer(sum(end - first for plan in plans for first, end in plan), len(plans), self.options)
        placed = np.empty_like(starts, dtype=np.int64)
        for row, (index, plan) in enumerate(zip(indices.tolist(), plans, strict=True)):
            for part, voiced in self._read(index, plan):
                pieces.add(part, voiced)
            pieces.end()
            begins = np.array([first for first, _ in plan])
            before = np.cumsum([0, *(end - first for first, end in plan[:-1])])
            which = np.searchsorted(begins, starts[row], side="right") - 1
            placed[row] = (starts[row] - begins[which] + before[which]) * self.options.window_shift
        return pieces.waveforms(placed, np.asarray(sizes, dtype=np.int64))

    def _merge(self, firsts: list[int], ends: list[int]) -> list[tuple[int, int]]:
        """Merge intervals of speech frames that overlap or are close."""
        gap = _SEEK * 1000 / self.options.frame_shift
        merged: list[tuple[int, int]] = []
        for first, end in sorted(zip(firsts, ends, strict=True)):
            if merged and first <= merged[-1][1] + gap:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((first, end))
        return merged

    def _read(self, index: int, plan: list[tuple[int, int]]):
        """Yield the samples of intervals of speech frames of an utterance, silence included, and which of
        their frames are speech.

        The frames are (T,), counted from the first of the interval, or None where all are speech.
        """
        speech = None
        if self._packed is not None and self.lengths[index] < self._frames[index]:
            bits = self._packed[self._packed_at[index] : self._packed_at[index + 1]]
            speech = np.flatnonzero(np.unpackbits(bits, count=int(self._frames[index])))
        spans = (
            plan
            if speech is None
            else [(int(speech[first]), int(speech[end - 1]) + 1) for first, end in plan]
        )
        found: list[tuple[int, int, slice]] = []

        def choose(total: int, rate: int) -> list[tuple[int, int]]:
            found.extend(self._locate(index, spans, total, rate))
            return [(begin, stop) for begin, stop, _ in found]

        channel = None if self.options.channel < 0 else self.options.channel
        parts, rate = read_parts(self._recordings[index], choose, self.allow_pipes, channel)
        for part, (first, end), span, (_, _, wanted) in zip(parts, plan, spans, found, strict=True):
            part = resample(part, rate, int(self.options.sample_frequency))[wanted] if wanted else part
            yield part, None if end - first == span[1] - span[0] else speech[first:end] - span[0]

    def _locate(self, index: int, spans: list[tuple[int, int]], total: int, rate: int):
        """Yield (first, last + 1, part) of each span of frames: samples of the recording and, where it is
        resampled, the part of the result to keep.
        """
        options, where = self.options, self._recordings[index]
        check_rate(rate, options, where)
        times = (None, None) if self._segments is None else self._segments[index].tolist()
        offset, last = span_of(*times, total, rate, where)
        here, wanted = last - offset, int(options.sample_frequency)
        there = math.ceil(here * wanted / rate)  # samples at the rate of the features
        frames = num_frames(there, options)
        if frames != self._frames[index]:
            raise UserError(
                f"{where}: {here / rate:.3f} s of audio are {frames} frames, not the {self._frames[index]} "
                "of its features; it has changed since: recompute the features (stages 2 and 3)"
            )
        for begin, end in spans:
            first, last = begin * options.window_shift, there if end == frames else end * options.window_shift
            if rate == wanted:
                yield offset + first, offset + last, None
                continue
            begin, end, skip = needed_samples(first, last, here, rate, wanted)
            yield offset + begin, offset + end, slice(skip, skip + last - first)


class _Buffer:
    """The pieces of a batch, concatenated in one array.

    Args:
        frames: of all pieces together.
        pieces: their number.
        options: FrameOptions.
    """

    def __init__(self, frames: int, pieces: int, options):
        self._shift = options.window_shift
        # The last frame of an utterance may have more samples than a shift, but fewer than a shift and a
        # window.
        self._samples = np.empty(
            frames * self._shift + pieces * (self._shift + options.window_size), dtype=np.int16
        )
        self._at, self._ends = 0, [0]

    def add(self, samples: np.ndarray, frames: np.ndarray | None) -> None:
        """Append the samples of these frames, ascending, or all; the remaining samples belong to the last
        frame.
        """
        if samples.dtype != self._samples.dtype:  # float from the first float recording on
            self._samples, samples = (
                self._samples.astype(np.float32, copy=False),
                samples.astype(np.float32, copy=False),
            )
        if frames is not None:
            whole, rest = frames[:-1], samples[frames[-1] * self._shift :]
            rows = samples[: len(samples) // self._shift * self._shift].reshape(-1, self._shift)
            out = self._samples[self._at : self._at + len(whole) * self._shift].reshape(-1, self._shift)
            np.take(rows, whole, axis=0, out=out, mode="clip")  # writes directly to ``out``
            self._at += out.size
            samples = rest
        self._samples[self._at : self._at + len(samples)] = samples
        self._at += len(samples)

    def end(self) -> None:
        """End a piece."""
        self._ends.append(self._at)

    def waveforms(self, starts: np.ndarray, sizes: np.ndarray) -> Waveforms:
        """Return the batch; starts (B, V) in samples of each piece, sizes (V,) in frames."""
        ends = np.array(self._ends, dtype=np.int64)
        return Waveforms(torch.from_numpy(self._samples[: self._at]), ends[:-1], np.diff(ends), starts, sizes)


def _entries(path: Path, keys: list[str]) -> list[str]:
    """Return the entries of a table for ``keys``; raise UserError for a missing one."""
    table = read_table(path)
    try:
        return [table[key] for key in keys]
    except KeyError as error:
        raise UserError(f"{path}: {error} is not in it; {REMEDY}") from error
