"""Select utterances of a data directory, as Kaldi's ``subset_data_dir.sh`` does. Each returns a list
in sorted order.
"""

from pathlib import Path

from pydino.base import UserError, keyed_permutation, read_lines, split_fields, utterance_hash, warn

from .columns import Columns, text
from .data_dir import Tables, load, named, restrict, store


def spread(keys: list, count: int) -> list:
    """``count`` keys, evenly spaced: the default of Kaldi's script (random according to its help, but it is
    not).
    """
    return [keys[i * len(keys) // count] for i in range(count)]


def per_speaker(utt2spk: Columns, count: int) -> list[bytes]:
    """At most ``count`` utterances of each speaker, evenly spaced."""
    return sorted(u for own in utt2spk.members().values() for u in spread(own, min(count, len(own))))


def whole_speakers(utt2spk: Columns, count: int) -> list[bytes]:
    """All utterances of some speakers, drawn by a hash of their names, until there are at least ``count``."""
    members = utt2spk.members()
    speakers = list(members)
    chosen: list[bytes] = []
    for place in keyed_permutation([utterance_hash(text(s)) for s in speakers], 0):
        if len(chosen) >= count:
            break
        chosen += members[speakers[place]]
    return sorted(chosen)


def shortest(tables: Tables, count: int) -> list[bytes]:
    """The ``count`` shortest utterances, by frames, else by seconds; ties go to the smaller key.

    Raises:
        UserError: no table has the lengths of the utterances.
    """
    name = next((n for n in ("utt2num_frames", "utt2dur", "segments") if n in tables), None)
    if name is None:
        raise UserError(
            "--shortest needs utt2num_frames, utt2dur or segments; compute features first, which "
            "writes the first two"
        )
    keys, rests = tables[name]
    if name == "segments":
        fields = [rest.split() for rest in rests]
        length = {u: float(end) - float(start) for u, (_, start, end) in zip(keys, fields, strict=True)}
    else:
        length = dict(zip(keys, map(float, rests), strict=True))
    utterances = tables["utt2spk"].keys
    missing = [u for u in utterances if u not in length]
    if missing:
        raise UserError(
            f"{len(missing)} utterances without a length: {named(missing)}; run utils/fix_data_dir.sh first"
        )
    return sorted(sorted(utterances, key=lambda u: (length[u], u))[:count])


def listed(keys, path) -> set[bytes]:
    """The keys listed in the first field of the file ``path``, with a warning for those that do not exist."""
    wanted = {fields[0].encode() for fields in map(split_fields, read_lines(path)) if fields}
    known = set(keys)
    unknown = sorted(wanted - known)
    if unknown:
        warn(f"{len(unknown)} of {len(wanted)} names in {path} do not exist: {named(unknown)}")
    return wanted & known


def subset(
    source, destination, *, count: int | None = None, by: str = "spread", speakers=None, utterances=None
) -> tuple[int, int]:
    """Write a part of a data directory to another.

    Args:
        source, destination: data directories.
        count: how many utterances (per speaker with ``by="per-spk"``).
        by: ``spread``, ``first``, ``last``, ``shortest``, ``speakers`` (whole ones) or ``per-spk``.
        speakers, utterances: a file that lists them, in place of ``count``.

    Returns:
        How many utterances there were, and how many were taken.

    Raises:
        UserError: more utterances are requested than exist, or none is left.
    """
    if Path(source).resolve() == Path(destination).resolve():
        raise UserError(f"source and destination are the same directory, {source}")
    tables = load(source)
    utt2spk = tables["utt2spk"]
    keys = utt2spk.keys
    if utterances is not None:
        chosen = listed(keys, utterances)
    elif speakers is not None:
        wanted = listed(utt2spk.rests, speakers)
        chosen = [u for u, s in zip(*utt2spk, strict=True) if s in wanted]
    elif count < 1:
        raise UserError(f"a subset of {count} utterances would be empty")
    elif by == "per-spk":
        chosen = per_speaker(utt2spk, count)
    elif count > len(keys):
        raise UserError(
            f"cannot subset to more utterances than you originally had: {count} of {len(keys)} in {source}"
        )
    else:
        chosen = {
            "spread": lambda: spread(keys, count),
            "first": lambda: keys[:count],
            "last": lambda: keys[-count:],
            "shortest": lambda: shortest(tables, count),
            "speakers": lambda: whole_speakers(utt2spk, count),
        }[by]()
    if not chosen:
        raise UserError(
            f"no utterance of {source} is left for {destination}: none is listed in {utterances or speakers}"
        )
    store(destination, restrict(tables, chosen), metadata_from=source)
    return len(keys), len(chosen)
