"""Which jobs of a record are in the queue.

An entry is in its record from before the submission on, with a token, the path of the script, the user and
the folder; the number comes when sbatch has said it. The token stands at the end of the job's comment, and
stays where a site submits a copy of the script. Its first half is a hash of the script's path, so that jobs
are found also where the record was lost. (A number alone does not tell: numbers come again.)
"""

import hashlib
import os
import pwd
import re
import secrets
from typing import NamedTuple

from pydino.base import UserError

from .scheduler import FINAL, Missing, Slurm, Unreachable, short_name, short_names

_TOKEN = re.compile(r"pydino-[0-9a-f]{12}-[0-9a-f]{8}\b")


class _Listed(NamedTuple):
    """A line of squeue; ``text`` is ``|COMMENT|FOLDER|SCRIPT``."""

    job: str
    state: str
    user: str
    text: str

    @property
    def token(self) -> str:
        match = _TOKEN.search(self.text)
        return match[0] if match else ""

    def may_be(self, entry: dict) -> bool:
        """Return whether it has no token, and the user and folder of an entry."""
        return not self.token and self.user == entry.get("user") and f"|{entry['folder']}|" in self.text

    def is_of(self, script: str) -> bool:
        return (self.token or "-").startswith(_first_half(script)) or (
            not self.token and self.text.endswith(f"|{script}")
        )


def new_entry(script: str, **fields) -> dict:
    """Return the entry of a job that is to be submitted with a script at this absolute path."""
    token = f"{_first_half(script)}-{secrets.token_hex(4)}"
    place = {"script": script, "token": token, "user": _user_name(), "folder": os.getcwd()}
    return {"job": None, **place, **fields}


def marked(entry: dict, words: list[str]) -> list[str]:
    """Return the words of sbatch with the token, behind a comment that they may give, and the script."""
    comment = ""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == "--comment" or word.startswith("--comment="):
            comment = (following if word == "--comment" else word.partition("=")[2]) + " "
    return [*words, f"--comment={comment}{entry['token']}", entry["script"]]


def look_up(slurm: Slurm, entries: list[dict], record, script: str = "", ended: bool = False) -> list[str]:
    """Return the jobs in the queue that belong to the entries of a record, or to a script, and complete the
    entries without a number. A job is known by its token, else by its script; where a site changes both, by
    number, user and folder.

    Args:
        record: path, for messages.
        ended: complete the entries also from jobs that have ended, as far as the controller remembers.

    Raises:
        UserError: another user's jobs do the same; or it is not known whether a job was submitted, or is in
            the queue.
        Unreachable: the controller does not answer.
    """
    own, all_states = _user_name(), ["-t", "all"] if ended else []
    scripts = {entry["script"] for entry in entries if "script" in entry} | ({script} if script else set())
    numbers = {entry["job"]: entry for entry in entries if entry["job"]}
    lost = [entry for entry in entries if not entry["job"]]
    others = any(entry.get("user", own) != own for entry in entries) or any(map(_is_of_another, scripts))
    users = [] if others else ["-u", str(os.getuid())]  # of all users there may be very many jobs
    found, listed, nameless = {}, set(), []
    for cluster in sorted({job.partition(";")[2] for job in numbers} | {""}):
        for one in (_Listed(*fields) for fields in slurm.listed(cluster, *users, *all_states)):
            named = numbers.get(one.job, {})
            for entry in reversed([] if named else lost):
                if one.token == entry.get("token") or (
                    not one.token and one.is_of(entry.get("script", "\0"))
                ):
                    entry["job"] = one.job
                    lost.remove(entry)
                    break
            if one.may_be(named) or any(map(one.is_of, scripts)):
                listed.add(one.job)
                found |= {one.job: one.user} if one.state not in FINAL else {}
            elif any(map(one.may_be, lost)):
                nameless.append(one.job)
    if lost and (nameless or any(entry.get("taken") for entry in lost)):
        raise UserError(_unknown(nameless, record))
    if theirs := {job: user for job, user in found.items() if user != own}:
        raise UserError(_of_others(theirs, "is"))
    hidden = {job: entry["user"] for job, entry in numbers.items() if entry.get("user", own) != own}
    hidden = {job: user for job, user in hidden.items() if job not in listed}
    if hidden and slurm.hides_jobs():
        raise UserError(
            _of_others(hidden, f"may be (it is not shown here; if it has ended, remove {record})")
        )
    return list(found)


def left_by(slurm: Slurm, entries: list[dict], record, script: str = "") -> list[str]:
    """:func:`look_up`, for those who do not wait for an answer of Slurm.

    Raises:
        UserError: as there, or Slurm does not answer; the record may be removed by hand.
    """
    try:
        return look_up(slurm, entries, record, script) if entries else []
    except (Missing, Unreachable) as error:
        jobs = " ".join(str(entry["job"] or "(not known)") for entry in entries)
        raise UserError(
            f"an earlier run left Slurm job {jobs}, whose state cannot be found out here "
            f"({error}): make sure that it has ended (squeue --me), then remove {record}"
        ) from error


def _of_others(jobs: dict[str, str], verb: str) -> str:
    names, users = short_names(jobs), ", ".join(sorted(set(jobs.values())))
    wait = f"wait for it (squeue -j {names.replace(' ', ',')}), or ask its owner to cancel it"
    return f"Slurm job {names} of {users} {verb} doing the same: {wait}"


def _unknown(jobs: list[str], record) -> str:
    """Return the message where a job was submitted, or may have been, and its number is not known."""
    job = short_name(jobs[0]) if jobs else ""
    which = f"job {job}, which runs in this folder, may be it" if job else "squeue does not show it as ours"
    do = f"if it is, 'scancel {job}' ends it" if job else "look at squeue --me for it, and cancel it"
    return (
        f"a job was submitted, or may have been, whose number is not known: {which}; {do}. Then remove "
        f"{record}, and start the same command again"
    )


def _first_half(script: str) -> str:
    return "pydino-" + hashlib.sha256(os.fsencode(script)).hexdigest()[:12]


def _is_of_another(path: str) -> bool:
    try:
        return os.stat(path).st_uid != os.getuid()
    except OSError:
        return False


def _user_name() -> str:
    """Return the user of this process, as squeue names it."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
