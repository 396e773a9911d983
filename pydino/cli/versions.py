"""Print the versions of Python and of the libraries in use, without loading them."""

import platform
import sys
from importlib import metadata

from pydino import __version__
from pydino.base import UserError

NEEDED = ["torch", "kaldiio", "numpy", "scipy", "PyYAML", "soundfile", "scikit-learn", "safetensors", "tqdm", "tensorboard", "matplotlib"]


def add_arguments(parser):
    pass


def run(args):
    found, missing = [], []
    for name in NEEDED:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        raise UserError(f"missing: {', '.join(missing)}; run utils/setup.sh, or pip install them into {sys.prefix}")
    print(f"pydino {__version__}, Python {platform.python_version()}, {', '.join(found)}")
