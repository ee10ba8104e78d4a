"""A small multilayer perceptron on vectors that another network, which stays as it is, has made."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Head(nn.Module):
    """Vectors to class scores through hidden layers.

    Args:
        inputs: Values in a vector.
        hidden: Units of each hidden layer.
        dropout: Share of the values that is dropped before each fully connected layer.
        classes: Scores to give.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, inputs: int, hidden: tuple[int, ...] = (256,), dropout: float = 0.5, classes: int = 2) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("deviation", torch.ones(inputs))
        layers: list[nn.Module] = []
        for before, after in zip((inputs, *hidden), hidden, strict=False):
            layers += [nn.Dropout(dropout), nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear((inputs, *hidden)[-1], classes))

    def standardise(self, vectors: Tensor) -> None:
        """From now on bring each value to mean 0 and deviation 1, as measured on these vectors (N, inputs)."""
        self.mean.copy_(vectors.mean(0))
        self.deviation.copy_(vectors.std(0).clamp(min=1e-6))

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors (N, inputs) -> scores (N, classes)."""
        return self.layers((vectors - self.mean) / self.deviation)
