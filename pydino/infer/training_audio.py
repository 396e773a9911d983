"""``training_audio.npy`` of a model folder: the hashes of the recordings that its weights were trained on, in
their own training or in one that they started from; so that a test recording among them is found, whatever
its name is.
"""

import io
from pathlib import Path

import numpy as np

from pydino.base import UserError, atomic_open, read_yaml
from pydino.kaldi import AUDIO_HASHES, TRAINING_AUDIO, Overlap, read_audio_hashes


def hashes_of(data, utterances) -> np.ndarray | None:
    """Return the hashes of the samples of some utterances of a data directory, (N,) uint64, in their order;
    None unless it has them all.

    Raises:
        UserError: a malformed table.
    """
    table, utterances = read_audio_hashes(data), list(utterances)
    if not all(utterance in table for utterance in utterances):
        return None
    return np.array([int(table[utterance], 16) for utterance in utterances], dtype=np.uint64)


def read_training_audio(folder) -> np.ndarray | None:
    """Return what a model folder was trained on, (N,) uint64, ascending: empty for weights that were not
    trained (``train_set: none``); None where the folder does not say.

    Raises:
        UserError: a damaged file.
    """
    path = Path(folder) / TRAINING_AUDIO
    if not path.is_file():
        untrained = read_yaml(Path(folder) / "config.yaml").get("train_set") == "none"
        return np.array([], dtype=np.uint64) if untrained else None
    try:
        hashes = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} cannot be read ({error}); fetch or make the model again") from error
    if hashes.dtype != np.uint64 or hashes.ndim != 1 or (hashes[1:] <= hashes[:-1]).any():
        raise UserError(f"{path} does not hold ascending 64-bit hashes; fetch or make the model again")
    return hashes


def write_training_audio(folder, hashes: np.ndarray | None) -> None:
    """Write what a model was trained on, or remove an earlier file where that is not known.

    Args:
        folder: model folder.
        hashes: (N,) uint64, in any order; None: not known.
    """
    path = Path(folder) / TRAINING_AUDIO
    if hashes is None:
        path.unlink(missing_ok=True)
        return
    content = io.BytesIO()
    np.save(content, np.unique(hashes), allow_pickle=False)
    with atomic_open(path, "wb") as stream:
        stream.write(content.getvalue())


def overlap(model_dir, data_dir, utterances) -> Overlap:
    """Return which of some utterances of a data directory a model was trained on.

    Samples are compared, bit for bit: a copy that was resampled, cut or coded with losses is another
    recording.

    Args:
        model_dir: model folder.
        data_dir: data directory of the utterances.
        utterances: their keys.

    Raises:
        UserError: a damaged file.
    """
    trained_on = read_training_audio(model_dir)
    if trained_on is None:
        return Overlap([], f"{model_dir} has no {TRAINING_AUDIO}, the list of what it was trained on")
    if not len(trained_on):
        return Overlap([])
    utterances = sorted(utterances)
    hashes = hashes_of(data_dir, utterances)
    if hashes is None:
        return Overlap([], f"{data_dir}/{AUDIO_HASHES} is missing or incomplete")
    heard = np.isin(hashes, trained_on)
    return Overlap([utterance for utterance, found in zip(utterances, heard, strict=True) if found])
