"""Basics: messages, configuration, atomic writes, done-marks, keyed randomness. No torch."""

from .checks import (
    check_at_least,
    check_at_most,
    check_fraction,
    check_not_negative,
    check_positive,
    check_range,
    check_sizes,
)
from .clusters import CLUSTERS, UTT2CLUSTER, cluster_files, labels_of_clusters, strongest_labels
from .config import ConfigError, config_from_dict, config_to_dict, dump_config, load_config, read_yaml
from .files import atomic_open, read_json, read_json_lines, write_json, write_text
from .locks import Lock, is_held, lock_path, try_lock, user_name
from .marks import (
    TRAINING_VERSION,
    Step,
    digest_of,
    force_token,
    ingredients,
    is_forced,
    out_of_date,
    texts_of,
    why_not_done,
    write_mark,
)
from .messages import UserError, log, nearest, plural, program_name, set_program, warn
from .processes import end_with_parent
from .release import init_files, is_release, model_of, read_release
from .text import decode, read_bytes, read_lines, read_text, split_fields

__all__ = [
    "CLUSTERS",
    "TRAINING_VERSION",
    "ConfigError",
    "Lock",
    "Step",
    "UTT2CLUSTER",
    "UserError",
    "atomic_open",
    "check_at_least",
    "check_at_most",
    "check_fraction",
    "check_not_negative",
    "check_positive",
    "check_range",
    "check_sizes",
    "cluster_files",
    "config_from_dict",
    "config_to_dict",
    "decode",
    "digest_of",
    "dump_config",
    "end_with_parent",
    "force_token",
    "ingredients",
    "init_files",
    "is_forced",
    "is_held",
    "is_release",
    "keyed_bits",
    "keyed_integers",
    "keyed_normal",
    "keyed_permutation",
    "keyed_uniform",
    "labels_of_clusters",
    "load_config",
    "lock_path",
    "log",
    "model_of",
    "nearest",
    "out_of_date",
    "plural",
    "program_name",
    "purpose",
    "read_bytes",
    "read_json",
    "read_json_lines",
    "read_lines",
    "read_release",
    "read_text",
    "read_yaml",
    "set_program",
    "split_fields",
    "strongest_labels",
    "texts_of",
    "try_lock",
    "user_name",
    "utterance_hash",
    "warn",
    "why_not_done",
    "write_json",
    "write_mark",
    "write_text",
]


def __getattr__(name):
    """Import ``randomness``, which has the other names of ``__all__``, when one is asked for: importing numpy
    takes half of the time in which a wrapper starts.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import randomness

    return getattr(randomness, name)
