"""Kaldi file formats: text tables, archives and scripts, data directories. No torch."""

from .archive_writer import ArchiveWriter
from .archives import ObjectReader, read_ark, read_object, read_scp_objects
from .chunks import ChunkReader
from .combine import combine
from .copy import copy
from .data_dir import DataDir, invert, read_utt2label
from .fix import fix
from .split import split
from .subset import subset
from .tables import read_table, write_table
from .validate import validate

__all__ = [
    "ArchiveWriter",
    "ChunkReader",
    "DataDir",
    "ObjectReader",
    "combine",
    "copy",
    "fix",
    "invert",
    "read_ark",
    "read_object",
    "read_scp_objects",
    "read_table",
    "read_utt2label",
    "split",
    "subset",
    "validate",
    "write_table",
]
