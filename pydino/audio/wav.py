"""Plain 16-bit PCM in RIFF WAVE: the fast path of reading, as fast as np.frombuffer."""

import struct
from dataclasses import dataclass

import numpy as np

from pydino.base import UserError

_PCM, _EXTENSIBLE = 1, 0xFFFE
# sizes written by programs that could not seek back (SoX, ffmpeg)
_ENDLESS = (0, 0x7FFFF000, 0x7FFFFFFF, 0x7FFFFFFE, 0xFFFFFFFF)


@dataclass
class WavHeader:
    """What the header of a WAVE stream says; ``data`` is where the samples begin, counted from the start of
    the RIFF header.
    """

    rate: int
    channels: int
    data: int
    size: int  # bytes of samples, or -1 if the writer could not tell


def parse_header(head: bytes, where: str) -> WavHeader | None:
    """Return the header of 16-bit PCM WAVE whose first kilobytes are ``head``, or None if it is anything
    else.

    Raises:
        UserError: RIFF WAVE, but damaged.
    """
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    position, form = 12, None
    while position + 8 <= len(head):
        name, size = struct.unpack_from("<4sI", head, position)
        position += 8
        if name == b"data":
            if form is None:
                raise UserError(
                    f"{where}: no format before the samples in its WAVE header; it is damaged, make it again"
                )
            channels, rate = form
            return WavHeader(rate, channels, position, -1 if size in _ENDLESS else size)
        if name == b"fmt ":
            if position + 16 > len(head):
                return None
            code, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", head, position)
            if code == _EXTENSIBLE and size >= 26 and position + 26 <= len(head):
                code = struct.unpack_from("<H", head, position + 24)[0]
            if code != _PCM or bits != 16 or not channels or not rate:
                return None
            form = (channels, rate)
        position += size + size % 2
    return None


def read_pcm(stream, length: int, where: str, choose):
    """Read from a seekable binary ``stream`` of ``length`` bytes, at its start.

    Args:
        choose: callable (samples, rate) -> (first, last) of each part that is wanted, in samples.

    Returns:
        (list of samples (S, channels) int16, rate), or None if the stream is not 16-bit PCM WAVE.

    Raises:
        UserError: the samples end before the header says they do.
    """
    base = stream.tell()
    head = stream.read(4096)
    header = parse_header(head, where)
    if header is None:
        stream.seek(base)
        return None
    frame = 2 * header.channels
    there = length - base - header.data
    size = there if header.size < 0 else header.size
    if size > there:
        raise UserError(
            f"{where}: its header promises {size} bytes of samples but {max(there, 0)} follow: a truncated "
            "copy; copy or make it again"
        )
    parts, at = [], len(head)  # where the stream stands, counted from base
    for first, last in choose(size // frame, header.rate):
        begin, stop = header.data + first * frame, header.data + last * frame
        content = head[begin:stop]  # what is here already need not be read again
        if stop > len(head):
            if begin + len(content) != at:
                stream.seek(base + begin + len(content))
            content += stream.read(stop - begin - len(content))
            at = stop
        if len(content) < stop - begin:
            raise UserError(
                f"{where}: it became shorter while it was read; try again when whoever writes it is done"
            )
        parts.append(np.frombuffer(content, dtype="<i2").reshape(-1, header.channels))
    return parts, header.rate
