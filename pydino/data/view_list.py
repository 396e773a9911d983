"""A fixed list of views of some training utterances, on which every snapshot of a run is measured without
labels: disjoint crops, augmented independently.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pydino.base import (
    UserError,
    keyed_permutation,
    keyed_uniform,
    purpose,
    read_json,
    write_json,
)

from .source import Source
from .view_maker import ViewMaker
from .views import Batch

MOST_UTTERANCES = 2000
VIEWS = 6  # of each utterance
LONGEST_SECONDS = 2.0  # of a view
# Utterances of a batch, in the order of the list: babble is mixed from the others, so it is part of the
# result.
BATCH_UTTERANCES = 64


@dataclass(frozen=True)
class ViewList:
    """N utterances, q views of each; JSON in a file.

    Attributes:
        data: pre-training directory.
        frames: of each view, of speech: silence is not counted.
        hashes: (N,) uint64, in random order.
        starts: (N, q) int64, first frame of each view. Views 1 and 2, 3 and 4, ... do not overlap.
    """

    data: str
    frames: int
    hashes: np.ndarray
    starts: np.ndarray

    def write(self, path) -> None:
        """Write the list: an utterance is known by its stored hash alone."""
        utterances = {
            str(key): row for key, row in zip(self.hashes.tolist(), self.starts.tolist(), strict=True)
        }
        write_json(path, {"data": self.data, "frames": self.frames, "starts": utterances})

    @classmethod
    def read(cls, path) -> "ViewList":
        """Read what :meth:`write` wrote.

        Raises:
            UserError: it is no such file.
        """
        try:
            found = read_json(path)
            hashes = np.array([int(key) for key in found["starts"]], dtype=np.uint64)
            starts = np.array(list(found["starts"].values()), dtype=np.int64)
            return cls(found["data"], int(found["frames"]), hashes, starts.reshape(len(hashes), -1))
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise UserError(
                f"{path} is not a list of views; remove it, and pydino monitor makes another"
            ) from error


def choose_views(
    data: str,
    hashes: np.ndarray,
    lengths: np.ndarray,
    frame_shift: float,
    seed: int = 0,
) -> ViewList:
    """Return up to MOST_UTTERANCES utterances and VIEWS views of each, chosen by their hashes.

    A view has 2 s or, where utterances are short, half the median of their lengths. Utterances of two views
    or more are eligible. Each is cut into as many equal parts as it has room for views, up to VIEWS; view k
    lies in part k modulo their number, anywhere.

    Args:
        data: pre-training directory.
        hashes: (N,) uint64 of its utterances; names and their order change nothing.
        lengths: (N,) frames of speech.
        frame_shift: seconds.
        seed: of the draws.

    Raises:
        UserError: fewer than two utterances are long enough.
    """
    half = int(np.median(lengths)) // 2
    frames = max(min(round(LONGEST_SECONDS / frame_shift), half), 1)
    eligible = np.flatnonzero(lengths >= 2 * frames)
    if len(eligible) < 2:
        raise UserError(
            f"{data}: {len(eligible)} utterances have {2 * frames} frames of speech, room for two views of "
            f"{frames * frame_shift:g} s; scores without labels need longer utterances"
        )
    order = keyed_permutation(hashes[eligible], seed, purpose("utterances of the monitor"))
    chosen = eligible[order[:MOST_UTTERANCES]]
    own, numbers = hashes[chosen], np.arange(VIEWS)
    parts = np.minimum(lengths[chosen] // frames, VIEWS)[:, None]  # (N, 1)
    place = numbers % parts  # (N, q)
    first = place * lengths[chosen][:, None] // parts
    room = (place + 1) * lengths[chosen][:, None] // parts - first - frames
    draw = keyed_uniform(seed, own[:, None], numbers, purpose("views of the monitor"))
    return ViewList(data, frames, own, first + np.floor(draw * (room + 1)).astype(np.int64))


def listed_views(views: ViewList, source: Source, maker: ViewMaker) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yield (rows of the list, their views (B, q, L, F), augmented and normalised), in batches.

    Args:
        views: the list.
        source: with its utterances.
        maker: of one group of q views.

    Raises:
        UserError: an utterance of the list is not there, or is shorter than when the list was made.
    """
    places = np.searchsorted(source.hashes, views.hashes).clip(max=len(source) - 1)
    gone = source.hashes[places] != views.hashes
    gone |= source.lengths[places] < views.starts.max(axis=1) + views.frames
    if gone.any():
        raise stale_list(views, np.count_nonzero(gone))
    sizes = np.full(views.starts.shape[1], views.frames)
    for begin in range(0, len(places), BATCH_UTTERANCES):
        rows = slice(begin, min(begin + BATCH_UTTERANCES, len(places)))
        content = source.collect(places[rows], views.starts[rows], sizes)
        hashes = views.hashes[rows]
        batch = Batch(0, np.zeros(len(hashes), dtype=np.int64), hashes, content, 0.0)
        made = maker(batch).tensors[0]  # the first view of every utterance, then the second, ...
        yield rows, made.unflatten(0, (len(sizes), len(hashes))).transpose(0, 1)


def stale_list(views: ViewList, gone: int) -> UserError:
    """Return what is to be raised where a directory lacks ``gone`` of the utterances of a list."""
    return UserError(
        f"{views.data}: {gone} of {len(views.hashes)} utterances of the list of views are not in it any "
        "more, or are shorter: it was made again since. Give the directory that the run was trained on, or "
        "remove EXP/monitor/views.json, and pydino monitor makes another list"
    )


def list_path(exp) -> Path:
    """Where the list of a run is."""
    return Path(exp) / "monitor" / "views.json"
