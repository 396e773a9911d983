"""Reading text, in one place: UTF-8 with or without a byte order mark, any line ends, Kaldi's blanks.

Kaldi splits lines on ASCII blanks only, so that a no-break space is part of a name. Python's ``str.split``,
``str.strip`` and ``str.splitlines`` follow Unicode; use :func:`split_fields` and :func:`read_lines` instead.
"""

from collections.abc import Iterator
from pathlib import Path

from .messages import UserError

BOM = b"\xef\xbb\xbf"


def read_bytes(path) -> bytes:
    """Return the content of a file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def decode(data: bytes, path, latin1: bool = False) -> str:
    """Return ``data`` as text: no byte order mark, lines that end in ``\\n``.

    A carriage return is part of a line end before ``\\n`` (Windows), or where there is no ``\\n`` at all (old
    Macs); elsewhere it is a blank.

    Args:
        data: what ``path`` holds.
        path: named in messages.
        latin1: decode text that is not UTF-8 as Latin-1. For files of published corpora, which users do not
            edit.

    Raises:
        UserError: not UTF-8; names the file, the line, the byte, and the command that converts it.
    """
    data = unix_lines(data)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if latin1:
            return data.decode("latin-1")
        raise UserError(not_utf8(path, data, error.start)) from error


def unix_lines(data: bytes) -> bytes:
    """Return ``data`` without a byte order mark, and with ``\\n`` alone as line end."""
    data = data.removeprefix(BOM)
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n") if b"\n" in data else data.replace(b"\r", b"\n")
    return data


def read_blocks(path, size: int = 1 << 20) -> Iterator[tuple[bytes, bytes]]:
    """Yield whole lines of a text file, about ``size`` bytes at a time: as stored, and normalised.

    Normalised as by :func:`decode`, but as bytes. The last line may have no line end.

    Raises:
        UserError: the file cannot be read, or is not UTF-8.
    """
    try:
        with open(path, "rb") as stream:
            while stored := stream.read(size) + stream.readline():
                is_first = stream.tell() == len(stored)
                block = stored.removeprefix(BOM) if is_first else stored
                if b"\r" in block and (is_first or b"\n" in block):
                    block = unix_lines(block)
                if not block.isascii() and not _is_utf8(block):
                    decode(read_bytes(path), path)  # raises an error that names the line
                yield stored, block
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def not_utf8(path, data: bytes, place: int) -> str:
    """Return the message for the byte at ``place`` that is not UTF-8."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin1"
    start = data.rfind(b"\n", 0, place) + 1
    line, number = data[start:].partition(b"\n")[0], data.count(b"\n", 0, place) + 1
    return (
        f"{path} is not UTF-8 text: byte {place - start + 1} of line {number}, "
        f"'{line[:60].decode('latin-1')}', is 0x{data[place]:02X}; convert the file: "
        f"iconv -f {encoding} -t utf-8 '{path}' > '{path}.utf8' && mv '{path}.utf8' '{path}'"
    )


def read_text(path, latin1: bool = False) -> str:
    """Read a text file (see :func:`decode`).

    Raises:
        UserError: it cannot be read, or is not UTF-8.
    """
    return decode(read_bytes(path), path, latin1)


def read_lines(path, latin1: bool = False) -> list[str]:
    """Read the lines of a text file, without line ends."""
    text = read_text(path, latin1)
    return text.removesuffix("\n").split("\n") if text else []


def split_fields(line: str, maxsplit: int = -1) -> list[str]:
    """Split at ASCII blanks, as Kaldi does; those at either end do not count."""
    fields = line.encode("utf-8", "surrogateescape").split(None, maxsplit)
    return [field.decode("utf-8", "surrogateescape") for field in fields]
