"""What the configuration of a classifier holds, and what a classifier must not be used for."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from pydino.base import check_not_negative, check_positive, plural

# Parts of the names of tasks whose answer could be mistaken for a diagnosis.
CLINICAL = (
    "adress", "alzheimer", "aphasi", "autis", "cognit", "covid", "dement", "depress", "diagnos", "disease",
    "disorder", "dysarth", "impair", "mmse", "parkinson", "patholog", "psych", "stutter", "suicid",
)  # fmt: skip


def default_note(task: str, calibrated_on: int = 0, kind: str = "class") -> str:
    """Return what a classifier must not be used for, for its ``note``: one paragraph.

    Args:
        task: name of the task; one that is about an illness gets a stronger text.
        calibrated_on: number of utterances that its probabilities were calibrated on; 0: they were not.
        kind: class or number; numbers have no probabilities.
    """
    clinical = any(part in task.lower() for part in CLINICAL)
    use = (
        "For research only. This is not a medical device and gives no diagnosis: it must not be used to "
        "screen, diagnose, treat or monitor anyone, nor to decide about a person's care, work, insurance or "
        "legal capacity; a person who worries should see a physician, whatever the output says."
        if clinical
        else "For research only. Not a medical device, and not to be used for any decision about a person."
    )
    if kind == "number":
        return f"{use} Other microphones, rooms, languages and ages shift its answers."
    calibration = (
        f"Its probabilities were calibrated on {plural(calibrated_on, 'utterance')} of {task}"
        if calibrated_on
        else f"Its probabilities were not calibrated on held-out utterances of {task}"
    )
    return f"{use} {calibration}; other microphones, rooms, languages and ages shift them."


@dataclass
class ClassifierConfig:
    """``classifier:`` in the config.yaml of a classifier's folder.

    Attributes:
        task: name of the task.
        kind: what the classifier gives: a class, or a number.
        classes: in the order of the head's outputs; none for a number.
        unit: of a number, such as years.
        statistics: the head also takes the mean and the standard deviation of the features before
            normalisation (the vector of the baseline fbank-stats).
        hidden: units of the head's hidden layer; 0: none.
        chunk_seconds: length of the chunks whose outputs are averaged; 0: the whole utterance at once.
        short: what becomes of an utterance shorter than a chunk (:func:`pydino.infer.chunks`), as in
            training.
        keep_silence: the pauses are part of the signal.
        temperature: logits are divided by it (classes only).
        trained_on: the data, in words.
        back_end: how the head was trained, such as logreg or affine-then-all.
        note: what it must not be used for; empty: :func:`default_note`.
    """

    task: str
    kind: Literal["class", "number"] = "class"
    classes: list[str] = field(default_factory=list)
    unit: str = ""
    statistics: bool = False
    hidden: int = 0
    chunk_seconds: float = 0.0
    short: Literal["repeat", "mask"] = "repeat"
    keep_silence: bool = False
    temperature: float = 1.0
    trained_on: str = ""
    back_end: str = ""
    note: str = ""

    def __post_init__(self):
        self.classes = [str(name) for name in self.classes]  # of numpy's own type, they could not be written
        self.note = self.note or default_note(self.task, kind=self.kind)
        for text in (self.task, self.unit, self.note, *self.classes):
            if any("\ud800" <= character <= "\udfff" for character in text):
                raise ValueError(f"{text!r} is not text: it has half a character, which no file can hold")
        if self.kind == "number" and self.classes:
            raise ValueError("classes: a classifier of kind number has none")
        if self.kind == "class" and len(self.classes) < 2:
            raise ValueError(f"classes: two or more are needed, got {len(self.classes)}")
        twice = [name for name, times in Counter(self.classes).items() if times > 1]
        if twice:
            raise ValueError(f"classes: {twice[0]!r} is there twice")
        check_positive(self, "temperature")
        check_not_negative(self, "chunk_seconds", "hidden")

    @property
    def outputs(self) -> int:
        """K: one output a class, or the number."""
        return len(self.classes) if self.kind == "class" else 1
