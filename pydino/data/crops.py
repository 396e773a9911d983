"""Crops: their number, lengths and positions; every position is a function of the seed, the visit and the
utterance's hash.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from pydino.base import check_not_negative, check_sizes, keyed_integers, keyed_uniform, purpose

if TYPE_CHECKING:
    from .view_groups import ViewGroup


Short = Literal["repeat", "mask"]
MOST_CROPS, LONGEST_CROP = 1000, 600  # a shorter utterance is repeated, and would fill the memory; seconds


def check_crop_seconds(name: str, low_high: list[float]) -> None:
    """Raise ValueError for lengths of crops that are none; ``name`` is the key."""
    if len(low_high) != 2 or not 0 < low_high[0] <= low_high[1] <= LONGEST_CROP:
        raise ValueError(
            f"{name} must be [shortest, longest] in seconds, up to {LONGEST_CROP}, got {low_high}"
        )


@dataclass
class CropConfig:
    """Crops of an utterance: the teacher sees the long (global) ones, the student all of them.

    An utterance shorter than a crop is repeated from its beginning until the crop is full.
    """

    num_global: int = 2
    num_local: int = 4
    # [shortest, longest]; each step draws one length
    global_seconds: list[float] = field(default_factory=lambda: [4.0, 4.0])
    local_seconds: list[float] = field(default_factory=lambda: [2.0, 2.0])
    # disjoint: global and local crops from two disjoint parts of the utterance, in random order; where it is
    # too short for one of each, they are placed independently.
    placement: Literal["independent", "disjoint"] = "independent"
    # all crops of a visit are inside a window of random length; []: no window
    window_seconds: list[float] = field(default_factory=list)
    # options of UtteranceCropConfig alone
    short: ClassVar[Short] = "repeat"
    whole_up_to_seconds: ClassVar[float] = 0.0

    def __post_init__(self):
        check_sizes(self, "num_global", most=MOST_CROPS)
        check_sizes(self, "num_local", least=0, most=MOST_CROPS)
        for name in ("global_seconds", "local_seconds", "window_seconds"):
            if name != "window_seconds" or self.window_seconds:
                check_crop_seconds(name, getattr(self, name))
        if self.window_seconds and self.window_seconds[0] < max(
            self.global_seconds[1], self.local_seconds[1]
        ):
            raise ValueError(f"window_seconds {self.window_seconds} must not be shorter than a crop")


@dataclass
class UtteranceCropConfig(CropConfig):
    """Crops for a classifier of utterances, which are often shorter than a crop."""

    num_global: int = 1
    num_local: int = 0
    global_seconds: list[float] = field(default_factory=lambda: [2.0, 3.0])
    # an utterance shorter than a crop is repeated, or padded, and the encoder told how much of it is valid
    short: Short = "repeat"
    # above 0: whole utterances in place of global crops of global_seconds, in batches as long as their
    # longest utterance; of one longer than this, a stretch of this length. Needs short: mask.
    whole_up_to_seconds: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        check_not_negative(self, "whole_up_to_seconds")
        if self.whole_up_to_seconds and self.short != "mask":
            raise ValueError(
                "whole_up_to_seconds needs short: mask: a batch is as long as its longest utterance"
            )
        if self.whole_up_to_seconds and (self.window_seconds or self.placement == "disjoint"):
            raise ValueError(
                "whole_up_to_seconds leaves nothing to place; remove window_seconds and placement: disjoint"
            )


class CropPlacer:
    """Lengths and positions of crops.

    Args:
        config: how crops are placed.
        groups: of views.
        frame_shift: seconds.
        seed: of every draw.
        least_frames: that the encoder takes; a shorter utterance is repeated up to it before it is padded.
    """

    def __init__(
        self,
        config: CropConfig,
        groups: list[ViewGroup],
        frame_shift: float,
        seed: int,
        least_frames: int = 1,
    ):
        self.config, self.groups, self.frame_shift, self.seed = config, groups, frame_shift, seed
        self.least_frames = least_frames
        numbers = [group.number for group in groups]
        self._masked = np.repeat([group.short == "mask" for group in groups], numbers)  # (V,)
        if config.placement == "disjoint" and (
            len(groups) > 2 or any(group.owner != "own" for group in groups)
        ):
            raise ValueError("placement: disjoint is for two groups of crops of the same utterance")

    def _frames(self, low_high: list[float]) -> tuple[int, int]:
        return round(low_high[0] / self.frame_shift), round(low_high[1] / self.frame_shift)

    @property
    def shortest(self) -> int:
        """Frames of the shortest crop that may be drawn."""
        drawn = [group for group in self.groups if not (group.whole or group.joined_to or group.as_long_as)]
        return min((self._frames(group.seconds)[0] for group in drawn), default=self.least_frames)

    @property
    def most_frames(self) -> int:
        """Frames of all views of an utterance together, where every crop has its greatest length."""
        return sum(group.number * self._frames(group.seconds)[1] for group in self.groups)

    def sizes(self, step: int, longest: int = 0) -> np.ndarray:
        """Return the frames of each view of a step, (V,): one length for all views of a group, so that they
        form one tensor.

        Args:
            step: number of the step.
            longest: frames of the longest utterance of the step, for groups of whole utterances.
        """
        lengths: dict[str, int] = {}
        for group in self.groups:
            low, high = self._frames(group.seconds)
            if group.joined_to:
                lengths[group.name] = lengths[group.joined_to] // 2
            elif group.as_long_as:
                lengths[group.name] = lengths[group.as_long_as]
            elif group.whole:
                lengths[group.name] = max(min(longest, high), self.least_frames)
            else:
                key = purpose(f"length of {group.name} crops")
                lengths[group.name] = int(keyed_integers(low, high + 1, self.seed, step, key))
        return np.repeat(list(lengths.values()), [group.number for group in self.groups])

    def frames(self, lengths: np.ndarray, sizes: np.ndarray) -> np.ndarray | None:
        """Return how many frames of each crop are valid, (B, V) int64, of utterances of ``lengths`` (B, V);
        None where no group of views is masked.
        """
        if not self._masked.any():
            return None
        valid = np.minimum(np.maximum(lengths, self.least_frames), sizes)
        return np.where(self._masked, valid, sizes)

    def starts(
        self, visits: np.ndarray, hashes: np.ndarray, lengths: np.ndarray, sizes: np.ndarray
    ) -> np.ndarray:
        """Return the first frame of every crop, (B, V) int64, below the utterance's length.

        Args:
            visits: (B,) number of the visit of the utterance.
            hashes: (B,) uint64.
            lengths: (B, V) frames of the utterance that each crop is of, or (B,) where all views are of the
                same.
            sizes: (V,) frames of the views.
        """
        config, keys = self.config, (self.seed, visits[:, None], hashes[:, None])
        lengths = np.broadcast_to(lengths.reshape(len(hashes), -1), (len(hashes), len(sizes)))
        first, room = np.zeros((len(hashes), len(sizes)), dtype=np.int64), lengths
        if config.window_seconds:
            low, high = self._frames(config.window_seconds)
            room = np.minimum(keyed_integers(low, high + 1, *keys, purpose("length of the window")), lengths)
            first += keyed_integers(0, lengths - room + 1, *keys, purpose("start of the window"))
        if config.placement == "disjoint" and len(self.groups) > 1:
            first, room = self._part(keys, first, room, sizes)
        draw = keyed_uniform(*keys, np.arange(len(sizes)), purpose("start of the crop"))
        # Where the utterance is shorter than the crop, the crop starts anywhere and wraps around, but at its
        # beginning where what follows it is masked.
        starts = first + np.floor(draw * np.where(room >= sizes, room - sizes + 1, room)).astype(np.int64)
        return np.where(self._masked & (lengths < sizes), 0, starts) if self._masked.any() else starts

    def _part(self, keys, first, room, sizes) -> tuple[np.ndarray, np.ndarray]:
        """Return the start and the length of the part of each view: split at a random position, with global
        crops on a random side.
        """
        is_global = np.arange(len(sizes)) < self.groups[0].number
        long, short, whole = sizes[0], sizes[-1], room[:, :1]
        fits = whole >= long + short
        long_part = keyed_integers(
            long, np.maximum(whole - short, long) + 1, *keys, purpose("where parts meet")
        )
        global_first = keyed_uniform(*keys, purpose("which part comes first")) < 0.5
        part = np.where(is_global, long_part, whole - long_part)
        offset = np.where(is_global == global_first, 0, whole - part)
        return np.where(fits, first + offset, first), np.where(fits, part, room)
