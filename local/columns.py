"""Which column of a user's table is what: by the names in its header, or by what is in it."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from local.prepare_wavdir import EXTENSIONS
from pydino.base import UserError, nearest
from pydino.kaldi.data_dir import COMPLETE_FILES

# Role -> names of columns, in lower case with _ for blanks and hyphens.
NAMES = {
    "file": "file filename file_name filepath file_path path wav audio audio_file clip utterance utt name id",
    "label": "label labels emotion class diagnosis category target",
    "speaker": "speaker speaker_id speakerid spk spk_id spkid spkrid actor",
    "subject": "subject subject_id participant participant_id patient patient_id",
    "recording": "recording recording_id session session_id dialog dialogue",
    "fold": "fold folds split split_set partition set subset",
}
ROLE_OF = {name: role for role, names in NAMES.items() for name in names.split()}
_RESERVED = {"utt2spk", *COMPLETE_FILES}


@dataclass
class Columns:
    """Columns of a table.

    Attributes:
        header: whether the first row has their names.
        names: of the columns; their numbers from 1 where there is no header.
        roles: role, or name of a further label map -> number of the column from 0.
        unused: names of columns that are of no use.
    """

    header: bool
    names: list[str]
    roles: dict[str, int] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)

    def of(self, row: list[str], role: str) -> str:
        """Return a field of a row; empty where the row is too short."""
        place = self.roles[role]
        return row[place] if place < len(row) else ""

    def values(self, row: list[str]) -> list[str]:
        """Return all that a row says about its recording."""
        return [self.of(row, role) for role in self.roles if role != "file"]

    def maps(self, speaker: str | None) -> list[str]:
        """Return the roles that become label maps, given the role that the speaker is taken from."""
        return [role for role in self.roles if role not in ("file", "speaker") and role != speaker]

    def describe(self) -> str:
        """Say what is taken for what."""
        known = [f"{role} from {self.names[place]}" for role, place in self.roles.items() if role in NAMES]
        others = [f"utt2{role}" for role in self.roles if role not in NAMES]
        parts = ["a header" if self.header else "no header", *known]
        parts += [f"further label maps {' '.join(others)}"] if others else []
        parts += [f"not used: {', '.join(self.unused)}"] if self.unused else []
        return "; ".join(parts)


def find_columns(path, rows: list[list[str]], is_file: Callable[[str], bool], label: str = "") -> Columns:
    """Decide which column is what.

    The first row is a header if no field of it names a recording. The column of files is the one that is
    called so, if it names recordings, or else the one that names most. That of labels is the one that is
    called so, or else the first whose name means nothing else.

    Args:
        path: for messages.
        rows: of the table.
        is_file: whether a text names a recording.
        label: name or number of the column of labels; empty: not given.

    Raises:
        UserError: fewer than two columns, no column of recordings, or no such column of labels.
    """
    if not rows or max(map(len, rows)) < 2:
        raise UserError(f"{path}: expected a file and a label in each row, between commas, tabs or blanks")
    width = max(map(len, rows))
    first = [*rows[0], *[""] * (width - len(rows[0]))]
    header = not any(cell.lower().endswith(EXTENSIONS) or is_file(cell) for cell in first)
    names = [f"'{name}'" if header else f"column {place}" for place, name in enumerate(first, 1)]
    words = [re.sub(r"[^\w]+", "_", name.strip().lower()) for name in first] if header else [""] * width
    columns = Columns(header, names)
    hits = [sum(is_file(row[place]) for row in rows if place < len(row)) for place in range(width)]
    if not any(hits):
        raise UserError(
            f"{path}: no row names a recording; the first is '{' '.join(rows[min(header, len(rows) - 1)])}'. "
            "Write paths as they are in the folder, with or without extension"
        )
    called = [place for place, word in enumerate(words) if ROLE_OF.get(word) == "file" and hits[place]]
    columns.roles["file"] = called[0] if called else hits.index(max(hits))
    columns.roles["label"] = _label(path, columns, words, label)
    for place, word in enumerate(words):
        role = ROLE_OF.get(word, word)
        if place in columns.roles.values():
            continue
        if role == "label":  # a further one, of which another is the label
            role = word
        usable = re.fullmatch(r"[a-z0-9_]+", role) and f"utt2{role}" not in _RESERVED
        if usable and role != "file" and role not in columns.roles:
            columns.roles[role] = place
        else:
            columns.unused.append(names[place])
    return columns


def _label(path, columns: Columns, words: list[str], wanted: str) -> int:
    free = [place for place in range(len(words)) if place != columns.roles["file"]]
    if wanted:
        word = re.sub(r"[^\w]+", "_", wanted.strip().lower())
        found = [place for place in free if words[place] == word or wanted == str(place + 1)]
        if not found:
            there = [words[place] or str(place + 1) for place in free]
            raise UserError(
                f"{path}: no column '{wanted}'{nearest(word, there)}; there are {', '.join(there)}"
            )
        return found[0]
    called = [place for place in free if ROLE_OF.get(words[place]) == "label"]
    unknown = [place for place in free if words[place] not in ROLE_OF]
    if len(free) == 1:
        return free[0]
    if not called and not unknown:
        raise UserError(f"{path}: no column of labels; call it 'label', or give --label-column")
    return (called or unknown)[0]
