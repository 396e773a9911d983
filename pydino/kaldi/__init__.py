"""Kaldi file formats: text tables, archives and scripts, data directories. No torch."""

from .archive_writer import ArchiveWriter
from .archives import ObjectReader, read_ark, read_object, read_scp_objects
from .audio_hashes import AUDIO_HASHES, TRAINING_AUDIO, Overlap, duplicates, read_audio_hashes
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
    "AUDIO_HASHES",
    "ArchiveWriter",
    "ChunkReader",
    "DataDir",
    "ObjectReader",
    "Overlap",
    "TRAINING_AUDIO",
    "combine",
    "copy",
    "duplicates",
    "fix",
    "invert",
    "read_ark",
    "read_audio_hashes",
    "read_object",
    "read_scp_objects",
    "read_table",
    "read_utt2label",
    "split",
    "subset",
    "validate",
    "write_table",
]
