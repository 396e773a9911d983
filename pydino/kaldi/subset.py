"""Choose utterances of a data directory: the choices of Kaldi's ``subset_data_dir.sh``. Each returns a list
in sorted order.
"""

from pathlib import Path

from pydino.base import UserError, keyed_permutation, read_lines, split_fields, utterance_hash, warn

from .data_dir import Tables, invert, load, named, restrict, store


def spread(keys: list[str], count: int) -> list[str]:
    """``count`` keys, evenly spaced: the default of Kaldi's script (its help says random, but it is not)."""
    return [keys[i * len(keys) // count] for i in range(count)]


def per_speaker(utt2spk: dict[str, str], count: int) -> list[str]:
    """At most ``count`` utterances of each speaker, evenly spaced."""
    return sorted(
        u for own in map(str.split, invert(utt2spk).values()) for u in spread(own, min(count, len(own)))
    )


def whole_speakers(utt2spk: dict[str, str], count: int) -> list[str]:
    """All utterances of some speakers, drawn by a hash of their names, until there are at least ``count``."""
    members = invert(utt2spk)
    speakers = list(members)
    chosen: list[str] = []
    for place in keyed_permutation([utterance_hash(s) for s in speakers], 0):
        if len(chosen) >= count:
            break
        chosen += members[speakers[place]].split()
    return sorted(chosen)


def shortest(tables: Tables, count: int) -> list[str]:
    """The ``count`` shortest utterances, by frames, else by seconds; ties go to the smaller key.

    Raises:
        UserError: nothing tells how long the utterances are.
    """
    if "utt2num_frames" in tables:
        length = {u: float(n) for u, n in tables["utt2num_frames"].items()}
    elif "utt2dur" in tables:
        length = {u: float(s) for u, s in tables["utt2dur"].items()}
    elif "segments" in tables:
        length = {
            u: float(rest.split()[2]) - float(rest.split()[1]) for u, rest in tables["segments"].items()
        }
    else:
        raise UserError(
            "--shortest needs utt2num_frames, utt2dur or segments; make features first, they write the "
            "first two"
        )
    missing = [u for u in tables["utt2spk"] if u not in length]
    if missing:
        raise UserError(
            f"no length is known of {len(missing)} utterances: {named(missing)}; run utils/fix_data_dir.sh "
            "first"
        )
    return sorted(sorted(tables["utt2spk"], key=lambda u: (length[u], u))[:count])


def listed(keys, path) -> set[str]:
    """The keys that the file ``path`` lists in its first field; names it lists in vain are warned of."""
    wanted = {fields[0] for fields in map(split_fields, read_lines(path)) if fields}
    unknown = sorted(wanted - set(keys))
    if unknown:
        warn(f"{len(unknown)} of {len(wanted)} names in {path} are not there: {named(unknown)}")
    return wanted & set(keys)


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
        UserError: more utterances are asked for than there are, or none is left.
    """
    if Path(source).resolve() == Path(destination).resolve():
        raise UserError(f"source and destination are the same directory, {source}")
    tables = load(source)
    utt2spk = tables["utt2spk"]
    keys = list(utt2spk)
    if utterances is not None:
        chosen = listed(keys, utterances)
    elif speakers is not None:
        wanted = listed(set(utt2spk.values()), speakers)
        chosen = [u for u, s in utt2spk.items() if s in wanted]
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
    store(destination, restrict(tables, chosen), facts_from=source)
    return len(keys), len(chosen)
