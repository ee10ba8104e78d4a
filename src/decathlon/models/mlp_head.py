"""A small multilayer perceptron on the embeddings of a frozen encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MLPHead(nn.Module):
    """Fully connected layers with ReLU and dropout.

    Args:
        embedding_dim: Embedding dimension.
        hidden: Units of each hidden layer.
        dropout: Dropout probability before each fully connected layer.
        num_classes: Number of classes.

    Attributes:
        mean: Subtracted from the embeddings, (embedding_dim,).
        deviation: The standard deviations that they are then divided by, (embedding_dim,).
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, embedding_dim: int, hidden: tuple[int, ...] = (256,), dropout: float = 0.5, num_classes: int = 2
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(embedding_dim))
        self.register_buffer("deviation", torch.ones(embedding_dim))
        layers: list[nn.Module] = []
        for in_features, out_features in zip((embedding_dim, *hidden), hidden, strict=False):
            layers += [nn.Dropout(dropout), nn.Linear(in_features, out_features), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear((embedding_dim, *hidden)[-1], num_classes))

    def standardise(self, embeddings: Tensor) -> None:
        """Set mean and deviation to those of these embeddings (N, embedding_dim)."""
        self.mean.copy_(embeddings.mean(0))
        self.deviation.copy_(embeddings.std(0).clamp(min=1e-6))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Embeddings (N, embedding_dim) -> logits (N, num_classes)."""
        return self.layers((embeddings - self.mean) / self.deviation)
