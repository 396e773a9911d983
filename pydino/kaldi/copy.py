"""Copy a data directory, with affixes for its utterance and speaker names if given."""

from pathlib import Path

from pydino.base import UserError

from .columns import Columns
from .data_dir import Tables, kind_of, load, store


def rename(tables: Tables, prefixes: dict[str, bytes], suffixes: dict[str, bytes]) -> Tables:
    """Return tables with new names for utterances and speakers. Recordings keep theirs, unless they are the
    utterances.

    ``utt2uniq`` maps renamed utterances to their original names. A stored ``utt2hash`` keeps its values: a
    hash is that of the original name.

    Args:
        tables: of a data directory.
        prefixes, suffixes: kind of key (``utterance``, ``speaker``) -> affix of its names.
    """
    segmented = "segments" in tables

    def with_affixes(keys: list[bytes], kind: str) -> list[bytes]:
        before, after = prefixes.get(kind, b""), suffixes.get(kind, b"")
        return [before + key + after for key in keys] if before or after else keys

    def read(name: str) -> Columns:
        if name == "utt2uniq" and name not in tables:
            keys = rests = tables["utt2spk"].keys
        else:
            keys, rests = tables[name]
            if name == "utt2uniq":  # an utterance that it omits is its own
                known = dict(zip(keys, rests, strict=True))
                keys = tables["utt2spk"].keys
                rests = [known.get(key, key) for key in keys]
        rests = with_affixes(rests, "speaker") if name == "utt2spk" else rests
        return Columns(with_affixes(keys, kind_of(name, segmented)), rests).sorted()

    renamed = bool(prefixes["utterance"] or suffixes["utterance"])
    names = [*tables, *(["utt2uniq"] if renamed and "utt2uniq" not in tables else [])]
    return Tables(names, read)


def copy(source, destination, utt_prefix="", utt_suffix="", spk_prefix="", spk_suffix="") -> int:
    """Copy a data directory with affixes for its utterance and speaker names; return the number of
    utterances.

    Raises:
        UserError: source and destination are the same, or an affix holds a blank.
    """
    if Path(source).resolve() == Path(destination).resolve():
        raise UserError(f"source and destination are the same directory, {source}")
    for affix in (utt_prefix, utt_suffix, spk_prefix, spk_suffix):
        if any(c.isspace() for c in affix):
            raise UserError(f"'{affix}' cannot be part of a name: it holds a blank")
    tables = load(source)
    prefixes = {"utterance": utt_prefix.encode(), "speaker": spk_prefix.encode()}
    suffixes = {"utterance": utt_suffix.encode(), "speaker": spk_suffix.encode()}
    store(destination, rename(tables, prefixes, suffixes), metadata_from=source)
    return len(tables["utt2spk"].keys)
