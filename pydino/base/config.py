"""Configuration: YAML checked against typed dataclasses, so that a misspelt key or an impossible value is an
error at once.
"""

import contextlib
import copy
import dataclasses
import math
import types
import typing
from pathlib import Path

import yaml

from .files import write_text
from .messages import UserError, nearest
from .text import read_text


class ConfigError(UserError):
    """A configuration that does not fit its dataclass: names file, key, and the nearest right name."""


def read_yaml(path) -> dict:
    """Read a YAML mapping (an empty file is an empty mapping).

    With ``extends: other.yaml``, relative to the file's folder, the file holds only what differs from that
    one. Groups are merged key by key; lists and plain values are replaced, and so is a group whose ``name``
    differs (an encoder's options mean nothing to another). ``extends`` itself is not part of the result.

    Raises:
        ConfigError: missing file, text that is not UTF-8, bad syntax, a duplicate key, no mapping,
            or files that extend each other.
    """
    return _read_extended(Path(path), ())


def _read_extended(path: Path, readers: tuple[Path, ...]) -> dict:
    if path.resolve() in (reader.resolve() for reader in readers):
        chain = " extends ".join(map(str, (*readers, path)))
        raise ConfigError(f"{chain}: the files extend each other in a cycle; remove one 'extends'")
    mapping = _read_one(path)
    if "extends" not in mapping:
        return mapping
    parent = mapping.pop("extends")
    if not isinstance(parent, str) or not parent:
        raise ConfigError(f"{path}: extends must be the name of one YAML file, got {parent!r}")
    if not (path.parent / parent).is_file():
        raise ConfigError(f"{path}: extends {parent}, but there is no {path.parent / parent}")
    return _merge(_read_extended(path.parent / parent, (*readers, path)), mapping)


def _merge(base: dict, changes: dict) -> dict:
    merged = dict(base)
    for key, value in changes.items():
        old = base.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and value.get("name") in (None, old.get("name")):
            value = _merge(old, value)
        merged[key] = value
    return merged


def _read_one(path: Path) -> dict:
    try:
        value = yaml.load(read_text(path), Loader=_UniqueKeys)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    except _BadKey as error:
        raise ConfigError(f"{path}, {error}") from error
    except UserError as error:
        raise ConfigError(str(error)) from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected 'key: value' lines, got {type(value).__name__}")
    return value


class _BadKey(Exception):
    pass


class _UniqueKeys(yaml.SafeLoader):
    """YAML as ``safe_load`` reads it, except that a duplicate key is an error, as the standard demands."""

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if not key.tag.endswith((":str", ":merge")):
                raise _BadKey(f"line {line}: YAML does not read the key '{key.value}' as text; quote it")
            if name in lines:
                raise _BadKey(
                    f"line {line}: duplicate key '{key.value}', first in line {lines[name]}; keep one of the "
                    "two"
                )
            lines[name] = line
        return node


def load_config(cls, path=None, overrides=()):
    """Return an instance of dataclass ``cls`` from a YAML file (see :func:`read_yaml`) and overrides such as
    ``"optimiser.lr=0.001"`` (which take precedence).

    Raises:
        ConfigError: as :func:`read_yaml` and :func:`config_from_dict`, or an override of another form.
    """
    given = {} if path is None else read_yaml(path)
    where, mapping = str(path) if path is not None else "options", copy.deepcopy(given)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"override '{override}' is not of the form key=value")
        *parents, last = key.strip().replace("-", "_").split(".")
        target = mapping
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise ConfigError(f"override '{override}': '{parent}' is not a group of options")
        try:
            target[last] = yaml.load(text, Loader=_UniqueKeys)
        except yaml.YAMLError as error:
            raise ConfigError(f"override '{override}': {text!r} is not YAML") from error
        except _BadKey as error:
            raise ConfigError(f"override '{override}', {error}") from error
    try:
        return config_from_dict(cls, mapping, where)
    except ConfigError:
        with contextlib.suppress(ConfigError):
            config_from_dict(cls, given, where)
            where = " ".join(f"--set {override}" for override in overrides) or where  # not the file is wrong
        return config_from_dict(cls, mapping, where)


