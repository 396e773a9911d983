"""A small perceptron on frozen embeddings, trained until held-out utterances get worse."""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from .scorers import Perceptron

HIDDEN = 64
_LEARNING_RATE, _WEIGHT_DECAY = 3e-3, 1e-2
_MOST_STEPS, _PATIENCE = 500, 30


def train_perceptron(
    x: np.ndarray, y: np.ndarray, held_x: np.ndarray, held_y: np.ndarray, seed: int
) -> Perceptron:
    """Train by AdamW on all utterances at once, with balanced class weights; the weights of the step with the
    least cross-entropy on the held-out utterances are kept.

    Args:
        x, held_x: (N, D) and (M, D), standardised.
        y, held_y: (N,) and (M,) ints from 0 to K - 1, all of them in one or the other.
        seed: of the initial weights.
    """
    classes = int(max(y.max(), held_y.max())) + 1
    counts = np.bincount(y, minlength=classes)
    train, held = torch.tensor(x, dtype=torch.float32), torch.tensor(held_x, dtype=torch.float32)
    weights = torch.tensor(len(y) / (classes * np.maximum(counts, 1)), dtype=torch.float32)
    truth, held_truth = torch.tensor(y), torch.tensor(held_y)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = nn.Sequential(nn.Linear(x.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes))
    optimiser = torch.optim.AdamW(layers.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    best, kept, since = np.inf, None, 0
    for _ in range(_MOST_STEPS):
        optimiser.zero_grad()
        cross_entropy(layers(train), truth, weights).backward()
        optimiser.step()
        with torch.no_grad():
            loss = float(cross_entropy(layers(held), held_truth, weights))
        since += 1
        if loss < best:
            best, since = loss, 0
            kept = [parameter.detach().double().numpy().copy() for parameter in layers.parameters()]
        if since >= _PATIENCE:
            break
    return Perceptron(*kept)
