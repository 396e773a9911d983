"""Done-marks: a small file, written last, that records what an output was made from; a rerun compares it and
skips or redoes the step.

A mark holds a digest of the options that affect the output, of the text of scp files and tables, of the marks
of earlier steps, and a format version incremented by hand. It never holds audio or archive bytes, nor the
number of jobs: those do not change results. A verb declares all of this once, as a :class:`Step`.
"""

import hashlib
import json
import os
from pathlib import Path

from .config import read_yaml
from .files import read_json, write_json
from .locks import Lock, lock_path
from .messages import UserError, log

TRAINING_VERSION = (
    2  # format version of a training run: raised when the same configuration gives another model
)


class Step:
    """One output of a verb: its inputs, its mark, and whether it is up to date.

    ``with step:`` surrounds the work. On entry the mark is removed, and with it whatever would point into
    archives that are about to be replaced; on a clean exit the mark is written over ``step.outputs``, which
    the work may have set or extended. An exception leaves no mark.

    Whoever makes the output holds its lock, from the check of the mark until the mark is written (or the step
    is no longer referred to). Others wait, and then find it up to date. A job that makes it for a process
    that has the lock takes none: ``PYDINO_LOCKED`` names the mark.

    Args:
        mark: path of the mark.
        makes: name of the output in messages, such as ``data/train/feats.scp``.
        version: format version, raised by hand when the output for the same inputs changes.
        options: name to value, those that affect the output (not the number of jobs, nor how they run).
        configs: YAML files, compared by content.
        reads: tables, scp files and trials, compared by their bytes. All must exist.
        optional: the same, for files that may be absent; one that appears or disappears later makes the step
            run.
        after: marks of earlier steps; those that do not exist (a folder made by hand) do not count.
        removes: files removed before the work begins.
        outputs: files that must exist afterwards and keep their sizes; weights (.safetensors), on which
            every later result depends, must keep their content.

    Raises:
        UserError: one of ``reads`` cannot be read, or a configuration is malformed.
    """

    def __init__(
        self,
        mark,
        makes,
        *,
        version: int = 1,
        options=None,
        configs=(),
        reads=(),
        optional=(),
        after=(),
        removes=(),
        outputs=(),
    ):
        self.mark, self.makes = Path(mark), makes
        self.outputs, self._removes = list(outputs), list(removes)
        self._lock = Lock(lock_path(self.mark.parent, self.mark.name.removeprefix(".done")))
        self.made_from = ingredients(
            version=version,
            configs=configs,
            settings={name: _text(value) for name, value in (options or {}).items()},
            texts=[*reads, *(path for path in optional if Path(path).is_file())],
            after=[path for path in after if Path(path).exists()],
        )

    @property
    def digest(self) -> str:
        """Digest of all inputs of the output, by which a rerun recognises its own jobs."""
        return digest_of(self.made_from)

    def reason(self) -> str:
        """Return why the step has to run; an empty string if it is up to date."""
        return why_not_done(self.mark, self.made_from)

    def is_done(self) -> bool:
        """Whether there is nothing to do; logs that, or why a finished step has to run again. Takes the lock
        where there is something, and waits for it.
        """
        reason = self.reason()
        if reason:
            self.lock()
            reason = self.reason()
        if not reason:
            log(f"{self.makes} is up to date")
        elif reason != "not done yet":
            log(f"{self.makes} is to be redone: {reason}")
        return not reason

    def lock(self) -> None:
        """Take the lock, and wait for it as long as another process has it."""
        if os.environ.get("PYDINO_LOCKED") != str(self.mark):
            self._lock.wait(self.makes)

    def begin(self) -> None:
        """Remove the mark and the files in ``removes``."""
        self.lock()
        for path in (self.mark, *self._removes):
            Path(path).unlink(missing_ok=True)

    def finish(self) -> None:
        """Write the mark, and release the lock.

        Raises:
            UserError: one of ``outputs`` is missing.
        """
        write_mark(self.mark, self.made_from, self.outputs)
        self._lock.release()

    def __enter__(self):
        self.begin()
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.finish()
        self._lock.release()