def config_from_dict(cls, mapping: dict, where: str = "options"):
    """Build dataclass ``cls`` from a mapping, checking every key, type and (through ``__post_init__``) value.

    Raises:
        ConfigError: with ``where``, the full key, and the nearest right name or the type that was expected.
    """
    return _build(cls, mapping, where, "")


def _build(cls, mapping, where, prefix):
    if not isinstance(mapping, dict):
        raise ConfigError(f"{where}: '{prefix.rstrip('.')}' must be a group of options, got {mapping!r}")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    values = {}
    for key, value in mapping.items():
        if key not in fields:
            raise ConfigError(
                f"{where}: unknown key '{prefix}{key}'{nearest(key, fields)}; known: {', '.join(fields)}"
            )
        default = fields[key].default_factory
        if (
            isinstance(value, dict)
            and dataclasses.is_dataclass(hints[key])
            and default is not dataclasses.MISSING
        ):
            # The other options of a partial group keep the defaults of the enclosing class, not those of its
            # own.
            value = dataclasses.asdict(default()) | value
        values[key] = _convert(hints[key], value, where, f"{prefix}{key}")
    missing = [
        name
        for name, field in fields.items()
        if name not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(
            f"{where}: missing key{'s' if len(missing) > 1 else ''} {', '.join(prefix + m for m in missing)}"
        )
    try:
        return cls(**values)
    except (ValueError, ConfigError) as error:
        raise ConfigError(f"{where}: {prefix}{error}") from error


def _convert(hint, value, where, key):
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is typing.Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        errors = []
        for option in (a for a in arguments if a is not type(None)):
            try:
                return _convert(option, value, where, key)
            except ConfigError as error:
                errors.append(error)
        raise errors[0]
    if origin is typing.Literal:
        if value in arguments and not (
            isinstance(value, bool) and True not in arguments and False not in arguments
        ):
            return value
        choices = ", ".join(map(str, arguments))
        raise ConfigError(
            f"{where}: {key} must be one of {choices}, got {value!r}{nearest(value, arguments)}"
        )
    if origin in (list, tuple):
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where}: {key} must be a list, got {value!r}")
        item = arguments[0] if arguments else typing.Any
        return origin(_convert(item, v, where, f"{key}[{i}]") for i, v in enumerate(value))
    if origin is dict or hint is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: {key} must be a group of 'name: value' lines, got {value!r}")
        item = arguments[1] if arguments else typing.Any
        return {k: _convert(item, v, where, f"{key}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        return _build(hint, {} if value is None else value, where, f"{key}.")
    return _scalar(hint, value, where, key)


def _scalar(hint, value, where, key):
    if hint is float and not isinstance(value, bool):
        # YAML 1.1 reads 1e-3 (no dot) as text, but it is common usage.
        if isinstance(value, (int, float)) or (isinstance(value, str) and _is_number(value)):
            if not math.isfinite(float(value)):
                raise ConfigError(f"{where}: {key} must be a finite number, got {value!r}")
            return float(value)
    elif hint is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    elif isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    raise ConfigError(
        f"{where}: {key} must be {names.get(hint, hint)}, got {value!r}{_hint_to_quote(hint, value)}"
    )


def _hint_to_quote(hint, value) -> str:
    """What to do where YAML does not read a plain word as text."""
    if hint is not str or isinstance(value, (dict, list)):
        return ""
    words = {
        bool: "yes, no, on, off, true and false without quotes are not text",
        type(None): "nothing, ~ and null without quotes are not text",
    }
    why = words.get(type(value), f"YAML reads {value} as a {type(value).__name__}")
    return f": {why}; put the value in quotes"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def config_to_dict(config) -> dict:
    """Return the configuration as plain nested dictionaries, in the order of the fields."""
    return dataclasses.asdict(config)


def dump_config(config, path) -> None:
    """Write the resolved configuration (a dataclass or a mapping) as YAML."""
    mapping = config_to_dict(config) if dataclasses.is_dataclass(config) else config
    write_text(path, yaml.safe_dump(mapping, sort_keys=False, allow_unicode=True, width=120))
