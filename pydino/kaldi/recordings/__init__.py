"""Recordings named in ``wav.scp``: opened once, read in parts. No torch."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np

from pydino.base import UserError

from ..rxfilename import parse_rxfilename, run_pipe
from .container import Container
from .containers import examine
from .recording import Recording
from .source import Source

__all__ = ["Recording", "open_recording"]


@contextmanager
def open_recording(rxfilename: str, allow_pipes: bool = False) -> Iterator[Recording]:
    """Open a recording: a file of any format of :data:`.containers.READ`, ``file:offset`` (one inside an
    archive), or ``command |`` (one that a command writes to its standard output).

    Args:
        rxfilename: where it is.
        allow_pipes: run commands; they come from a data directory, which someone else may have written.

    Raises:
        UserError: missing, empty, truncated or unreadable file; a pipe that is not allowed or fails.
    """
    location = parse_rxfilename(rxfilename)
    if location.rows or location.columns:
        raise UserError(
            f"'{rxfilename}': a range of rows or columns does not apply to audio; use a segments file"
        )
    if location.is_pipe:
        content = _run_pipe(location.path, allow_pipes)
        with _open(io.BytesIO(content), len(content), rxfilename) as recording:
            yield recording
        return
    try:
        stream = open(location.path, "rb", buffering=0)  # noqa: SIM115
    except OSError as error:
        raise UserError(
            f"cannot read {location.path}: {error.strerror or error}; is the path right, relative to the "
            "current folder?"
        ) from error
    with stream:
        stream.seek(location.offset)
        with _open(stream, os.fstat(stream.fileno()).st_size, rxfilename) as recording:
            yield recording


_run_pipe = lru_cache(maxsize=1)(run_pipe)  # the segments of one recording follow each other


@contextmanager
def _open(stream, length: int, where: str) -> Iterator[Recording]:
    if length <= stream.tell():
        raise UserError(f"{where}: the file is empty; regenerate or omit it")
    source = Source(stream, length, where)
    container = examine(source, where)
    if container.pcm:
        yield _Pcm(source, container, where)
        return
    from .decoder import Decoder  # imported here: few recordings need libsndfile, and loading it is slow

    with Decoder(source, container, where) as recording:
        yield recording


class _Pcm(Recording):
    """16-bit PCM, little-endian: the fast path, as fast as np.frombuffer."""

    def __init__(self, source: Source, container: Container, where: str):
        assert container.pcm is not None
        self.rate, self.channels = container.pcm
        self.samples = (container.end - container.begin) // (2 * self.channels)
        self._source, self._begin, self._where = source, container.begin, where

    def read(self, first: int, last: int) -> np.ndarray:
        frame = 2 * self.channels
        content = self._source.at(self._begin + first * frame, (last - first) * frame)
        if len(content) < (last - first) * frame:
            raise UserError(
                f"{self._where}: it became shorter while it was read; try again when the program that writes "
                "it is done"
            )
        return np.frombuffer(content, dtype="<i2").reshape(-1, self.channels)
