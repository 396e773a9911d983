"""Interviews of which one speaker is to be heard alone: from turns in milliseconds to Kaldi segments."""

import re
from bisect import bisect_left
from dataclasses import dataclass, field
from pathlib import Path

import soundfile

from local.common import audio_path, write_set
from local.completeness import Completeness
from pydino.base import UserError, log, read_text, warn
from pydino.kaldi.data_dir import named

Turns = list[tuple[int, int]]  # begin and end in milliseconds

# A tier of a CHAT transcript: its speaker, its text, and the lines that continue it.
_TIER = re.compile(r"^\*(\w+):(.*(?:\n[\t ].*)*)", re.MULTILINE)
_BULLET = re.compile(r'\x15(?:%snd:"[^"]*"_)?(\d+)_(\d+)\x15')


@dataclass
class Interview:
    """A recording of a subject and an interviewer. There is one a subject, so that both have the same name.

    Attributes:
        subject: name of the subject and the recording.
        path: of the audio.
        participant: turns of the subject.
        interviewer: turns of all others.
        about: label map's name without its prefix (``diagnosis``, ``mmse``, ``age``) -> value; what is not
            known is absent.
    """

    subject: str
    path: Path
    participant: Turns
    interviewer: Turns
    about: dict[str, str] = field(default_factory=dict)


@dataclass
class DataSet:
    """What :func:`local.common.write_set` is given; written when all of a corpus is found to be in order."""

    name: str
    wav_scp: dict[str, str] = field(default_factory=dict)
    utt2spk: dict[str, str] = field(default_factory=dict)
    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    segments: dict[str, str] = field(default_factory=dict)

    def write(self, data_dir) -> None:
        """Write the data directory; its label maps may omit utterances of which something is not known."""
        labels = {name: table for name, table in self.labels.items() if table}
        partial = [
            name for name, table in labels.items() if name[:3] == "utt" and len(table) < len(self.utt2spk)
        ]
        write_set(
            data_dir, self.name, self.wav_scp, self.utt2spk, labels, partial=partial, segments=self.segments
        )


def add_turn_arguments(parser) -> None:
    """Add the options of :func:`utterances_of`."""
    parser.add_argument(
        "--max-seconds",
        type=float,
        default=30.0,
        help="turns are joined up to this length; longer ones are divided (default %(default)s)",
    )
    parser.add_argument(
        "--min-seconds",
        type=float,
        default=0.5,
        help="shorter utterances are dropped and counted (default %(default)s)",
    )


def check_turn_arguments(args) -> None:
    """Raise UserError unless 0 < ``--min-seconds`` < ``--max-seconds``."""
    if not 0 < args.min_seconds < args.max_seconds:
        raise UserError(
            f"--min-seconds {args.min_seconds:g} and --max-seconds {args.max_seconds:g}: the first must be "
            "above zero and below the second"
        )


def chat_turns(path) -> tuple[Turns, Turns]:
    """Read the times of a CHAT transcript (``.cha``): turns of ``*PAR``, and turns of everybody else.

    Times are the bullets ``\\x15begin_end\\x15`` at the end of utterances. Old files have the name of the
    media in them, ``\\x15%snd:"name"_begin_end\\x15``.
    """
    participant, others = [], []
    for speaker, text in _TIER.findall(read_text(path, latin1=True)):
        turns = [(int(begin), int(end)) for begin, end in _BULLET.findall(text)]
        (participant if speaker == "PAR" else others).extend(turns)
    return participant, others


def length_of(path) -> int:
    """Return the length of a recording in milliseconds, from its header.

    Raises:
        UserError: it is no audio file.
    """
    try:
        about = soundfile.info(str(path))
    except (RuntimeError, OSError) as error:
        raise UserError(f"{path} cannot be read as audio ({error}); unpack the corpus again") from None
    return about.frames * 1000 // about.samplerate


def union(turns: Turns) -> Turns:
    """Return the time that the turns cover, as turns in order that do not touch; empty ones are omitted."""
    covered: Turns = []
    for begin, end in sorted(turns):
        if end > begin:
            if covered and begin <= covered[-1][1]:
                covered[-1] = covered[-1][0], max(end, covered[-1][1])
            else:
                covered.append((begin, end))
    return covered


