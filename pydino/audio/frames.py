"""Cutting waveforms into windows (Kaldi's feat/feature-window.cc), many utterances at once.

Axes: R rows, one for each window; N samples of a window.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch


def num_frames(samples: int, options) -> int:
    """Return the number of windows of an utterance of ``samples`` samples."""
    size, shift = options.window_size, options.window_shift
    if options.snip_edges:
        return 0 if samples < size else 1 + (samples - size) // shift
    return (samples + shift // 2) // shift


def samples_of_frames(samples: torch.Tensor, options) -> torch.Tensor:
    """Return the samples of each frame, (T, H) with H the shift: those up to the beginning of the next one.

    What remains after the last frame is omitted; where that one is not complete, the end is mirrored, as in
    the windows of features.

    Args:
        samples: (S,).
        options: FrameOptions.
    """
    frames, shift = num_frames(len(samples), options), options.window_shift
    lacking = frames * shift - len(samples)
    if lacking > 0:
        samples = torch.cat([samples, samples[-lacking:].flip(0)])
    return samples[: frames * shift].view(frames, shift)


def window(options) -> torch.Tensor:
    """Return the window function, (N,) float32; a = 2 pi / (N - 1), so both ends are on the curve."""
    size = options.window_size
    phase = 2.0 * math.pi / (size - 1) * torch.arange(size, dtype=torch.float64)
    hanning = 0.5 - 0.5 * torch.cos(phase)
    curve = {
        "povey": lambda: hanning**0.85,
        "hanning": lambda: hanning,
        "hamming": lambda: 0.54 - 0.46 * torch.cos(phase),
        "sine": lambda: torch.sin(0.5 * phase),
        "rectangular": lambda: torch.ones_like(phase),
        "blackman": lambda: (
            options.blackman_coeff
            - 0.5 * torch.cos(phase)
            + (0.5 - options.blackman_coeff) * torch.cos(2 * phase)
        ),
    }
    return curve[options.window_type]().float()


@dataclass
class Windows:
    """Windows of many utterances in one flat buffer: row r begins at sample r * shift.

    Every utterance begins at a whole number of shifts, so that one strided view gives all windows of all
    utterances, without a copy, a gather or padding to the longest. The last rows before the next utterance
    reach into it and are ignored; there are two to an utterance with 25 ms windows every 10 ms.
    """

    samples: torch.Tensor  # float32
    first: list[int]  # first row of each utterance
    count: list[int]  # rows of each utterance
    rows: int  # rows in all
    size: int
    shift: int

    def view(self, start: int, stop: int) -> torch.Tensor:
        """Return rows start to stop, (stop - start, N), as a view of the buffer."""
        return self.samples.as_strided((stop - start, self.size), (self.shift, 1), start * self.shift)

    def cut(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """Split something that has one entry per row into one part per utterance."""
        return [rows[first : first + count] for first, count in zip(self.first, self.count, strict=True)]


def lay_out(waveforms, options, device) -> Windows:
    """Lay waveforms (each (S,), in the range of 16-bit integers) one after another in a buffer on the device.

    Without snip_edges, window f is centred on sample (f + 1/2) * shift, and what lies outside the waveform is
    mirrored at its ends, repeatedly if it is short (sample -1 is sample 0, sample S is sample S - 1).
    """
    size, shift = options.window_size, options.window_shift
    counts = [num_frames(len(waveform), options) for waveform in waveforms]
    first, rows = [], 0
    for count in counts:
        first.append(rows)
        rows += count + math.ceil((size - shift) / shift) if count and size > shift else count
    flat = torch.zeros(max(rows - 1, 0) * shift + size, device=device)
    for waveform, row, count in zip(waveforms, first, counts, strict=True):
        if count:
            waveform = torch.as_tensor(waveform)
            _fill(
                flat[row * shift :],
                lambda *span, x=waveform: x[slice(*span)],
                len(waveform),
                range(count),
                options,
            )
    return Windows(flat, first, counts, rows, size, shift)


def lay_out_part(read, total: int, rows: range, options, device) -> Windows:
    """Lay out some windows of one waveform that is not in memory as a whole.

    Args:
        read: callable (first, last) -> array or tensor of samples [first, last).
        total: samples of the waveform.
        rows: which of its windows, one or more.
    """
    size, shift = options.window_size, options.window_shift
    flat = torch.zeros((len(rows) - 1) * shift + size, device=device)
    _fill(flat, read, total, rows, options)
    return Windows(flat, [0], [len(rows)], len(rows), size, shift)


def _fill(flat: torch.Tensor, read, total: int, rows: range, options) -> None:
    """Fill ``flat`` from its beginning with the samples of windows ``rows`` of a waveform."""
    size, shift = options.window_size, options.window_shift
    zero = 0 if options.snip_edges else shift // 2 - size // 2  # where window 0 begins in the waveform
    begin, end = zero + rows.start * shift, zero + (rows.stop - 1) * shift + size
    first, last = max(begin, 0), min(end, total)
    flat[first - begin : last - begin] = torch.as_tensor(read(first, last))
    for outside in (range(begin, min(0, end)), range(max(total, begin), end)):
        if len(outside):
            mirrored = _mirror(np.asarray(outside), total)
            least = int(mirrored.min())
            samples = torch.as_tensor(read(least, int(mirrored.max()) + 1))
            flat[outside.start - begin : outside.stop - begin] = samples[
                torch.from_numpy(mirrored - least).to(samples.device)
            ].to(flat)


def even_windows(waves: torch.Tensor, options) -> Windows:
    """Lay waveforms of one length, (N, S), one after another; only windows that fit, the same number of each,
    at least one.
    """
    size, shift = options.window_size, options.window_shift
    count = 1 + (waves.shape[1] - size) // shift
    rows = count + max(0, math.ceil((size - shift) / shift))  # from one waveform to the next
    flat = torch.empty(len(waves) * rows * shift + max(size - shift, 0), device=waves.device)
    body, inside = flat[: len(waves) * rows * shift], (count - 1) * shift + size
    body.view(len(waves), -1)[:, :inside] = waves[:, :inside]
    body.view(len(waves), -1)[:, inside:] = 0
    flat[len(body) :] = 0
    return Windows(
        flat, [i * rows for i in range(len(waves))], [count] * len(waves), len(waves) * rows, size, shift
    )


def _mirror(index: np.ndarray, total: int) -> np.ndarray:
    index = index % (2 * total)
    return np.where(index < total, index, 2 * total - 1 - index)
