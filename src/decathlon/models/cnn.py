"""A plain convolutional network after LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998), with ReLU and max pooling."""

from __future__ import annotations

from torch import Tensor, nn


class CNN(nn.Module):
    """Two convolutions with pooling, then two fully connected layers.

    Args:
        channels: Filters of the first (5×5) and the second (3×3) convolution.
        hidden: Units of the first fully connected layer.
        classes: Scores to give.
    """

    def __init__(self, channels: tuple[int, int] = (24, 32), hidden: int = 256, classes: int = 10) -> None:
        super().__init__()
        first, second = channels
        self.conv1 = nn.Conv2d(1, first, 5)
        self.conv2 = nn.Conv2d(first, second, 3)
        self.pool = nn.MaxPool2d(2)
        self.hidden = nn.Linear(second * 5 * 5, hidden)
        self.output = nn.Linear(hidden, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Float images (N, 1, 28, 28) from 0 to 1 -> scores (N, classes)."""
        maps = self.pool(self.conv1(images)).relu()  # (N, 24, 12, 12); ReLU after pooling is the same and cheaper
        maps = self.pool(self.conv2(maps)).relu()  # (N, 32, 5, 5)
        flat = maps.flatten(1)  # (N, 32, 5, 5) -> (N, 800)
        return self.output(self.hidden(flat).relu())
