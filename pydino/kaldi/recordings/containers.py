"""Detects the container of an audio file, and whether the file is complete.

A format is supported if a truncated copy can be recognised: by the size in its header, by its last
page or frame, or, for FLAC, by the decoder. All sizes are in bytes.
"""

import re
import struct

from pydino.base import UserError

from .container import Container, cut_short, is_unknown, truncated
from .mpeg import parse_mpeg
from .riff import W64_MAGIC, parse_riff, parse_w64
from .source import Source

READ = "WAV, RF64, W64, AIFF, AU, CAF, NIST SPHERE, FLAC, Ogg Vorbis and Opus, MP3"


def examine(source: Source, where: str) -> Container:
    """Return the container of an audio file; ``source`` is moved past an ID3v2 tag at its beginning.

    Raises:
        UserError: empty, truncated, damaged or of an unsupported format; names ``where``.
    """
    while (tag := _tag_size(source.at(0, 10))) and tag < source.length:
        source.skip(tag)
    magic = source.at(0, 16)
    if magic[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and magic[8:12] == b"WAVE":
        return parse_riff(source, where)
    if magic == W64_MAGIC:
        return parse_w64(source, where)
    if magic[:4] == b"FORM" and magic[8:12] in (b"AIFF", b"AIFC"):
        return _parse_aiff(source, where)
    parsers = {
        b".snd": _parse_au,
        b"dns.": _parse_au,
        b"caff": _parse_caf,
        b"NIST": _parse_sphere,
        b"OggS": _parse_ogg,
        b"fLaC": lambda source, where: Container("flac", 0, source.length),
    }
    container = parsers.get(magic[:4], parse_mpeg)(source, where)
    if container is None:
        raise UserError(
            f"{where}: cannot be decoded: truncated or damaged, or not of a supported format "
            f"({READ}); copy it again, or convert it: sox IN OUT.wav"
        )
    return container


def _tag_size(head: bytes) -> int:
    """Size of an ID3v2 tag, or 0. The sizes in it have 7 bits a byte."""
    if len(head) < 10 or head[:3] != b"ID3" or max(head[6:10]) > 127:
        return 0
    a, b, c, d = head[6:10]
    return 10 + (a << 21 | b << 14 | c << 7 | d) + (10 if head[5] & 0x10 else 0)


def _parse_aiff(source: Source, where: str) -> Container:
    position, common = 12, None
    while len(head := source.at(position, 8)) == 8:
        name, size = struct.unpack(">4sI", head)
        position += 8
        there = source.length - position
        if name == b"COMM":
            common = position
        if name == b"SSND":
            if size <= there and size > 8:
                return Container("aiff", 0, source.length)
            from_sox = 0x7F000000 <= size <= 0x7F000010
            if not from_sox and size > 8 and not is_unknown(size):
                raise truncated(where, size - 8, max(there - 8, 0))
            return _until_the_end_of_aiff(source, position, common, where)
        position += size + size % 2
    raise cut_short(where, "its AIFF header ends before the samples")


def _until_the_end_of_aiff(source: Source, position: int, common: int | None, where: str) -> Container:
    """AIFF whose writer did not know the length: with the sizes in its header corrected."""
    if common is None:
        raise cut_short(where, "no format before the samples in its AIFF header")
    head, size = bytearray(source.at(0, position + 8)), source.length - position
    channels, _, bits = struct.unpack_from(">hIh", head, common)
    frame = channels * ((bits + 7) // 8)
    struct.pack_into(">I", head, 4, source.length - 8)
    struct.pack_into(">I", head, common + 2, max(size - 8, 0) // max(frame, 1))
    struct.pack_into(">I", head, position - 4, size)
    return Container("aiff", len(head), source.length, bytes(head))


def _parse_au(source: Source, where: str) -> Container:
    head = bytearray(source.at(0, 24))
    order = ">" if head[:1] == b"." else "<"
    if len(head) < 24:
        raise cut_short(where, "its AU header is incomplete")
    begin, size = struct.unpack_from(f"{order}II", head, 4)
    there = max(source.length - begin, 0)
    if size and size <= there:
        return Container("au", 0, begin + size)
    if not is_unknown(size):
        raise truncated(where, size, there)
    struct.pack_into(f"{order}I", head, 8, there)
    return Container("au", 24, source.length, bytes(head))


def _parse_caf(source: Source, where: str) -> Container:
    position, there = 8, None
    while len(head := source.at(position, 12)) == 12:
        name, size = struct.unpack(">4sq", head)
        position += 12
        there = source.length - position
        if name == b"data" and (size == 0 or is_unknown(size & 0xFFFFFFFFFFFFFFFF)) and size != there:
            head = source.at(0, position - 8) + struct.pack(">q", there)
            return Container("caf", position, source.length, head)
        if size > there:
            raise truncated(where, size, there)
        if size < 0:
            break
        position += size
    if there is None or position != source.length:
        raise cut_short(where, "it ends inside a chunk")
    return Container("caf", 0, source.length)


def _parse_sphere(source: Source, where: str) -> Container:
    lines = source.at(0, 16).split(b"\n")
    begin = int(lines[1]) if len(lines) > 1 and lines[1].strip().isdigit() else 1024
    text = source.at(0, begin).decode("latin-1")
    if "end_head" not in text:
        raise cut_short(where, "its SPHERE header is incomplete")
    if re.search(r"^sample_coding .*(shorten|wavpack|shortpack)", text, re.MULTILINE):
        raise UserError(
            f"{where}: compressed samples in NIST SPHERE are not supported; convert it: "
            "sph2pipe -f wav IN OUT.wav"
        )
    fields = {name: int(value) for name, value in re.findall(r"^(\w+) -\w+ (\d+)\s*$", text, re.MULTILINE)}
    there = source.length - begin
    count = fields.get("sample_count", 0)
    size = count * fields.get("channel_count", 1) * fields.get("sample_n_bytes", 2)
    if size > there and not is_unknown(count):
        raise truncated(where, size, max(there, 0))
    return Container("sphere", 0, begin + size if 0 < size <= there else source.length)


def _parse_ogg(source: Source, where: str) -> Container:
    """Ogg (RFC 3533): the last page must be complete, and marked as the last of its stream."""
    start = max(source.length - 2 * 65307, 0)  # twice the largest page
    tail = source.at(start, source.length - start)
    place = tail.rfind(b"OggS\0")
    page = tail[place:]
    segments = page[26] if place >= 0 and len(page) > 26 else 0
    if place < 0 or len(page) < 27 + segments or len(page) < 27 + segments + sum(page[27 : 27 + segments]):
        raise cut_short(where, "its last Ogg page is incomplete")
    if not page[5] & 4:
        raise cut_short(
            where,
            "its last Ogg page is not marked as the end of the stream (if the recorder left it so: "
            "ffmpeg -i IN -c copy OUT.ogg)",
        )
    return Container("ogg", 0, source.length)
