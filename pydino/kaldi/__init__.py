"""Kaldi's files: text tables, archives and scripts, data directories. No torch."""

from .archives import ArchiveWriter, read_ark, read_object, read_scp_objects
from .chunks import ChunkReader
from .tables import read_table, write_table

__all__ = ["ArchiveWriter", "ChunkReader", "read_ark", "read_object", "read_scp_objects", "read_table", "write_table"]
