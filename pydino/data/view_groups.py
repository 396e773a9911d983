"""Groups of views: crops of one length, with the same augmentation, seen by the same networks, of the same
utterance.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from pydino.audio.augment import AugmentConfig
from pydino.audio.waveform_augment import WaveformAugmentConfig

from .crops import CropConfig, Short

if TYPE_CHECKING:
    from .views import Batch

Owner = Literal["own", "partner"]


@dataclass(frozen=True)
class ViewGroup:
    """A group of views of each utterance of a batch.

    Attributes:
        name: part of the key of the draw of its crop length; unique within a run.
        number: views of each utterance.
        seconds: shortest and longest crop; each step draws one length for all views of the group.
        augment, waveform: augmentation of filter banks and, with input: audio, of recordings.
        seen_by: student, teacher, or both. Where a method has no teacher, ``student`` and ``both`` are the
            same.
        owner: ``own``: crops of the utterance itself; ``partner``: crops of its partner utterance.
        short: what becomes of an utterance shorter than the crop: repeated, or padded and masked.
        whole: crops of the whole utterance, up to the longest of ``seconds``; needs ``short: mask``.
        joined_to: name of the group before this one whose crops these may be joined to
            (:mod:`.copy_paste`); they are half as long, and no network sees them by themselves.
        as_long_as: name of the group before this one whose length the crops of a step have.
    """

    name: str
    number: int
    seconds: tuple[float, float]
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    waveform: WaveformAugmentConfig = field(default_factory=WaveformAugmentConfig)
    seen_by: Literal["student", "teacher", "both"] = "both"
    owner: Owner = "own"
    short: Short = "repeat"
    whole: bool = False
    joined_to: str = ""
    as_long_as: str = ""


def view_groups(
    crops: CropConfig,
    augment: tuple[AugmentConfig, AugmentConfig] | None = None,
    waveform: tuple[WaveformAugmentConfig, WaveformAugmentConfig] | None = None,
) -> list[ViewGroup]:
    """Return DINO's groups: long (global) views for both networks and, if there are any, short (local) ones
    for the student alone.

    Args:
        crops: numbers and lengths.
        augment, waveform: augmentation of the views that only the student sees, and of those that the teacher
            sees too.
    """
    augment = augment or (AugmentConfig(), AugmentConfig())
    waveform = waveform or (WaveformAugmentConfig(), WaveformAugmentConfig())
    whole, short = crops.whole_up_to_seconds, crops.short
    long = (0.0, whole) if whole else tuple(crops.global_seconds)
    groups = [
        ViewGroup(
            "global", crops.num_global, long, augment[1], waveform[1], "both", short=short, whole=whole > 0
        ),
        ViewGroup(
            *("local", crops.num_local, tuple(crops.local_seconds), augment[0], waveform[0], "student"),
            short=short,
        ),
    ]
    return [group for group in groups if group.number]


def with_partners(groups: list[ViewGroup]) -> list[ViewGroup]:
    """Return the groups, and for each of them one of crops of a partner utterance that may be joined to
    them.
    """
    partners = [
        replace(
            group,
            name=f"{group.name} of a partner",
            seconds=tuple(value / 2 for value in group.seconds),
            owner="partner",
            whole=False,
            joined_to=group.name,
        )
        for group in groups
    ]
    return [*groups, *partners]


def cluster_pairs(groups: list[ViewGroup]) -> list[ViewGroup]:
    """Return the groups for a loss of pairs, whose second crop is of a partner: of the two global views of
    each utterance, the second is replaced.
    """
    (group,) = groups
    own = replace(group, number=1)
    return [own, replace(own, name=f"{group.name} of a partner", owner="partner", as_long_as=group.name)]


def with_partners_for_the_teacher(groups: list[ViewGroup]) -> list[ViewGroup]:
    """Return DINO's groups where the teacher sees the global views of a partner in place of those of the
    utterance itself, which the student sees alone.
    """
    first, *others = groups
    partner = replace(first, name=f"{first.name} of a partner", owner="partner", seen_by="teacher")
    return [replace(first, seen_by="student"), *others, partner]


def globals_for_the_teacher_alone(groups: list[ViewGroup]) -> list[ViewGroup]:
    """Return DINO's groups where the student sees local views alone."""
    return [
        replace(group, seen_by="teacher") if group.seen_by == "both" else group
        for group in groups
        if group.name == "local" or group.seen_by != "student"
    ]


def view_numbers(groups: list[ViewGroup]) -> list[np.ndarray]:
    """Return the view numbers of each group, counted over all groups; draws are keyed by them."""
    ends = np.cumsum([group.number for group in groups])
    return [np.arange(end - group.number, end) for group, end in zip(groups, ends, strict=True)]


def columns_of(groups: list[ViewGroup], owner: Owner) -> np.ndarray:
    """Return the view numbers of one owner: the columns of its crops in a batch."""
    numbers = [n for group, n in zip(groups, view_numbers(groups), strict=True) if group.owner == owner]
    return np.concatenate(numbers) if numbers else np.array([], dtype=np.int64)


@dataclass
class Views:
    """The views of a batch of B utterances, as input of the networks.

    Attributes:
        groups: the groups of views.
        tensors: one per group, (number B, L, F): the first view of every utterance, then the second, ...
        frames: one per group: valid frames of each view, (number B,) int64, to be given to the encoder beside
            the views; None where all are.
        batch: what they are views of.
    """

    groups: list[ViewGroup]
    tensors: list[torch.Tensor]
    frames: list[torch.Tensor | None]
    batch: "Batch"

    @property
    def size(self) -> int:
        """B."""
        return len(self.tensors[0]) // self.groups[0].number

    @property
    def student(self) -> list[torch.Tensor]:
        """The groups that the student sees."""
        return self._seen_by("student", self.tensors)

    @property
    def student_frames(self) -> list[torch.Tensor | None]:
        """The valid frames of the groups that the student sees."""
        return self._seen_by("student", self.frames)

    @property
    def teacher(self) -> list[torch.Tensor]:
        """The groups that the teacher sees."""
        return self._seen_by("teacher", self.tensors)

    def group(self, name: str) -> torch.Tensor:
        """Return the views of the group called ``name``."""
        return next(x for group, x in zip(self.groups, self.tensors, strict=True) if group.name == name)

    def _seen_by(self, network: str, of_groups: list) -> list:
        pairs = zip(self.groups, of_groups, strict=True)
        return [x for group, x in pairs if group.seen_by in (network, "both")]
