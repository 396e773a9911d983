"""WAVE in its three containers: RIFF (and big-endian RIFX), RF64 (EBU Tech 3306), Sony Wave64.

The only parser of their headers. Decoders get a plain RIFF or RF64 header built from its result, so that what
they read does not depend on how they interpret sizes that the writer could not know.
"""

import re
import struct

from pydino.base import UserError

from .container import Container, is_unknown, truncated

_PCM, _EXTENSIBLE = 1, 0xFFFE
_W64_END = bytes.fromhex(
    "f3acd3118cd100c04f8edb8a"
)  # of the GUID of a chunk; its first four bytes are the name
W64_MAGIC = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000")
# Chunks that programs write after the samples. Where the size of the samples is unknown, such chunks at the
# end of the file are not taken for samples.
_TRAILERS = (
    b"LIST|INFO|id3 |ID3 |bext|iXML|axml|chna|cue |plst|smpl|inst|fact|PEAK|JUNK|junk|PAD |FLLR|afsp|DISP"
    b"|acid|strc|levl|umid|minf|elm1|regn|link|SAUR|_PMX|aXML|CHNA|MD5 |ds64|cart|wamd|guan"
)
_TAIL = 1 << 20  # bytes at the end of the file that are searched for them


def parse_riff(source, where: str) -> Container:
    """Return the container of RIFF, RIFX, RF64 or BW64.

    Raises:
        UserError: no format or no samples in it, or fewer samples than its header states.
    """
    order = ">" if source.at(0, 4) == b"RIFX" else "<"
    position, form, fact, long_size = 12, None, b"", None
    while len(head := source.at(position, 8)) == 8:
        name, size = struct.unpack(f"{order}4sI", head)
        position += 8
        if name == b"data":
            begin, size = position, long_size if size == 0xFFFFFFFF and long_size is not None else size
            _check_format(form, where)
            end = _end(source, begin, size, order, where)
            return _container(form, fact, order, begin, end)
        if name == b"ds64":
            long_size = struct.unpack("<8xQ", source.at(position, 16).ljust(16, b"\0"))[0]
        elif name == b"fmt ":
            form = source.at(position, min(size, 1024))
        elif name == b"fact":
            fact = source.at(position, min(size, 4))
        position += size
        if size % 2:  # a chunk of odd size is padded; some writers forget it
            following = source.at(position, 5)
            position += 0 if re.match(rb"data|fmt |fact|" + _TRAILERS, following) else 1
    raise UserError(
        f"{where}: no samples in it, its WAVE header ends before them: truncated or damaged; copy "
        "or regenerate it"
    )


def parse_w64(source, where: str) -> Container:
    """Return the container of Sony Wave64: chunks of a GUID of 16 bytes and a 64-bit size that counts both,
    each beginning at a multiple of 8 bytes.

    Raises:
        UserError: as :func:`parse_riff`.
    """
    position, form = 40, None
    while len(head := source.at(position, 24)) == 24:
        name, size = head[:4], struct.unpack("<Q", head[16:])[0]
        if head[4:16] != _W64_END:
            break
        if name == b"data":
            _check_format(form, where)
            begin = position + 24
            end = _end(source, begin, max(size - 24, 0), None, where)
            return _container(form, b"", "<", begin, end)
        if name == b"fmt ":
            form = source.at(position + 24, min(max(size - 24, 0), 1024))
        if size < 24:
            break
        position += (size + 7) // 8 * 8
    raise UserError(
        f"{where}: no samples in it, its Wave64 header ends before them: truncated or damaged; copy "
        "or regenerate it"
    )


def _check_format(form: bytes | None, where: str) -> None:
    if form is None or len(form) < 16:
        raise UserError(
            f"{where}: no format before the samples in its WAVE header; it is damaged, regenerate it"
        )


def _end(source, begin: int, size: int, order: str | None, where: str) -> int:
    """Return where the samples end."""
    there = max(source.length - begin, 0)
    if size and size <= there:
        return begin + size
    if size and not is_unknown(size):
        raise truncated(where, size, there)
    return source.length if order is None else _trailers(source, begin, order)


def _trailers(source, begin: int, order: str) -> int:
    """Return where the chunks after the samples begin: at the first known name from which the chunks end
    exactly at the end of the file; if there is none, that end.
    """
    start = max(begin, source.length - _TAIL)
    tail = source.at(start, source.length - start)
    names = re.compile(_TRAILERS)

    def leads_to_the_end(place: int) -> bool:
        while place + 8 <= len(tail) and names.match(tail, place):
            size = struct.unpack_from(f"{order}I", tail, place + 4)[0]
            place += 8 + size
            if place == len(tail):
                return True
            place += size % 2
        return place == len(tail)

    found = (match.start() for match in names.finditer(tail) if leads_to_the_end(match.start()))
    return start + next(found, len(tail))


def _container(form: bytes, fact: bytes, order: str, begin: int, end: int) -> Container:
    code, channels, rate, _, _, bits = struct.unpack_from(f"{order}HHIIHH", form)
    if code == _EXTENSIBLE and len(form) >= 26:
        code = struct.unpack_from(f"{order}H", form, 24)[0]
    pcm = (rate, channels) if (code, bits, order) == (_PCM, 16, "<") and channels and rate else None
    chunks = _chunk(order, b"fmt ", form) + (_chunk(order, b"fact", fact) if len(fact) == 4 else b"")
    size = end - begin
    if size < 0xFFFF0000:
        magic = b"RIFF" if order == "<" else b"RIFX"
        head = magic + struct.pack(f"{order}I", 4 + len(chunks) + 8 + size) + b"WAVE" + chunks
        head += b"data" + struct.pack(f"{order}I", size)
    else:
        long_sizes = struct.pack("<QQQI", 4 + 36 + len(chunks) + 8 + size, size, 0, 0)
        head = (
            b"RF64\xff\xff\xff\xffWAVE" + _chunk("<", b"ds64", long_sizes) + chunks + b"data\xff\xff\xff\xff"
        )
    return Container("wav", begin, end, head, pcm=pcm)


def _chunk(order: str, name: bytes, body: bytes) -> bytes:
    return name + struct.pack(f"{order}I", len(body)) + body + b"\0" * (len(body) % 2)
