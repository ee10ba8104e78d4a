"""Networks for the experiments of docs/tasks/mnist-cnn.md."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from decathlon.models.cnn import CNN


def without_relu() -> nn.Module:
    """The network of the task with a quarter of the filters, without ReLU: (N, 1, 28, 28) -> logits (N, 10)."""
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 5), nn.MaxPool2d(2)),  # (N, 8, 12, 12)
        *(nn.Conv2d(8, 16, 3), nn.MaxPool2d(2)),  # (N, 16, 5, 5)
        nn.Conv2d(16, 32, 3),  # (N, 32, 3, 3)
        *(nn.Flatten(), nn.Linear(288, 32), nn.Linear(32, 10)),
    )


class ShufflePixels(nn.Module):
    """Move every pixel to another place, the same for all images: (N, 1, 28, 28) -> the same shape."""

    order: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("order", torch.randperm(784, generator=torch.Generator().manual_seed(0)))

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 1, 28, 28) -> the same shape."""
        return images.flatten(1)[:, self.order].view_as(images)


def shuffled_pixels() -> nn.Module:
    """The network of the task with a quarter of the filters, on images whose pixels are shuffled."""
    return nn.Sequential(ShufflePixels(), CNN(channels=(8, 16, 32), hidden=32))
