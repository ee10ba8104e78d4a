"""Multilayer perceptron: two fully connected layers (Rumelhart, Hinton and Williams 1986)."""

from __future__ import annotations

from torch import Tensor, nn


class MLP(nn.Module):
    """One hidden layer with ReLU.

    Args:
        in_features: Pixels of an image, channels × height × width.
        hidden: Hidden units.
        num_classes: Number of classes.
    """

    def __init__(self, in_features: int = 784, hidden: int = 1536, num_classes: int = 10) -> None:
        super().__init__()
        self.hidden = nn.Linear(in_features, hidden)
        self.output = nn.Linear(hidden, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Float images (N, C, H, W) from 0 to 1 -> logits (N, num_classes)."""
        flat = images.flatten(1)  # (N, C, H, W) -> (N, C·H·W)
        return self.output(self.hidden(flat).relu())
