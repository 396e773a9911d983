"""The method and the encoder of a training configuration, read without importing torch."""

import ast
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydino.base import ConfigError, nearest, read_yaml

_METHODS = Path(__file__).parent.parent / "train" / "methods"


@dataclass(frozen=True)
class Method:
    """A training method: the literals at the top of ``pydino/train/methods/NAME.py``."""

    name: str
    roles: tuple[str, ...]  # its model folders; the first is the model
    reads_labels: bool
    reads_clusters: bool = False


@cache
def method_of(config: str) -> Method:
    """Return the method of a training configuration (YAML).

    Raises:
        ConfigError: no such file, no key ``method``, or no such method.
    """
    name = read_yaml(config).get("method")
    known = sorted(path.stem.replace("_", "-") for path in _METHODS.glob("[!_]*.py"))
    if name not in known:
        raise ConfigError(
            f"{config}: the key 'method' must be one of {', '.join(known)}, got "
            f"{name!r}{nearest(name, known)}"
        )
    literals = _literals(_METHODS / f"{name.replace('-', '_')}.py")
    return Method(
        name, tuple(literals["ROLES"]), literals["READS_LABELS"], literals.get("READS_CLUSTERS", False)
    )


@cache
def finds_positives(config: str) -> bool:
    """Return whether a training finds its positives itself (docs/rounds.md), in place of rounds."""
    return read_yaml(config).get("positives", "own") not in ("own", "cluster")


@cache
def encoder_of(config: str) -> tuple[str, str]:
    """Return the name of the encoder in a training configuration or a model folder's ``config.yaml``, and a
    digest of its options and its front end, which define an untrained model.
    """
    mapping = read_yaml(config)
    options = mapping.get("encoder") or {}
    if not isinstance(options, dict):
        raise ConfigError(f"{config}: 'encoder' must be a group of options, got {options!r}")
    front_end = mapping.get("front_end", mapping.get("normalisation"))
    text = json.dumps([options, front_end], sort_keys=True, default=str)
    return str(options.get("name", "default")), hashlib.sha256(text.encode()).hexdigest()[:6]


def _literals(path: Path) -> dict:
    """Return the literal constants at the top level of a Python file."""
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            try:
                found[ast.unparse(target)] = ast.literal_eval(node.value)
            except ValueError:
                continue
    missing = [name for name in ("ROLES", "READS_LABELS") if name not in found]
    if missing:
        raise ConfigError(
            f"{path}: no literal {missing[0]} at the top; see docs/training.md for adding a method"
        )
    return found