def _text(value) -> str:
    """An option's value as it is spelt on the command line."""
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def ingredients(*, version: int = 1, configs=(), settings=None, texts=(), after=()) -> dict[str, str]:
    """Return the named digests of everything an output depends on.

    Args:
        version: format version of the step, raised by hand when its output changes.
        configs: YAML files, compared by content (comments and layout do not matter).
        settings: mapping of option name to value.
        texts: files compared by their bytes (scp files, tables, trials).
        after: marks of the steps that came before.
    """
    found = {"format version": str(version)}
    for path in configs:
        found[f"configuration {Path(path).name}"] = _digest(
            json.dumps(read_yaml(path), sort_keys=True, default=str).encode()
        )
    for name, value in (settings or {}).items():
        found[f"option {name}"] = str(value)
    for path in texts:
        found[str(path)] = _digest_of_file(path)
    for path in after:
        mark = read_json(path) if Path(path).exists() else {}
        found[f"what {path} stands for"] = _digest(
            json.dumps(mark.get("ingredients", None), sort_keys=True).encode()
        )
    return found


def digest_of(wanted: dict[str, str]) -> str:
    """Return one digest of all ingredients."""
    return _digest(json.dumps(wanted, sort_keys=True).encode())


def texts_of(mark) -> dict[str, str]:
    """Return the files that ``mark`` compares by their bytes: path -> digest."""
    other = ("format version", "option ", "configuration ", "what ")
    recorded = read_json(mark)["ingredients"]
    return {name: digest for name, digest in recorded.items() if not name.startswith(other)}


def out_of_date(mark) -> str:
    """Return which input of ``mark`` has changed or disappeared since, as text; an empty string if none has.

    A step replaces its archives in place. Outputs that point into them must not be used while they are
    regenerated, or after that was interrupted; the marks of that step are then missing or different. Marks
    and texts in folders that do not exist (relative paths of a run elsewhere, sources that were removed
    deliberately) are skipped.
    """
    recorded = read_json(mark)["ingredients"]
    for name, digest in recorded.items():
        path = Path(_shown(name))
        if len(path.parts) < 2 or not path.parent.is_dir():
            continue  # an option, say
        if not path.exists():
            return f"{path} is missing: its step was interrupted, is being redone, or its output was removed"
        now = ingredients(after=[path]) if _shown(name) != name else ingredients(texts=[path])
        if now[name] != digest:
            return f"{path} has changed"
    return ""


def _digest_of_file(path) -> str:
    """The digest of a file's bytes, which may be more than fit into memory: trial lists have gigabytes."""
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; run the stage that makes it first") from error


def _shown(name: str) -> str:
    """Return the name of an ingredient for messages: of a mark, its path."""
    return name.removeprefix("what ").removesuffix(" stands for")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def force_token() -> str:
    """Return ``PYDINO_FORCE``: a token that identifies a call with ``--force``, or an empty string."""
    return os.environ.get("PYDINO_FORCE", "")


def is_forced(redone_under: str | None) -> bool:
    """Return whether something is to be redone because of ``--force``.

    What this call has redone under its token is not redone when a scheduler restarts the call, or one of its
    jobs. ``true`` is no token of a call: with it everything is redone.

    Args:
        redone_under: the token under which it was made, from its mark; None: none.
    """
    return force_token() not in ("", redone_under) or force_token() == "true"


def why_not_done(mark, wanted: dict[str, str]) -> str:
    """Return an empty string if ``mark`` records ``wanted`` and all its outputs exist, else the reason as
    text.
    """
    mark = Path(mark)
    if not mark.exists():
        return "not done yet"
    try:
        written = read_json(mark)
        recorded, outputs, redone_under = written["ingredients"], written["outputs"], written.get("forced")
    except (UserError, KeyError, TypeError):
        return f"{mark} cannot be read"
    if is_forced(redone_under):
        return "--force was given"
    for name in wanted:
        if recorded.get(name) != wanted[name]:
            return f"{_shown(name)} changed" if name in recorded else f"{_shown(name)} is new"
    for name in recorded:
        if name not in wanted:
            return f"{_shown(name)} is no longer used"
    for path, size in outputs.items():
        if not os.path.exists(path):
            return f"{path} is missing"
        if os.path.getsize(path) != size:
            return f"{path} has another size"
    for path, digest in written.get("digests", {}).items():
        if _digest_of_file(path) != digest:
            return f"{path} is not what was written: it was damaged or replaced since"
    return ""


def write_mark(mark, wanted: dict[str, str], outputs=()) -> None:
    """Write the mark. Call it last: its presence means that every output is complete.

    Raises:
        UserError: an output is missing.
    """
    for path in outputs:
        if not os.path.exists(path):
            raise UserError(f"{path} was not written; see the log of this step")
    content = {"ingredients": wanted, "outputs": {str(p): os.path.getsize(p) for p in outputs}}
    weights = [path for path in map(str, outputs) if path.endswith(".safetensors")]
    if weights:
        content["digests"] = {path: _digest_of_file(path) for path in weights}
    if force_token():
        content["forced"] = force_token()
    write_json(mark, content)
