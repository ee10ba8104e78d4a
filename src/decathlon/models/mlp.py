"""Multilayer perceptron: two fully connected layers (Rumelhart, Hinton and Williams 1986)."""

from __future__ import annotations

from torch import Tensor, nn


class MLP(nn.Module):
    """Image to class scores through one hidden layer.

    Args:
        inputs: Values in an image, channels × height × width.
        hidden: Hidden units.
        classes: Scores to give.
    """

    def __init__(self, inputs: int = 784, hidden: int = 1536, classes: int = 10) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, hidden)
        self.output = nn.Linear(hidden, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Float images (N, C, H, W) from 0 to 1 -> scores (N, classes)."""
        flat = images.flatten(1)  # (N, C, H, W) -> (N, C·H·W)
        return self.output(self.hidden(flat).relu())
