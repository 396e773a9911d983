"""A cache of the figures of earlier reports, in ``exp/report/`` under a digest of their inputs, so that only
changed figures are redrawn. Without it the report is the same, and takes longer.
"""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

from pydino.base import force_token, write_text

# Matplotlib and scikit-learn, which take a second to import, are imported only when a figure is drawn.
_CODE = ("plots.py", "study_plot.py", "svg.py")
_LIBRARIES = ("matplotlib", "scikit-learn", "numpy")


class FigureCache:
    """The figures of one report.

    Args:
        folder: of the cache; None: no cache.
    """

    def __init__(self, folder=None):
        self.folder = None if folder is None else Path(folder)
        self._used: set[str] = set()
        self._made_with = [version(library) for library in _LIBRARIES]
        self._made_with += [Path(__file__).with_name(name).read_text(encoding="utf-8") for name in _CODE]

    def get(self, inputs, draw) -> str:
        """Return the SVG of ``draw()``, or the cached one of the same inputs.

        Args:
            inputs: everything the drawing depends on: plain values, arrays, paths of files.
            draw: function of no arguments that returns an SVG element.
        """
        digest = hashlib.sha256()
        for part in json.JSONEncoder(default=_plain).iterencode([self._made_with, inputs]):
            digest.update(part.encode("utf-8"))
        name = f"{digest.hexdigest()[:32]}.svg"
        self._used.add(name)
        path = None if self.folder is None else self.folder / name
        if path is not None and path.is_file() and not force_token():
            return path.read_text(encoding="utf-8")
        svg = draw()
        if path is not None:
            write_text(path, svg)
        return svg

    def remove_unused(self) -> None:
        """Remove cached figures that this report does not use."""
        if self.folder is not None and self.folder.is_dir():
            for path in self.folder.glob("*.svg"):
                if path.name not in self._used:
                    path.unlink(missing_ok=True)


def _plain(value):
    """Return the representation of a value in the digest: the bytes of an array, the content of a file."""
    if isinstance(value, np.ndarray):
        return [value.dtype.str, value.shape, hashlib.sha256(np.ascontiguousarray(value)).hexdigest()]
    if isinstance(value, Path):
        with open(value, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    return vars(value)
