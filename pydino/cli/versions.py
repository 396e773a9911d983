"""Print the versions of Python and of the libraries in use, without loading them."""

import importlib.util
import platform
import re
import sys
from importlib import metadata
from pathlib import Path

from pydino import __version__
from pydino.base import UserError
from pydino.cli._arguments import option

NEEDED = [
    "torch",
    "kaldiio",
    "numpy",
    "scipy",
    "PyYAML",
    "soundfile",
    "scikit-learn",
    "safetensors",
    "tqdm",
    "tensorboard",
    "matplotlib",
]


def add_arguments(parser):
    option(parser, "--ngpu", 0, "fail if PyTorch could not use GPUs that jobs are to have", metavar="N")


def run(args):
    found, missing = [], []
    for name in NEEDED:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        raise UserError(
            f"missing: {', '.join(missing)}; run utils/setup.sh, or pip install them into {sys.prefix}"
        )
    if args.ngpu and not _is_for_gpus():
        raise UserError(
            f"jobs are to have GPUs (--ngpu {args.ngpu}), and PyTorch {metadata.version('torch')} here is "
            "built without CUDA: "
            "'PYDINO_TORCH=cuda bash utils/setup.sh' installs the other build (several GB; into "
            f"{sys.prefix}); or run with --ngpu 0"
        )
    print(f"pydino {__version__}, Python {platform.python_version()}, {', '.join(found)}")


def _is_for_gpus() -> bool:
    """Return whether PyTorch is built for GPUs, from its version.py; importing it would take seconds."""
    folder = importlib.util.find_spec("torch").submodule_search_locations[0]
    return (
        re.search(r"^(cuda|hip)\b[^=]*= *'", (Path(folder) / "version.py").read_text(), flags=re.MULTILINE)
        is not None
    )
