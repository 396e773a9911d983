"""The features of a data directory as input of a model's encoder, after a check that they were computed as
the model's front end does.
"""

from pathlib import Path

import torch

from pydino.audio import KINDS, NormalisationConfig, VadConfig
from pydino.base import UserError, config_to_dict, load_config
from pydino.kaldi import ObjectReader, read_table

from .front_end import STORED_SCALE, FrontEnd, FrontEndConfig

# Options that select or prepare recordings, or only log: features of given samples do not depend on them.
NEUTRAL_OPTIONS = ("allow_downsample", "allow_upsample", "channel", "min_duration", "debug_mel")

# Features held in memory at a time: 64 MB of 80 columns, enough to find equal lengths for a GPU's batches.
BLOCK_FRAMES = 200_000


def read_front_end(data, normalisation: NormalisationConfig, input_kind: str = "features") -> FrontEndConfig:
    """Return the front end of the features of a data directory, with a normalisation, for an encoder that
    takes ``input_kind``; without ``vad.scp`` silence is kept.

    Raises:
        UserError: DATA/conf lacks the configuration of features or VAD.
    """
    conf = Path(data) / "conf"
    kind = next((kind for kind in KINDS if (conf / f"{kind}.yaml").is_file()), None)
    if kind is None:
        raise UserError(
            f"no {conf}/fbank.yaml, the configuration of the features: run steps/make_fbank.sh {data}"
        )
    options = load_config(KINDS[kind][0], conf / f"{kind}.yaml")
    return FrontEndConfig(
        sample_rate=int(options.sample_frequency),
        features={"kind": kind, **config_to_dict(options)},
        vad=load_config(VadConfig, conf / "vad.yaml") if (Path(data) / "vad.scp").is_file() else None,
        normalisation=normalisation,
        input=input_kind,
    )


class StoredFeatures:
    """``feats.scp`` and ``vad.scp`` of a data directory, through the front end of a model.

    Args:
        data: data directory.
        front_end: of the model.
        keep_silence: ignore vad.scp.

    Raises:
        UserError: features or VAD are missing, or were computed with other options than the model's; names
            the option and the remedy.
    """

    def __init__(self, data, front_end: FrontEnd, keep_silence: bool = False):
        self.data, self.front_end = Path(data), front_end
        if not (self.data / "feats.scp").is_file():
            raise UserError(f"no {self.data}/feats.scp: run steps/make_fbank.sh {self.data}")
        self._check_features()
        self._feature_reader, self._vad_reader = ObjectReader(), ObjectReader()
        self._features = read_table(self.data / "feats.scp")
        utt2spk = self.data / "utt2spk"
        self.utterances = list(read_table(utt2spk) if utt2spk.is_file() else self._features)
        if not self.utterances:
            raise UserError(f"{self.data} holds no utterance")
        self._vad = None
        if front_end.config.vad is not None and not keep_silence:
            self._check_vad()
            self._vad = read_table(self.data / "vad.scp")

    def has(self, key: str) -> bool:
        """Whether the utterance has features."""
        return key in self._features

    def read(self, key: str) -> tuple[torch.Tensor, bool]:
        """Return the encoder's input (T, F) of an utterance, and whether any of its frames is voiced (see
        FrontEnd.prepare).
        """
        features = torch.from_numpy(self._feature_reader.read(self._features[key], key)).float()
        if features.ndim != 2 or features.shape[1] != self.front_end.dim or len(features) == 0:
            raise UserError(
                f"{self.data}/feats.scp: {key} has features of shape {tuple(features.shape)}, expected "
                f"(frames, {self.front_end.dim}); make them again"
            )
        return self._prepared(key, features)

    def _prepared(self, key: str, features: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """Return what :meth:`read` returns, of all frames."""
        if self._vad is None:
            return self.front_end.prepare(features)
        if key not in self._vad:
            raise UserError(
                f"{self.data}/vad.scp: {key} is not in it; run steps/compute_vad.sh {self.data} again"
            )
        try:
            return self.front_end.prepare(features, self._vad_reader.read(self._vad[key], key))
        except ValueError as error:
            raise UserError(f"{self.data}: {key}: {error}") from error

    def num_frames(self) -> dict[str, int]:
        """Return the numbers of frames by utterance in ``utt2num_frames``; nothing if it is not there."""
        path = self.data / "utt2num_frames"
        return {key: int(value) for key, value in read_table(path).items()} if path.is_file() else {}

    def blocks(self, keys):
        """Yield utterances in the order of ``keys``, which have features, BLOCK_FRAMES frames or a few more
        at a time: (keys, encoder inputs, the keys among them without a voiced frame).
        """
        names, inputs, unvoiced, frames = [], [], [], 0
        for key in keys:
            features, any_voiced = self.read(key)
            names.append(key)
            inputs.append(features)
            unvoiced += [] if any_voiced else [key]
            frames += len(features)
            if frames >= BLOCK_FRAMES:
                yield names, inputs, unvoiced
                names, inputs, unvoiced, frames = [], [], [], 0
        if names:
            yield names, inputs, unvoiced

    def _check_features(self):
        kind = self.front_end.config.features["kind"]
        path = self.data / "conf" / f"{kind}.yaml"
        if not path.is_file():
            others = [other for other in KINDS if (self.data / "conf" / f"{other}.yaml").is_file()]
            found = f"they are {others[0]} features" if others else "their kind is unknown"
            raise UserError(
                f"no {path}: the model needs {kind} features, but {found}; run steps/make_{kind}.sh "
                f"{self.data}"
            )
        if self.front_end.config.waveform_scale != STORED_SCALE:
            raise UserError(
                f"the model needs samples multiplied by {self.front_end.config.waveform_scale:g}, but "
                "stored features are of samples times "
                f"{STORED_SCALE:g}; embed the recordings with pydino embed instead"
            )
        remedy = f"steps/make_{kind}.sh --{kind}-config"
        self._compare(
            config_to_dict(load_config(KINDS[kind][0], path)),
            config_to_dict(self.front_end.options),
            path,
            remedy,
        )

    def _check_vad(self):
        path = self.data / "conf" / "vad.yaml"
        if not path.is_file() or not (self.data / "vad.scp").is_file():
            raise UserError(
                f"no {self.data}/vad.scp or {path}, and the model removes silence: run steps/compute_vad.sh "
                f"{self.data}, or give --keep-silence true"
            )
        remedy = "steps/compute_vad.sh --vad-config"
        self._compare(
            config_to_dict(load_config(VadConfig, path)),
            config_to_dict(self.front_end.config.vad),
            path,
            remedy,
        )

    def _compare(self, stored: dict, wanted: dict, path: Path, remedy: str):
        for name, value in wanted.items():
            if name not in NEUTRAL_OPTIONS and stored[name] != value:
                raise UserError(
                    f"{path}: {name} is {stored[name]}, but the model was trained with {name}: {value}; make "
                    f"the features again with {remedy} YAML {self.data}, where YAML says {name}: {value}"
                )
