"""A loaded model: waveforms or features to embeddings.

Axes: N utterances, T frames (of any number), F columns of the features, D dimensions of the embedding.
"""

from itertools import groupby
from typing import Literal

import numpy as np
import torch

from pydino.audio import Channel
from pydino.base import UserError, warn

from .chunks import chunks
from .front_end import FrontEnd

# The embedding of a longer utterance is the mean of those of equal pieces, weighted by length, which bounds
# memory. Five minutes of speech.
MAX_FRAMES = 30_000
# Frames of a batch on a GPU. On a CPU utterances are not batched: that would gain nothing where they are
# long, and an embedding is then bit for bit independent of other utterances and of the number of jobs.
GPU_BATCH_FRAMES = 120_000

NO_CLASSIFIER = (
    "this model gives embeddings and has no classifier; a folder with classifier.safetensors has one: stage "
    "10 trains them on your labels (steps/train_classifier.sh, steps/finetune.sh), such as "
    "exp/SYSTEM/transfer/TASK/logreg/classifier"
)


class Model:
    """An encoder with its front end; ``config`` (ModelConfig) describes it and its training.

    Example:
        model = pydino.load("exp/dino_mini/seed0/teacher")
        vector = model.embed(waveform, rate)      # (S,) in -1 to 1 -> (D,)
    """

    def __init__(self, encoder: torch.nn.Module, front_end: FrontEnd, config, device="cpu"):
        self.device = torch.device(device)
        self.encoder = encoder.to(self.device).eval().requires_grad_(False)
        self.front_end = front_end
        self.config = config

    @property
    def embedding_dim(self) -> int:
        return self.encoder.embedding_dim

    def embed(self, waveform, rate: int, keep_silence: bool = False, name: str = "waveform") -> np.ndarray:
        """Return the embedding (D,) float32 of a waveform.

        Args:
            waveform: (S,) floats from -1 to 1, one channel, of any length.
            rate: Hz; resampled where the model's front end allows it.
            keep_silence: do not remove silence.
            name: of the utterance, for a warning and for the dither (see :meth:`FrontEnd.from_waveform`).

        Raises:
            UserError: a waveform that cannot be embedded (see :meth:`FrontEnd.from_waveform`).
        """
        return self._embed(*self.front_end.from_waveform(waveform, rate, keep_silence, name), name)

    def embed_recording(
        self, recording: Channel, keep_silence: bool = False, name: str = "recording"
    ) -> np.ndarray:
        """Return what :meth:`embed` returns for the samples of an open recording
        (:func:`pydino.audio.open_channel`), which is read in parts.
        """
        return self._embed(*self.front_end.from_recording(recording, keep_silence, name), name)

    def predict(self, *arguments, **options) -> None:
        """Raise a UserError that says what a classifier is: :class:`pydino.infer.Classifier` predicts."""
        raise UserError(NO_CLASSIFIER)

    def _embed(self, features: torch.Tensor, any_voiced: bool, name: str) -> np.ndarray:
        if not any_voiced:
            warn(f"{name}: no voiced frame; the whole utterance is embedded")
        return self.embed_features([features])[0]

    def embed_features(self, features: list, cpu_batch_frames: int = 0) -> np.ndarray:
        """Return the embeddings (N, D) float32 of N arrays or tensors (T, F) from :meth:`FrontEnd.prepare`.

        Batches contain utterances of equal length only, so that nothing is padded and utterances do not
        influence each other. One of fewer frames than ``encoder.min_input`` is repeated from its start; one
        of more than MAX_FRAMES, or ``encoder.max_input``, is embedded in pieces.

        Args:
            features: of any lengths.
            cpu_batch_frames: of a batch on a CPU, for short ones whose last digits need not be independent of
                the others; 0: no batches.
        """
        pieces = []  # (frames, utterance, input of the encoder)
        for utterance, matrix in enumerate(features):
            matrix = torch.as_tensor(matrix, dtype=torch.float32)
            if matrix.ndim != 2 or len(matrix) == 0 or matrix.shape[1] != self.front_end.dim:
                raise ValueError(
                    f"features of shape {tuple(matrix.shape)}; expected (frames, {self.front_end.dim}) with "
                    "a frame or more"
                )
            for piece in self._pieces(matrix):
                pieces.append((len(piece), utterance, piece))
        total = np.zeros((len(features), self.embedding_dim), dtype=np.float64)
        frames = np.zeros(len(features))
        for length, group in groupby(sorted(pieces, key=lambda piece: piece[0]), key=lambda piece: piece[0]):
            group = list(group)
            size = max(1, (self._batch_frames if self.device.type == "cuda" else cpu_batch_frames) // length)
            for start in range(0, len(group), size):
                batch = group[start : start + size]
                embeddings = self._encode(torch.stack([piece for _, _, piece in batch]))
                for (_, utterance, _), embedding in zip(batch, embeddings, strict=True):
                    total[utterance] += length * embedding
                    frames[utterance] += length
        return (total / frames[:, None]).astype(np.float32)

    def embed_chunks(
        self, features: list, length: int, short: Literal["repeat", "mask"] = "repeat"
    ) -> list[np.ndarray]:
        """Return the embeddings of the chunks of N utterances, (chunks, D) float32 each.

        Args:
            features: as of :meth:`embed_features`.
            length: frames of a chunk; 0: whole utterances.
            short: what becomes of a shorter utterance (:func:`pydino.infer.chunks`).
        """
        cut = [chunks(torch.as_tensor(matrix, dtype=torch.float32), length, short) for matrix in features]
        embeddings = self.embed_features([chunk for pieces in cut for chunk in pieces])
        return np.split(embeddings, np.cumsum([len(pieces) for pieces in cut])[:-1])

    def _pieces(self, matrix: torch.Tensor) -> list[torch.Tensor]:
        if len(matrix) < self.encoder.min_input:
            times = -(-self.encoder.min_input // len(matrix))
            return [matrix.repeat(times, 1)[: self.encoder.min_input]]
        return list(torch.tensor_split(matrix, -(-len(matrix) // (self.encoder.max_input or MAX_FRAMES))))

    @property
    def _batch_frames(self) -> int:
        limit = self.encoder.max_input
        return GPU_BATCH_FRAMES if limit is None else 10 * limit

    @torch.inference_mode()
    def _encode(self, batch: torch.Tensor) -> np.ndarray:
        """(B, T, F) -> (B, D)."""
        return self.encoder(batch.to(self.device)).float().cpu().numpy()
