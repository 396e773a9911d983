"""What the parsers of containers return, and what they share."""

from dataclasses import dataclass

from pydino.base import UserError


@dataclass(frozen=True)
class Container:
    """Where the audio of a file is, and how a decoder shall read it: as ``head``, then the bytes ``begin`` to
    ``end`` of the file.
    """

    kind: str  # wav, aiff, au, caf, sphere, ogg, flac, mp3
    begin: int
    end: int
    head: bytes = b""
    pcm: tuple[int, int] | None = (
        None  # rate and channels where the bytes are samples in 16 bits, little-endian
    )
    exact: bool = True  # False: how many samples there are shows only when they are decoded


def is_unknown(size: int) -> bool:
    """Whether a stated size that the file does not reach stands for "until the end": what programs leave that
    write to a pipe or are killed (0, the largest numbers of 31, 32, 63 and 64 bits, those less the size of a
    head).
    """
    return (
        size == 0
        or 0x7FFFF000 <= size <= 0x80000010
        or 0xFFFFF000 <= size <= 0xFFFFFFFF
        or size >= 0x7FFFFFFF00000000
    )


def truncated(where: str, stated: int, there: int) -> UserError:
    """Return the error of a file that is shorter than its head says."""
    return UserError(
        f"{where}: its header promises {stated} bytes of samples but {there} follow: a truncated copy; "
        "copy or make it again"
    )


def cut_short(where: str, what: str) -> UserError:
    """Return the error of a file whose end shows that there was more."""
    return UserError(f"{where}: {what}: truncated; copy or make it again")
