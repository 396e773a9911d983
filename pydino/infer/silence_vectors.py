"""Vectors for the leak controls of a task that are made of pauses: silence of equal length and place in every
utterance, in which only channel and noise are left, and apart from it the pauses themselves, as durations.
"""

import numpy as np

from pydino.audio import mean_and_deviation
from pydino.base import keyed_uniform, purpose, utterance_hash

from .control_vectors import CROP_PERCENTILE, Extracted, StoredFrames

MARGIN_SECONDS = 0.5  # from silence to the nearest speech, where there is enough of it
LEAST_FRAMES = 10  # of silence that count as enough
ENOUGH = 0.9  # share of the utterances that must have enough silence of a kind for that rule
PLACES = ("before the first speech", "after the last speech", "between speech")


def silences(
    voiced: np.ndarray,
) -> tuple[list[tuple[int, int]], list[tuple[int, int]], list[tuple[int, int]]]:
    """Return the runs of frames without speech before the first speech, after the last, and between: lists of
    (first frame, frame after the last). There are none in an utterance without any speech.

    Args:
        voiced: (T,) bool.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], voiced, [False]]).astype(np.int8)))
    starts, ends = edges[::2].tolist(), edges[1::2].tolist()
    if not starts:
        return [], [], []
    before = [(0, starts[0])] if starts[0] else []
    after = [(ends[-1], len(voiced))] if ends[-1] < len(voiced) else []
    return before, after, list(zip(ends[:-1], starts[1:], strict=True))


def silence_vectors(frames: StoredFrames, keys: list[str], seed: int = 0) -> Extracted:
    """Mean and deviation of the filter banks, (2 F,), over frames without speech, and such frames embedded as
    if they were speech: nothing in them tells how long the pauses are.

    All utterances give equally many frames, in one run, from the same place, equally far from speech: what
    directly precedes the first speech, or follows the last. Where 90 % of the utterances have 0.1 s there
    that is 0.5 s away from speech, it is taken from so far; otherwise from the frames next to speech. Where
    too few have either, it is half of it the beginning and half the end of a pause, drawn from the pauses
    that are long enough. The length is the 5th percentile of what there is, 0.1 s at least. Utterances with
    less are absent; whether an utterance has so much may depend on its pauses, so that a control leaves them
    out instead of giving them a vector in common.

    Args:
        frames: stored features and VAD decisions.
        keys: utterances.
        seed: of the draw among pauses.
    """
    runs = {key: silences(frames.voiced(key)) for key in keys}
    far = max(1, round(MARGIN_SECONDS / frames.frame_seconds))
    rules = [(margin, place) for margin in (far, 1) for place in range(len(PLACES))]

    def usable(key: str, margin: int, place: int) -> list[tuple[int, int]]:
        """The runs without the frames nearer than ``margin`` to speech."""
        near = margin - 1
        first, last = (near if place != 0 else 0), (near if place != 1 else 0)
        return [(a + first, b - last) for a, b in runs[key][place] if b - a - first - last >= LEAST_FRAMES]

    counts = {rule: sum(bool(usable(key, *rule)) for key in keys) for rule in rules}
    margin, place = next(
        (rule for rule in rules if counts[rule] >= ENOUGH * len(keys)), max(rules, key=counts.__getitem__)
    )
    found = {key: usable(key, margin, place) for key in keys}
    longest = [max(b - a for a, b in one) for one in found.values() if one]
    length = int(np.percentile(longest, CROP_PERCENTILE)) if longest else 0
    found = {key: [(a, b) for a, b in one if b - a >= length] for key, one in found.items() if one}
    chosen = [key for key in keys if found.get(key)]
    hashes = np.array([utterance_hash(key) for key in chosen], dtype=np.uint64)
    draws = dict(zip(chosen, keyed_uniform(seed, hashes, purpose("control silence")), strict=True))

    def silent(key: str) -> np.ndarray:
        first, last = found[key][int(draws[key] * len(found[key]))]
        head = (0, length, (length + 1) // 2)[place]  # frames from the beginning of the run
        features = frames.features(key)
        return np.concatenate([features[first : first + head], features[last - (length - head) : last]])

    near = f"{MARGIN_SECONDS:g} s from speech, " if margin > 1 else ""
    note = (
        f"{length * frames.frame_seconds:.2f} s {near}{PLACES[place]}; {len(keys) - len(chosen)} of "
        f"{len(keys)} utterances have less and are left out"
    )
    statistics = {key: mean_and_deviation(silent(key)) for key in chosen}
    return Extracted(statistics, frames.embed(chosen, silent), note)


def pause_vectors(frames: StoredFrames, keys: list[str]) -> Extracted:
    """The pauses between the first and the last speech as durations, without any sound, (6,): their share of
    the time, their number a second, the mean, deviation and greatest of their durations, and the mean
    duration of the speech between them, in seconds. Utterances without speech are absent.
    """
    shift, found = frames.frame_seconds, {}
    for key in keys:
        voiced = frames.voiced(key)
        spoken = np.flatnonzero(voiced)
        if len(spoken):
            pauses = np.array([b - a for a, b in silences(voiced)[2]] or [0.0]) * shift
            number, total = len(silences(voiced)[2]), (spoken[-1] + 1 - spoken[0]) * shift
            found[key] = np.array(
                [
                    pauses.sum() / total,
                    number / total,
                    pauses.mean(),
                    pauses.std(),
                    pauses.max(),
                    len(spoken) * shift / (number + 1),
                ]
            )
    return Extracted(found, note="durations and number of the pauses between speech, without any sound")
