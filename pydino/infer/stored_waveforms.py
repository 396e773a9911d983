"""The recordings of a data directory as input of an encoder that takes waveforms."""

from pathlib import Path

import torch

from pydino.audio import samples_of_frames
from pydino.audio.utterances import read_samples, utterances
from pydino.base import UserError

from .front_end import STORED_SCALE, FrontEnd
from .stored_features import StoredFeatures


class StoredWaveforms(StoredFeatures):
    """``wav.scp``, ``segments`` and ``vad.scp`` of a data directory, through the front end of a model.

    Utterances, their frames and VAD are those of the stored features (stage 2), which are not read; so the
    arguments and errors are those of :class:`StoredFeatures`.
    """

    def __init__(self, data, front_end: FrontEnd, keep_silence: bool = False):
        super().__init__(data, front_end, keep_silence)
        if not (self.data / "wav.scp").is_file():
            raise UserError(f"no {self.data}/wav.scp: the model takes waveforms, so it needs the recordings")
        self._places = {utterance.key: utterance for utterance in utterances(self.data)}

    def read(self, key: str) -> tuple[torch.Tensor, bool]:
        """Return the encoder's input (T, H), the samples of each frame, and whether any of its frames is
        voiced.
        """
        if key not in self._places:
            table = "segments" if Path(self.data / "segments").is_file() else "wav.scp"
            raise UserError(f"{self.data}/{table}: {key} is not in it, but in feats.scp; run stage 2 again")
        samples = torch.from_numpy(read_samples(self._places[key], self.front_end.options))
        return self._prepared(key, samples_of_frames(samples / STORED_SCALE, self.front_end.options))


def stored_inputs(data, front_end: FrontEnd, keep_silence: bool = False) -> StoredFeatures:
    """Return what a model embeds of a data directory: its stored features, or its recordings; arguments and
    errors as of :class:`StoredFeatures`.
    """
    kind = StoredWaveforms if front_end.of_waveforms else StoredFeatures
    return kind(data, front_end, keep_silence)
