"""Groups of views: crops of one length, with the same augmentation, seen by the same networks, of the same
utterance.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from pydino.audio.augment import AugmentConfig
from pydino.audio.waveform_augment import WaveformAugmentConfig

from .crops import CropConfig

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
    """

    name: str
    number: int
    seconds: tuple[float, float]
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    waveform: WaveformAugmentConfig = field(default_factory=WaveformAugmentConfig)
    seen_by: Literal["student", "teacher", "both"] = "both"
    owner: Owner = "own"


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
    groups = [
        ViewGroup("global", crops.num_global, tuple(crops.global_seconds), augment[1], waveform[1], "both"),
        ViewGroup("local", crops.num_local, tuple(crops.local_seconds), augment[0], waveform[0], "student"),
    ]
    return [group for group in groups if group.number]


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
    """

    groups: list[ViewGroup]
    tensors: list[torch.Tensor]

    @property
    def student(self) -> list[torch.Tensor]:
        """The groups that the student sees."""
        return self._seen_by("student")

    @property
    def teacher(self) -> list[torch.Tensor]:
        """The groups that the teacher sees."""
        return self._seen_by("teacher")

    def group(self, name: str) -> torch.Tensor:
        """Return the views of the group called ``name``."""
        return next(x for group, x in zip(self.groups, self.tensors, strict=True) if group.name == name)

    def _seen_by(self, network: str) -> list[torch.Tensor]:
        pairs = zip(self.groups, self.tensors, strict=True)
        return [x for group, x in pairs if group.seen_by in (network, "both")]
