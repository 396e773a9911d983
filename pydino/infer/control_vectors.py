"""Vectors for the leak controls of a task: what a recording tells beside its speech, as statistics of stored
filter banks and, with a model, as embeddings.

Axes: T frames, F columns of the features, D dimensions of the embedding.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from pydino.audio import (
    FbankConfig,
    channel_statistics,
    clipped_share,
    filter_centres,
    mean_and_deviation,
    read_audio,
    select_voiced,
)
from pydino.audio.utterances import utterances
from pydino.base import UserError, keyed_uniform, load_config, purpose, utterance_hash, warn
from pydino.kaldi import ObjectReader, read_table

from .stored_features import BLOCK_FRAMES, StoredFeatures

CROP_PERCENTILE = 5  # of the lengths: the length of the crops

Vectors = dict[str, np.ndarray]  # utterance -> vector, of equal sizes


@dataclass
class Extracted:
    """What a control classifies.

    Attributes:
        statistics: utterance -> vector; utterances that have nothing of the kind are absent.
        embeddings: the same as embeddings of a model; empty without one.
        note: how they were made, in words, for the log and the results.
    """

    statistics: Vectors = field(default_factory=dict)
    embeddings: Vectors = field(default_factory=dict)
    note: str = ""


class StoredFrames:
    """The filter banks, log-energies and VAD decisions of data directories as they are stored: every frame,
    not normalised.

    Args:
        folders: data directories; no utterance in two of them.
        model: checked against their features; None for none. One that takes waveforms is left out, as
            controls are made of filter banks.

    Raises:
        UserError: features are missing, are no filter banks, or do not fit the model.
    """

    def __init__(self, folders, model=None):
        self._reader = {name: ObjectReader() for name in ("feats", "vad", "energy")}
        self._tables: dict[str, dict[str, str]] = {name: {} for name in self._reader}
        self._folder_of: dict[str, Path] = {}
        self.folders, self.model = [Path(folder) for folder in folders], model
        if model is not None and model.front_end.of_waveforms:
            warn("the model takes waveforms: controls are made of statistics of filter banks alone")
            self.model = None
        for folder in self.folders:
            self._add(folder)

    def _add(self, folder: Path) -> None:
        if not (folder / "feats.scp").is_file() or not (folder / "conf" / "fbank.yaml").is_file():
            raise UserError(
                f"no {folder}/feats.scp with {folder}/conf/fbank.yaml: leak controls are made of filter "
                f"banks; run steps/make_fbank.sh {folder}"
            )
        if self.model is not None:
            StoredFeatures(folder, self.model.front_end, keep_silence=True)  # for its checks
        self.options = load_config(FbankConfig, folder / "conf" / "fbank.yaml")
        for name, table in self._tables.items():
            path = folder / f"{name}.scp"
            table |= read_table(path) if path.is_file() else {}
        self._folder_of |= dict.fromkeys(read_table(folder / "feats.scp"), folder)

    @property
    def frame_seconds(self) -> float:
        """The frame shift."""
        return self.options.window_shift / self.options.sample_frequency

    def kept(self, keys) -> list[str]:
        """Return the utterances that have features."""
        return [key for key in keys if key in self._tables["feats"]]

    def folder(self, key: str) -> Path:
        """Return the data directory of an utterance."""
        return self._folder_of[key]

    def features(self, key: str) -> np.ndarray:
        """Return the filter banks of an utterance: (T, F) float32."""
        return self._read("feats", key, "steps/make_fbank.sh").astype(np.float32, copy=False)

    def energy(self, key: str) -> np.ndarray:
        """Return the frame log-energies of an utterance: (T,)."""
        return self._read("energy", key, "steps/make_fbank.sh")

    def voiced(self, key: str) -> np.ndarray:
        """Return the VAD decisions of an utterance: (T,) bool."""
        return self._read("vad", key, "steps/compute_vad.sh") > 0.5

    @property
    def has_vad(self) -> bool:
        """Whether every data directory has VAD decisions."""
        return all((folder / "vad.scp").is_file() for folder in self.folders)

    def _read(self, name: str, key: str, remedy: str) -> np.ndarray:
        if key not in self._tables[name]:
            folder = self._folder_of[key]
            raise UserError(f"{folder}/{name}.scp: {key} is not in it; run {remedy} {folder}")
        return self._reader[name].read(self._tables[name][key], key)

    def speech(self, key: str, keep_silence: bool) -> np.ndarray:
        """Return the frames that a model sees, before normalisation: (T', F)."""
        features = torch.from_numpy(self.features(key))
        if keep_silence or not self.has_vad:
            return features.numpy()
        selected = select_voiced(features, self.voiced(key))
        return (selected if len(selected) else features).numpy()

    def embed(self, keys: list[str], frames_of) -> Vectors:
        """Return embeddings, utterance -> (D,), of the frames (T, F), not normalised, that ``frames_of``
        returns for each utterance; nothing without a model.
        """
        found: Vectors = {}
        if self.model is None:
            return found
        names, block, total = [], [], 0
        for number, key in enumerate(keys, 1):
            # copied, as the front end may return a view of what an archive reader still holds
            frames, _ = self.model.front_end.prepare(torch.from_numpy(np.array(frames_of(key))))
            names.append(key)
            block.append(frames)
            total += len(frames)
            if total >= BLOCK_FRAMES or number == len(keys):
                found |= zip(names, self.model.embed_features(block), strict=True)
                names, block, total = [], [], 0
        return found


def channel_vectors(frames: StoredFrames, keys: list[str]) -> Extracted:
    """Statistics of the channel (see :func:`pydino.audio.channel_statistics`), and the share of clipped
    samples where every recording can be read; commands in wav.scp are not run.
    """
    centres = filter_centres(frames.options)
    found = {key: channel_statistics(frames.features(key), frames.energy(key), centres) for key in keys}
    try:
        clipped = _clipped(frames, set(keys))
    except UserError as error:
        return Extracted(found, note=f"without the share of clipped samples: {error}")
    return Extracted({key: np.append(vector, clipped[key]) for key, vector in found.items()})


def _clipped(frames: StoredFrames, keys: set[str]) -> dict[str, float]:
    channel = None if frames.options.channel < 0 else frames.options.channel
    found = {}
    for folder in frames.folders:
        if not (folder / "wav.scp").is_file():
            raise UserError(f"no {folder}/wav.scp")
        for one in utterances(folder):
            if one.key in keys:
                samples, _ = read_audio(one.rxfilename, one.start, one.end, channel=channel)
                found[one.key] = clipped_share(samples)
    return found


def whole_vectors(frames: StoredFrames, keys: list[str], keep_silence: bool) -> Extracted:
    """What the model sees of each utterance: mean and deviation of its frames, and its embedding."""

    def speech(key: str) -> np.ndarray:
        return frames.speech(key, keep_silence)

    return Extracted({key: mean_and_deviation(speech(key)) for key in keys}, frames.embed(keys, speech))


def crop_vectors(frames: StoredFrames, keys: list[str], keep_silence: bool, seed: int) -> Extracted:
    """One crop of equal length of each utterance at a random place: mean and deviation of its frames, and its
    embedding.

    The length is the 5th percentile of the numbers of frames that the model sees; the shorter utterances are
    repeated from their start up to it. The place is a keyed draw from the utterance's name.
    """
    lengths = {key: len(frames.speech(key, keep_silence)) for key in keys}
    length = max(1, int(np.percentile(list(lengths.values()), CROP_PERCENTILE)))
    hashes = np.array([utterance_hash(key) for key in keys], dtype=np.uint64)
    draws = dict(zip(keys, keyed_uniform(seed, hashes, purpose("control crop")), strict=True))

    def crop(key: str) -> np.ndarray:
        speech = frames.speech(key, keep_silence)
        first = int(draws[key] * (max(len(speech), length) - length + 1))
        return np.take(speech, np.arange(first, first + length) % len(speech), axis=0)

    note = f"crops of {length * frames.frame_seconds:.2f} s"
    return Extracted({key: mean_and_deviation(crop(key)) for key in keys}, frames.embed(keys, crop), note)


def interviewer_vectors(
    frames: StoredFrames, interviewer_of: dict[str, list[str]], speakers: dict[str, str], keep_silence: bool
) -> Extracted:
    """The interviewer's speech to each subject: the mean over its segments of the vectors of
    :func:`whole_vectors`, the same for every utterance of the subject.

    Args:
        frames: of the interviewer's segments.
        interviewer_of: subject -> segments of the interviewer.
        speakers: utterance of the task -> subject; utterances of subjects without such a segment are absent.
    """
    segments = frames.kept(segment for found in interviewer_of.values() for segment in found)
    one = whole_vectors(frames, segments, keep_silence)

    def of_subjects(vectors: Vectors) -> Vectors:
        means = {
            subject: np.mean([vectors[name] for name in names if name in vectors], axis=0)
            for subject, names in interviewer_of.items()
            if any(name in vectors for name in names)
        }
        return {key: means[subject] for key, subject in speakers.items() if subject in means}

    statistics = of_subjects(one.statistics)
    lacking = len(speakers) - len(statistics)
    note = f"{len(segments)} segments of the interviewer; {lacking} of {len(speakers)} utterances have none"
    return Extracted(statistics, of_subjects(one.embeddings), note)


def timing_vectors(frames: StoredFrames, keys: list[str], turns: dict[str, str]) -> Extracted:
    """Duration and turns without any sound: the logarithms of the utterance's number of frames, of the number
    of utterances of its recording and of their frames together, and the share of speech (where there is VAD).

    Args:
        turns: utterance -> recording, of all utterances of the data directories.
    """
    length = {key: len(frames.energy(key)) for key in frames.kept(turns)}
    count: dict[str, int] = {}
    total: dict[str, int] = {}
    for key, frames_there in length.items():
        count[turns[key]] = count.get(turns[key], 0) + 1
        total[turns[key]] = total.get(turns[key], 0) + frames_there
    share = {key: [frames.voiced(key).mean()] if frames.has_vad else [] for key in keys}
    return Extracted(
        {
            key: np.array([*np.log([length[key], count[turns[key]], total[turns[key]]]), *share[key]])
            for key in keys
        },
        note="duration, number of turns" + (", share of speech" if frames.has_vad else ""),
    )
