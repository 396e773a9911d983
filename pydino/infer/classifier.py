"""A trained classifier: a model folder that also holds the head of a task.

Besides the files of a model, the folder has ``classifier.safetensors`` (the head's numbers) and the key
``classifier`` in config.yaml (:class:`ClassifierConfig`). As with a model, loading one executes nothing.

Axes: N utterances, T frames, F columns of the features, D dimensions of the embedding, S of the statistics,
K classes.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from pydino.audio import Channel, NormalisationConfig
from pydino.base import UserError, atomic_open, config_from_dict, config_to_dict, warn
from pydino.models import ClassifierHead, build_encoder

from .classifier_config import ClassifierConfig
from .front_end import FrontEnd
from .model import NO_CLASSIFIER, Model
from .model_folder import (
    CLASSIFIER,
    CONFIG,
    ModelConfig,
    check_tensors,
    load,
    read_tensors,
    save_model,
)


class Classifier:
    """A model and the head of a task.

    Attributes:
        model: :class:`Model`.
        head: :class:`pydino.models.ClassifierHead`.
        config: :class:`ClassifierConfig`.

    Example:
        classifier = pydino.load("exp/SYSTEM/transfer/emotion/logreg/classifier")
        classifier.predict(waveform, rate)      # {"angry": 0.81, "neutral": 0.19}
    """

    def __init__(self, model: Model, head: ClassifierHead, config: ClassifierConfig):
        self.model, self.config = model, config
        self.head = head.to(model.device).eval().requires_grad_(False)
        front_end = model.front_end
        # As steps/make_baseline.sh --kind fbank-stats makes it.
        plain = NormalisationConfig(kind="none")
        self._plain = FrontEnd(replace(front_end.config, normalisation=plain, input="features"))
        statistics = build_encoder({"name": "statistics", "mean": True}, front_end.feature_dim)
        self._statistics = Model(statistics, self._plain, None, model.device)
        frames = round(1000 * config.chunk_seconds / front_end.options.frame_shift)
        self._chunk_frames = max(1, frames) if config.chunk_seconds else 0

    @property
    def embedding_dim(self) -> int:
        return self.model.embedding_dim

    def embed(self, waveform, rate: int, keep_silence: bool = False, name: str = "waveform") -> np.ndarray:
        """Return the embedding, as :meth:`Model.embed`."""
        return self.model.embed(waveform, rate, keep_silence, name)

    def embed_recording(
        self, recording: Channel, keep_silence: bool = False, name: str = "recording"
    ) -> np.ndarray:
        """Return the embedding, as :meth:`Model.embed_recording`."""
        return self.model.embed_recording(recording, keep_silence, name)

    def predict(
        self, waveform, rate: int, keep_silence: bool | None = None, name: str = "waveform"
    ) -> dict[str, float | str]:
        """Return class -> probability, in the order of the classes; of a number, its value and unit:
        ``{"value": 63.2, "unit": "years"}``.

        Args:
            waveform: (S,) floats from -1 to 1, one channel, of any length.
            rate: Hz; resampled where the model's front end allows it.
            keep_silence: do not remove silence; None: as in training.
            name: of the utterance, for a warning and for the dither.

        Raises:
            UserError: a waveform that cannot be used (see :meth:`FrontEnd.from_waveform`).
        """
        of = (waveform, rate, self._keeps_silence(keep_silence), name)
        return self.as_dict(self._outputs_of(lambda front_end: front_end.waveform_features(*of), name))

    def recording_outputs(
        self, recording: Channel, keep_silence: bool | None = None, name: str = "recording"
    ) -> np.ndarray:
        """Return the log-posteriors (K,), or the number (1,), of an open recording
        (:func:`pydino.audio.open_channel`), which is read in parts; arguments as of :meth:`predict`.
        """
        of = (recording, self._keeps_silence(keep_silence), name)
        return self._outputs_of(lambda front_end: front_end.recording_features(*of), name)

    def as_dict(self, outputs: np.ndarray) -> dict[str, float | str]:
        """Return log-posteriors (K,), of any sum, or a number (1,), as :meth:`predict` does."""
        if self.config.kind == "number":
            return {"value": float(outputs[0]), "unit": self.config.unit}
        posteriors = np.exp(outputs - outputs.max())
        return dict(zip(self.config.classes, (posteriors / posteriors.sum()).tolist(), strict=True))

    def statistics_of(self, kept: list) -> np.ndarray:
        """Return mean and standard deviation (N, 2F) of features before normalisation, without silence: the
        embedding of the baseline fbank-stats.
        """
        return self._statistics.embed_features(kept)

    @torch.inference_mode()
    def outputs(self, features: list, statistics: np.ndarray | None = None) -> np.ndarray:
        """Return the log-posteriors (N, K) float64 of utterances, or the numbers (N, 1).

        The mean of the chunks' log-posteriors is divided by the temperature and normalised to a sum of one:
        log softmax(mean over chunks of log-posteriors / temperature).

        Args:
            features: N arrays or tensors (T, F) from :meth:`FrontEnd.prepare`.
            statistics: (N, S), the vectors of :meth:`statistics_of`, where the head takes them.

        Raises:
            ValueError: statistics are missing, not wanted, or of another shape.
        """
        wanted = (len(features), self.head.mean.numel() - self.model.embedding_dim)
        given = np.zeros((len(features), 0), dtype=np.float32) if statistics is None else statistics
        if given.shape != wanted:
            raise ValueError(f"statistics of shape {given.shape}; this classifier takes {wanted}")
        pieces = self.model.embed_chunks(features, self._chunk_frames, self.config.short)
        owner = np.repeat(np.arange(len(features)), [len(of_one) for of_one in pieces])
        embeddings = np.concatenate(pieces)
        inputs = np.concatenate([embeddings, given.astype(np.float32, copy=False)[owner]], axis=1)
        outputs = self.head(torch.from_numpy(inputs).to(self.model.device)).double().cpu()
        if self.config.kind == "class":
            outputs = outputs.log_softmax(dim=1)
        total = torch.zeros(len(features), outputs.shape[1], dtype=torch.float64)
        total.index_add_(0, torch.from_numpy(owner), outputs)
        mean = total / torch.bincount(torch.from_numpy(owner), minlength=len(features))[:, None]
        if self.config.kind == "class":
            mean = (mean / self.config.temperature).log_softmax(dim=1)
        return mean.numpy()

    def _keeps_silence(self, keep_silence: bool | None) -> bool:
        return self.config.keep_silence if keep_silence is None else keep_silence

    def _outputs_of(self, read, name: str) -> np.ndarray:
        """Outputs (K,) of what ``read`` returns for a front end: features, or samples, (T, F) before silence
        is removed, and which frames are voiced. Statistics are of features whatever the model takes.
        """
        front_end, statistics = self.model.front_end, None
        features, voiced = read(front_end)
        if self.config.statistics:
            plain = read(self._plain) if front_end.of_waveforms else (features, voiced)
            statistics = self.statistics_of([self._plain.prepare(*plain)[0]])
        prepared, any_voiced = front_end.prepare(features, voiced, in_place=True)
        if not any_voiced:
            warn(f"{name}: no voiced frame; the whole utterance is classified")
        return self.outputs([prepared], statistics)[0]


def save_classifier(
    folder,
    encoder: torch.nn.Module,
    head: ClassifierHead,
    model_config: dict,
    classifier: ClassifierConfig,
    readme: str,
    training_audio: np.ndarray | None = None,
) -> None:
    """Write a classifier's folder; an earlier one there is replaced.

    Args:
        folder: to write.
        encoder: the network below the head.
        head: of D inputs, or D + S where ``classifier.statistics``, and K outputs.
        model_config: the mapping of ModelConfig; its key ``classifier`` is ignored.
        classifier: its configuration.
        readme: README.md; what the classifier must not be used for is added to it.
        training_audio: as of :func:`pydino.infer.save_model`.

    Raises:
        UserError: the head does not fit the encoder or the configuration, has a number that is not finite, or
            the folder cannot be written.
    """
    folder = Path(folder)
    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in head.state_dict().items()}
    config = {**model_config, "classifier": config_to_dict(classifier)}
    where = str(folder / CONFIG)
    front_end = FrontEnd(config_from_dict(ModelConfig, config, where).front_end, where=where)
    _check(folder, _empty_head(classifier, encoder.embedding_dim, front_end.feature_dim), state)
    # Without config.yaml, which save_model writes last, the folder is not taken for a model.
    (folder / CONFIG).unlink(missing_ok=True)
    with atomic_open(folder / CLASSIFIER, "wb") as stream:
        stream.write(safetensors.torch.save(state))
    text = f"{readme.rstrip()}\n\n## Use\n\n{classifier.note}\n".lstrip()
    save_model(folder, encoder, config, text, training_audio)


def load_classifier(folder, device: str = "cpu") -> Classifier:
    """Load a classifier's folder.

    Args:
        folder: made by :func:`save_classifier`.
        device: cpu, cuda, cuda:1, ...

    Raises:
        UserError: a folder without a classifier, numbers that do not match or are not finite, a damaged file,
            or no such device.
        ConfigError: see :func:`pydino.infer.read_model_config`.
    """
    folder = Path(folder)
    model = load(folder, device)
    config = model.config.classifier
    if config is None:
        raise UserError(f"{folder}: {NO_CLASSIFIER}")
    state = read_tensors(folder / CLASSIFIER)
    head = _empty_head(config, model.embedding_dim, model.front_end.feature_dim)
    _check(folder, head, state)
    head.load_state_dict(state, assign=True)
    return Classifier(model, head.float(), config)


def _empty_head(config: ClassifierConfig, embedding_dim: int, feature_dim: int) -> ClassifierHead:
    """The head that a configuration describes, without storage: whatever the sizes, no memory is taken."""
    with torch.device("meta"):
        inputs = embedding_dim + (2 * feature_dim if config.statistics else 0)
        return ClassifierHead(inputs, config.outputs, config.hidden)


def _check(folder: Path, head: ClassifierHead, state: dict) -> None:
    """Raise an error where the numbers of the head do not fit, or are not finite."""
    check_tensors(folder / CLASSIFIER, head.state_dict(), state, f"the classifier of {folder / CONFIG}")
    for name, tensor in state.items():
        if not (tensor.is_floating_point() and bool(torch.isfinite(tensor).all())):
            raise UserError(
                f"{folder / CLASSIFIER}: {name} holds values that are not finite numbers; train the "
                "classifier again"
            )
