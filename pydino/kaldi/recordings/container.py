"""The result of the container parsers, and their common helpers."""

from dataclasses import dataclass

from pydino.base import UserError


@dataclass(frozen=True)
class Container:
    """Where the audio of a file is, and what a decoder is given: ``head``, then the bytes ``begin`` to
    ``end`` of the file.
    """

    kind: str  # wav, aiff, au, caf, sphere, ogg, flac, mp3
    begin: int
    end: int
    head: bytes = b""
    pcm: tuple[int, int] | None = None  # rate and channels where the bytes are 16-bit little-endian samples
    exact: bool = True  # False: the number of samples is known only after decoding


def is_unknown(size: int) -> bool:
    """Whether a size that exceeds the file means "until the end", as left by programs that write to a pipe or
    are killed (0, the largest numbers of 31, 32, 63 and 64 bits, those less the size of a header).
    """
    return (
        size == 0
        or 0x7FFFF000 <= size <= 0x80000010
        or 0xFFFFF000 <= size <= 0xFFFFFFFF
        or size >= 0x7FFFFFFF00000000
    )


def truncated(where: str, stated: int, there: int) -> UserError:
    """Return the error for a file that is shorter than its header states."""
    return UserError(
        f"{where}: its header states {stated} bytes of samples but {there} follow: a truncated copy; "
        "copy or regenerate it"
    )


def cut_short(where: str, what: str) -> UserError:
    """Return the error for a file whose end shows that it is truncated."""
    return UserError(f"{where}: {what}: truncated; copy or regenerate it")
