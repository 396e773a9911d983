"""The methods that can be trained: a file each in this folder, found by its name and imported on
demand.

A training configuration begins with ``method: NAME``.
"""

import importlib
from pathlib import Path

from pydino.base import ConfigError, load_config, nearest, read_yaml
from pydino.train.config import TrainingConfig
from pydino.train.method import Method

_FOLDER = Path(__file__).parent


def method_names() -> list[str]:
    """Return the names of all methods."""
    return sorted(path.stem.replace("_", "-") for path in _FOLDER.glob("[!_]*.py"))


def find_method(name: str, where: str = "options") -> type[Method]:
    """Return the method called ``name``.

    Raises:
        ConfigError: there is none, with the names that are known.
    """
    known = method_names()
    if name not in known:
        raise ConfigError(
            f"{where}: unknown method '{name}'{nearest(name, known)}; known: {', '.join(known)}"
            if name
            else f"{where} names no method; begin it with 'method: NAME', one of {', '.join(known)}"
        )
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    return next(
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__
    )


def load_training_config(path=None, overrides=()) -> tuple[type[Method], TrainingConfig]:
    """Return the method that a training configuration names, and the configuration.

    Args:
        path: YAML file; None: overrides alone.
        overrides: such as ``"optimiser.lr=0.001"``; these win.

    Raises:
        ConfigError: an unknown method or key, a value that is not possible, or a key that the model to start
            from determines.
    """
    given = {} if path is None else read_yaml(path)
    name, keys = given.get("method", ""), {key: str(path) for key in given}
    for override in overrides:
        key, _, value = override.partition("=")
        keys[key.strip().partition(".")[0]] = f"--set {override}"
        if key.strip() == "method":
            name = value.strip()
    method = find_method(str(name), str(path) if path is not None else "the configuration (give --config)")
    for key in method.Config.given_by_init:
        if key in keys:
            raise ConfigError(
                f"{keys[key]}: the method {name} takes '{key}' from the model that it starts from; remove it"
            )
    return method, load_config(method.Config, path, overrides)
