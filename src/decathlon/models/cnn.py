"""A convolutional network after LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998), with ReLU and max pooling."""

from __future__ import annotations

from torch import Tensor, nn


class CNN(nn.Module):
    """Three convolutions, two of them with pooling, then two fully connected layers.

    Args:
        channels: Filters of the three convolutions (5×5, 3×3, 3×3).
        hidden: Units of the first fully connected layer.
        num_classes: Number of classes.
    """

    def __init__(
        self, channels: tuple[int, int, int] = (32, 64, 128), hidden: int = 128, num_classes: int = 10
    ) -> None:
        super().__init__()
        first, second, third = channels
        self.conv1 = nn.Conv2d(1, first, 5)
        self.conv2 = nn.Conv2d(first, second, 3)
        self.conv3 = nn.Conv2d(second, third, 3)
        self.pool = nn.MaxPool2d(2)
        self.hidden = nn.Linear(third * 3 * 3, hidden)
        self.output = nn.Linear(hidden, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Float images (N, 1, 28, 28) from 0 to 1 -> logits (N, num_classes)."""
        maps = self.pool(self.conv1(images)).relu()  # (N, 32, 12, 12); ReLU commutes with pooling
        maps = self.pool(self.conv2(maps)).relu()  # (N, 64, 5, 5)
        maps = self.conv3(maps).relu()  # (N, 128, 3, 3)
        flat = maps.flatten(1)  # (N, 128, 3, 3) -> (N, 1152)
        return self.output(self.hidden(flat).relu())
