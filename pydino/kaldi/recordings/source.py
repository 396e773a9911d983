"""Bytes of an audio file by position, and a virtual file made of a header and a range of those bytes."""

import io
import os

from pydino.base import UserError

_HEAD = 4096  # bytes read at once: the whole header of nearly every file, and the samples of a short one


class Source:
    """An audio file inside a seekable binary stream, from the stream's position to ``length``.

    Args:
        where: name in messages.

    Attributes:
        length: bytes of the audio file.
    """

    def __init__(self, stream, length: int, where: str):
        self._stream, self._where = stream, where
        self._open(stream.tell(), length)

    def _open(self, base: int, end: int) -> None:
        self._base, self.length = base, end - base
        self._head = self._read(base, _HEAD)

    def _read(self, position: int, count: int) -> bytes:
        try:
            if self._stream.tell() != position:
                self._stream.seek(position)
            return self._stream.read(count)
        except OSError as error:
            raise UserError(f"cannot read {self._where}: {error.strerror or error}") from error

    def at(self, position: int, count: int) -> bytes:
        """Return ``count`` bytes at ``position``, fewer at the end of the file."""
        found = self._head[position : position + count] if position < len(self._head) else b""
        if len(found) == count or position + len(found) >= self.length:
            return found
        rest = position + len(found)
        more = self._read(self._base + rest, count - len(found))
        return found + more if found else more

    def skip(self, count: int) -> None:
        """Skip the first ``count`` bytes: a tag before the audio."""
        end = self._base + self.length
        self._open(self._base + count, end)


class Spliced(io.RawIOBase):
    """A read-only file: ``head``, then the bytes ``begin`` to ``end`` of a source."""

    def __init__(self, source: Source, head: bytes, begin: int, end: int):
        self._source, self._head, self._begin = source, head, begin
        self._length, self._position = len(head) + end - begin, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        self._position = max(start + offset, 0)
        return self._position

    def readinto(self, buffer) -> int:
        count = max(min(len(buffer), self._length - self._position), 0)
        found = self._head[self._position : self._position + count]
        if len(found) < count:
            place = self._begin + self._position + len(found) - len(self._head)
            found += self._source.at(place, count - len(found))
        buffer[: len(found)] = found
        self._position += len(found)
        return len(found)