def without(turns: Turns, others: Turns) -> Turns:
    """Return the turns less the time of the others, in order; adjacent turns are kept apart."""
    others = union(others)
    left: Turns = []
    for begin, end in sorted(turns):
        for start, stop in others:
            if start < end and stop > begin:
                if start > begin:
                    left.append((begin, start))
                begin = stop
        if begin < end:
            left.append((begin, end))
    return left


def utterances_of(turns: Turns, others: Turns, longest: int) -> Turns:
    """Return the utterances of one speaker, in order.

    The time in which another speaks is removed. Turns between which nobody else speaks are joined, with the
    pauses between them, as long as the utterance is not longer than ``longest`` ms. A longer turn is divided
    into equal parts.
    """
    others = union(others)
    begins = [begin for begin, _ in others]
    joined: Turns = []
    for begin, end in without(turns, others):
        if joined:
            first, last = joined[-1]
            # `without` leaves no overlap with others, so only one that begins in the gap can be in it
            interrupted = bisect_left(begins, last) < bisect_left(begins, begin)
            if not interrupted and max(end, last) - first <= longest:
                joined[-1] = first, max(end, last)
                continue
            begin = max(begin, last)
        if begin < end:
            joined.append((begin, end))
    utterances: Turns = []
    for begin, end in joined:
        parts = -(-(end - begin) // longest)
        borders = [begin + (end - begin) * part // parts for part in range(parts + 1)]
        utterances += zip(borders, borders[1:], strict=False)
    return utterances


def participants(name: str, interviews: list[Interview], args, whole: Completeness) -> DataSet:
    """Return the data directory of the participants' speech; what is known about a subject stands beside
    each utterance.
    """
    speech = {interview.subject: (interview.participant, interview.interviewer) for interview in interviews}
    found = _cut(name, interviews, speech, args, whole, "")
    if lost := sorted(set(speech) - set(found.wav_scp)):
        whole.lacks(f"{name}: no utterance of {args.min_seconds:g} s or more in the recordings {named(lost)}")
    for kind in ("age", "gender"):
        if all(kind in interview.about for interview in interviews):
            found.labels[f"spk2{kind}"] = {
                interview.subject: interview.about[kind]
                for interview in interviews
                if interview.subject in found.wav_scp
            }
    return found


def interviewers(name: str, interviews: list[Interview], args, whole: Completeness) -> DataSet:
    """Return the data directory of the interviewers' speech, for the control of that name.

    The speaker of an utterance is ``SUBJECT-interviewer``, ``utt2subject`` is whom they interviewed, so that
    the labels and the division of the participants apply. Recordings without interviewer are named.
    """
    speech = {interview.subject: (interview.interviewer, interview.participant) for interview in interviews}
    found = _cut(name, interviews, speech, args, whole, "-interviewer")
    if silent := sorted(set(speech) - set(found.wav_scp)):
        log(f"{name}: no interviewer is heard in {len(silent):,} recordings: {named(silent)}")
    return found


def _cut(name, interviews, speech, args, whole, suffix: str) -> DataSet:
    """Return a set; speech: subject -> (turns of whom the set is about, turns of the others)."""
    shortest, longest = round(args.min_seconds * 1000), round(args.max_seconds * 1000)
    kinds = sorted({kind for interview in interviews for kind in interview.about})
    found = DataSet(name, labels={f"utt2{kind}": {} for kind in ("subject", "recording", *kinds)})
    outside = []
    for interview in sorted(interviews, key=lambda interview: interview.subject):
        subject, length = interview.subject, length_of(interview.path)
        turns, others = speech[subject]
        if any(end > length for _, end in turns):
            outside.append(subject)
        turns = [(begin, min(end, length)) for begin, end in turns if begin < length]
        speaker = subject + suffix
        for begin, end in utterances_of(turns, others, longest):
            utterance = f"{speaker}-{begin:07d}-{end:07d}"
            if end - begin < shortest:
                whole.leave_out(utterance, f"shorter than {args.min_seconds:g} s")
                continue
            found.wav_scp[subject] = audio_path(interview.path)
            found.segments[utterance] = f"{subject} {begin / 1000:.3f} {end / 1000:.3f}"
            found.utt2spk[utterance] = speaker
            about = {"subject": subject, "recording": subject, **interview.about}
            for kind, value in about.items():
                found.labels[f"utt2{kind}"][utterance] = value
    if outside:
        warn(f"{name}: turns that end after their recording are cut there: {named(outside)}")
    return found
