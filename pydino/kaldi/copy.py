"""Copy a data directory, with other names for its utterances and speakers if wanted."""

from pathlib import Path

from pydino.base import UserError

from .data_dir import Tables, kind_of, load, store


def rename(tables: Tables, utterance=lambda key: key, speaker=lambda key: key) -> Tables:
    """Give utterances and speakers new names, in every table. Recordings keep theirs, unless they are the
    utterances.

    Where an utterance is renamed ``utt2uniq`` says which it was. A stored ``utt2hash`` keeps its values: a
        hash is that of the first name.
    """
    segmented = "segments" in tables
    new = {"utterance": utterance, "speaker": speaker, "recording": lambda key: key}
    renamed = {
        name: {new[kind_of(name, segmented)](key): rest for key, rest in table.items()}
        for name, table in tables.items()
    }
    renamed["utt2spk"] = {key: speaker(rest) for key, rest in renamed["utt2spk"].items()}
    original = tables.get("utt2uniq", {})
    if "utt2uniq" in tables or any(utterance(u) != u for u in tables["utt2spk"]):
        renamed["utt2uniq"] = {utterance(u): original.get(u, u) for u in tables["utt2spk"]}
    return {name: dict(sorted(table.items())) for name, table in renamed.items()}


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
    tables = rename(
        load(source), lambda u: f"{utt_prefix}{u}{utt_suffix}", lambda s: f"{spk_prefix}{s}{spk_suffix}"
    )
    store(destination, tables, facts_from=source)
    return len(tables["utt2spk"])
