"""The classifier on an embedding: standardisation, then a linear layer or a small perceptron."""

import torch
from torch import nn


class ClassifierHead(nn.Module):
    """(B, D) -> (B, K): ``layers((x - mean) * scale)``, logits of K classes, or one number.

    D is the dimension of the embedding, and of the vector beside it where the classifier takes one (the
    statistics of the filter banks). Mean and scale are those of the training part; they are not trained.

    Args:
        inputs: D.
        outputs: K; 1 for a number.
        hidden: units of a hidden layer of rectified linear units; 0: none.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int = 0):
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))
        if hidden:
            self.layers = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
        else:
            self.layers = nn.Linear(inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers((x - self.mean) * self.scale)
