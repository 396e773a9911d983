"""MPEG audio (ISO 11172-3, 13818-3): every frame counted by its header.

Without a Xing, Info or VBRI frame at its beginning, decoders estimate how many samples an MP3 has from the
size of the file and the bit rate of the first frame, which is wrong by any factor where the bit rate varies.
So the frames are counted here, and the decoder gets a Xing frame with their number where there is none, or a
wrong one (that of the first of several concatenated files).
"""

import re
import struct

from .container import Container, cut_short
from .source import Source

_KBPS = {  # (MPEG-1, layer) -> kbit/s by index
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAME = 0xFFFE0C00  # bits of a header that all frames of a file share: sync, version, layer, sample rate
_SEARCH = 1 << 16  # bytes in which the first frame is looked for
_BLOCK = 1 << 20
_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3")


def parse_mpeg(source: Source, where: str) -> Container | None:
    """Return the container, or None if there is no MPEG audio.

    Raises:
        UserError: it ends inside a frame, or has fewer frames than its first states.
    """
    begin, first = _first_frame(source)
    if first is None:
        return None
    frames, clean = _count(source, begin, first, where)
    size = _frame_size(first)
    stated = _stated_frames(source.at(begin, size), first)
    if (first >> 17) & 3 != 1:  # layers I and II have no Xing frame
        return Container("mp3", begin, source.length, exact=False)
    if stated is None:
        return Container("mp3", begin, source.length, _xing_frame(first, frames), exact=clean)
    frames -= 1  # the Xing frame itself has no samples
    if stated > frames + 1:
        raise cut_short(where, f"its first frame states {stated} frames but {frames} follow")
    if stated == frames:
        return Container("mp3", begin, source.length, exact=clean)
    return Container("mp3", begin + size, source.length, _xing_frame(first, frames), exact=clean)


def _frame_size(header: int) -> int | None:
    """Return the bytes of a frame, or None if that is no header of one (or of free format)."""
    version, layer = header >> 19 & 3, 4 - (header >> 17 & 3)
    index, rate, padding = header >> 12 & 15, header >> 10 & 3, header >> 9 & 1
    if header >> 21 != 0x7FF or version == 1 or layer == 4 or index in (0, 15) or rate == 3:
        return None
    bits = _KBPS[version == 3, layer][index] * 1000
    hertz = (44100, 48000, 32000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    if layer == 1:
        return (12 * bits // hertz + padding) * 4
    return (72 if layer == 3 and version != 3 else 144) * bits // hertz + padding


def _first_frame(source: Source) -> tuple[int, int | None]:
    """Return where the first of two frames in a row begins, and its header."""
    head = source.at(0, _SEARCH)
    for match in re.finditer(rb"\xff(?=[\xe0-\xff])", head):
        place = match.start()
        header = int.from_bytes(head[place : place + 4], "big")
        size = _frame_size(header) if place + 4 <= len(head) else None
        if size is None:
            continue
        following = source.at(place + size, 4)
        if len(following) < 4 and place == 0 and place + size <= source.length:
            return place, header  # the only frame
        if len(following) == 4 and (int.from_bytes(following, "big") ^ header) & _SAME == 0:
            return place, header
    return 0, None


def _count(source: Source, begin: int, first: int, where: str) -> tuple[int, bool]:
    """Return the number of frames, and whether nothing but tags is between and after them."""
    sizes: dict[int, int | None] = {}  # by the bits of the header that determine it
    frames, clean, place, start, block = 0, True, begin, begin, b""
    while place + 4 <= source.length:
        at = place - start
        if at + 4 > len(block):
            start, at = place, 0
            block = source.at(start, _BLOCK)
        header = int.from_bytes(block[at : at + 4], "big")
        key = header >> 9
        if key not in sizes:
            sizes[key] = None if (header ^ first) & _SAME else _frame_size(header)
        size = sizes[key]
        if size is not None:
            place += size
            frames += 1
            continue
        tag = block[at : at + 11]
        if tag.startswith(b"TAG"):
            place += 128
        elif tag.startswith(_TAGS[1:]) or not any(source.at(place, 4096)):
            following = _next_frame(source, place, first)
            place = source.length if following is None else following
        else:
            following = _next_frame(source, place, first)
            clean, place = False, source.length if following is None else following
    if place > source.length and frames and source.at(source.length - 128, 3) != b"TAG":
        raise cut_short(where, f"{place - source.length} bytes of its last MPEG frame are missing")
    return frames, clean


def _next_frame(source: Source, place: int, first: int) -> int | None:
    """Return where the next of two frames in a row begins, or None."""
    while place < source.length:
        block = source.at(place, _BLOCK)
        for match in re.finditer(rb"\xff(?=[\xe0-\xff])", block):
            header = int.from_bytes(block[match.start() : match.start() + 4], "big")
            size = None if (header ^ first) & _SAME else _frame_size(header)
            if size is None:
                continue
            at = place + match.start()
            following = source.at(at + size, 4)
            if (
                len(following) == 4
                and not (int.from_bytes(following, "big") ^ first) & _SAME
                or at + size == source.length
            ):
                return at
        place += max(len(block) - 3, 1)
    return None


def _side_information(header: int) -> int:
    """Bytes between the header and the main data of a frame of layer III."""
    mono = header >> 6 & 3 == 3
    return (17 if mono else 32) if header >> 19 & 3 == 3 else (9 if mono else 17)


def _stated_frames(frame: bytes, header: int) -> int | None:
    """Return the number of frames that a Xing, Info or VBRI frame states, or None if this is none of them."""
    place = 4 + _side_information(header)
    if frame[place : place + 4] in (b"Xing", b"Info"):
        flags, frames = struct.unpack_from(">II", frame.ljust(place + 12, b"\0"), place + 4)
        return frames if flags & 1 else 0
    if frame[36:40] == b"VBRI":
        return struct.unpack_from(">I", frame.ljust(54, b"\0"), 50)[0]
    return None


def _xing_frame(header: int, frames: int) -> bytes:
    """Return a silent frame with the format of ``header`` that states the number of frames that follow."""
    header = header & ~(0xF << 12 | 1 << 9) | 8 << 12 | 1 << 16  # 64 or 112 kbit/s, no padding, no checksum
    size = _frame_size(header)
    assert size is not None
    frame = (
        header.to_bytes(4, "big") + bytes(_side_information(header)) + b"Xing" + struct.pack(">II", 1, frames)
    )
    return frame.ljust(size, b"\0")
