"""Crops: how many, how long, and where in the utterance; every place a function of the seed, the visit and
the utterance's hash.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from pydino.base import keyed_integers, keyed_uniform, purpose


@dataclass
class CropConfig:
    """Crops of an utterance: the teacher sees the long (global) ones, the student all of them.

    An utterance shorter than a crop is repeated from its beginning until the crop is full.
    """

    num_global: int = 2
    num_local: int = 4
    # each step draws one length between the two
    global_seconds: list[float] = field(default_factory=lambda: [4.0, 4.0])
    local_seconds: list[float] = field(default_factory=lambda: [2.0, 2.0])
    # disjoint: global and local crops from two parts of the utterance, the first or the second by a coin;
    # where it is too short for one of each side by side, they are placed as independent ones.
    placement: Literal["independent", "disjoint"] = "independent"
    # all crops of a visit lie in a stretch of a drawn length; []: anywhere
    window_seconds: list[float] = field(default_factory=list)

    def __post_init__(self):
        if self.num_global < 1:
            raise ValueError(f"num_global must be at least 1, got {self.num_global}")
        if self.num_local < 0:
            raise ValueError(f"num_local must not be negative, got {self.num_local}")
        for name in ("global_seconds", "local_seconds", "window_seconds"):
            low_high = getattr(self, name)
            if (low_high or name != "window_seconds") and (
                len(low_high) != 2 or not 0 < low_high[0] <= low_high[1]
            ):
                raise ValueError(f"{name} must be [shortest, longest] in seconds, got {low_high}")
        if self.window_seconds and self.window_seconds[0] < max(
            self.global_seconds[1], self.local_seconds[1]
        ):
            raise ValueError(f"window_seconds {self.window_seconds} must not be shorter than a crop")


class CropPlacer:
    """Lengths and places of crops.

    Args:
        config: numbers and lengths.
        frame_shift: seconds.
        seed: of every draw.
    """

    def __init__(self, config: CropConfig, frame_shift: float, seed: int):
        self.config, self.frame_shift, self.seed = config, frame_shift, seed

    def _frames(self, low_high: list[float]) -> tuple[int, int]:
        return round(low_high[0] / self.frame_shift), round(low_high[1] / self.frame_shift)

    @property
    def shortest(self) -> int:
        """Frames of the shortest crop that may be drawn."""
        kinds = [self.config.global_seconds, self.config.local_seconds][: 2 if self.config.num_local else 1]
        return min(self._frames(low_high)[0] for low_high in kinds)

    def sizes(self, step: int) -> np.ndarray:
        """Return the frames of each view of a step, (V,), global ones first: one length for all of a kind, so
        that they are one tensor.
        """
        config, lengths = self.config, []
        for low_high, kind in ((config.global_seconds, "global"), (config.local_seconds, "local")):
            low, high = self._frames(low_high)
            lengths.append(
                int(keyed_integers(low, high + 1, self.seed, step, purpose(f"length of {kind} crops")))
            )
        return np.repeat(lengths, [config.num_global, config.num_local])

    def starts(
        self, visits: np.ndarray, hashes: np.ndarray, lengths: np.ndarray, sizes: np.ndarray
    ) -> np.ndarray:
        """Return the first frame of every crop, (B, V) int64, below the utterance's length.

        Args:
            visits: (B,) which visit of the utterance it is.
            hashes: (B,) uint64.
            lengths: (B,) frames of the utterances.
            sizes: (V,) frames of the views.
        """
        config, keys = self.config, (self.seed, visits[:, None], hashes[:, None])
        first, room = (
            np.zeros((len(hashes), len(sizes)), dtype=np.int64),
            np.repeat(lengths[:, None], len(sizes), axis=1),
        )
        if config.window_seconds:
            low, high = self._frames(config.window_seconds)
            window = np.minimum(
                keyed_integers(low, high + 1, *keys, purpose("length of the window")), lengths[:, None]
            )
            first += keyed_integers(0, lengths[:, None] - window + 1, *keys, purpose("start of the window"))
            room = np.repeat(window, len(sizes), axis=1)
        if config.placement == "disjoint" and config.num_local:
            first, room = self._part(keys, first, room, sizes)
        draw = keyed_uniform(*keys, np.arange(len(sizes)), purpose("start of the crop"))
        # Where the utterance is shorter than the crop, the crop starts anywhere and wraps round.
        return first + np.floor(draw * np.where(room >= sizes, room - sizes + 1, room)).astype(np.int64)

    def _part(self, keys, first, room, sizes) -> tuple[np.ndarray, np.ndarray]:
        """Return where the part of each view begins and how long it is: cut at a drawn place, global crops on
        a drawn side.
        """
        is_global = np.arange(len(sizes)) < self.config.num_global
        long, short, whole = sizes[0], sizes[-1], room[:, :1]
        fits = whole >= long + short
        long_part = keyed_integers(
            long, np.maximum(whole - short, long) + 1, *keys, purpose("where parts meet")
        )
        global_first = keyed_uniform(*keys, purpose("which part comes first")) < 0.5
        part = np.where(is_global, long_part, whole - long_part)
        offset = np.where(is_global == global_first, 0, whole - part)
        return np.where(fits, first + offset, first), np.where(fits, part, room)
