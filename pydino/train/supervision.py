"""What a classifier for a task is trained on and judged by: arrays, in which no utterance has a name.

Labels of the test part are in none of it.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch
from torch import nn

from pydino.data import Labels
from pydino.models import ClassifierHead


class Held(Protocol):
    """The development part of a fold, M utterances: what a classifier is judged by while it is trained.

    Attributes:
        targets: (M,) int64 class numbers, or float64.
        digest: of all that it depends on besides the classifier.
    """

    targets: np.ndarray
    digest: str

    def outputs(self, encoder: nn.Module, head: nn.Module, share: tuple[int, int]) -> np.ndarray:
        """Return what a classifier says of the whole utterances i with i mod N = I, for ``share`` (I, N):
        log-posteriors (M', K), or numbers (M', 1).
        """


@dataclass
class Supervision:
    """A task, and the part of it that one fold is trained on.

    Attributes:
        task: its name.
        kind: what the targets are.
        num_outputs: K; 1 for numbers.
        hashes: (N,) uint64, ascending: the utterances of the training part.
        targets: (N,) int64 class numbers, or float64.
        statistics: (N, S) float32, vectors beside the embedding; None: none.
        head: weights that the head starts from; None: random ones.
        held: the development part; None: there is none.
        classes: names of the classes, for a task of kind class.
    """

    task: str
    kind: Literal["class", "number"]
    num_outputs: int
    hashes: np.ndarray
    targets: np.ndarray
    statistics: np.ndarray | None = None
    head: dict[str, torch.Tensor] | None = None
    held: Held | None = None
    classes: list[str] = field(default_factory=list)
    digest: str = field(init=False)

    def __post_init__(self):
        if (self.hashes[1:] <= self.hashes[:-1]).any():
            raise ValueError("hashes must ascend")
        digest = hashlib.sha256(f"{self.task} {self.kind} {self.num_outputs}".encode())
        for array in (self.hashes, self.targets, self.statistics):
            digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
        digest.update((self.held.digest if self.held else "").encode())
        self.digest = digest.hexdigest()[:16]  # the head is not in it: it follows from the encoder and these

    @property
    def labels(self) -> Labels | None:
        """The classes as the data room takes them; None: numbers."""
        return Labels(self.hashes, self.targets, self.classes) if self.kind == "class" else None

    def places(self, hashes: np.ndarray) -> np.ndarray:
        """Return the places (B,) of utterances (B,) in the arrays."""
        return np.searchsorted(self.hashes, hashes)


def head_of(state: dict[str, torch.Tensor], hidden: int) -> ClassifierHead:
    """Return the head with these weights."""
    outputs = state["layers.2.bias" if hidden else "layers.bias"].numel()
    head = ClassifierHead(state["mean"].numel(), outputs, hidden)
    head.load_state_dict(state)
    return head


def class_weights(targets: np.ndarray, classes: int) -> np.ndarray:
    """Return N / (K N_k) for each of the K classes, (K,) float64: what makes every class count alike, with
    mean 1 over the utterances. A class without utterances gets 0.
    """
    counts = np.bincount(targets, minlength=classes)
    present = counts > 0
    return np.where(present, len(targets) / (present.sum() * np.where(present, counts, 1)), 0.0)


def balanced_loss(log_posteriors: np.ndarray, targets: np.ndarray) -> float:
    """Return the mean over the classes that are there of the mean cross-entropy of their utterances, in nats.

    Args:
        log_posteriors: (M, K).
        targets: (M,) int64.
    """
    losses = -log_posteriors[np.arange(len(targets)), targets].astype(np.float64)
    return float((class_weights(targets, log_posteriors.shape[1])[targets] * losses).mean())


def unweighted_average_recall(log_posteriors: np.ndarray, targets: np.ndarray) -> float:
    """Return the mean over the classes that are there of the share of their utterances that are right."""
    right = (log_posteriors.argmax(axis=1) == targets).astype(np.float64)
    return float((class_weights(targets, log_posteriors.shape[1])[targets] * right).mean())
