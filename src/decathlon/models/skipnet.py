"""Blocks of convolutions with skip connections, after ResNet (He et al. 2016, arXiv:1512.03385)."""

from __future__ import annotations

from torch import Tensor, nn


class SkipNet(nn.Module):
    """Three stages of convolutions; in the last two a block whose input skips it and is added to its output.

    Args:
        white: Filters of the first convolution, 2×2.
        channels: Filters of each stage, 3×3.
        dropout: Share of the values that is dropped before the last layer, in training.
        classes: Scores to give.
    """

    def __init__(
        self,
        white: int = 24,
        channels: tuple[int, int, int] = (64, 128, 256),
        dropout: float = 0.1,
        classes: int = 10,
    ) -> None:
        super().__init__()
        first, second, third = channels
        self.white = nn.Conv2d(3, white, 2)
        self.stem = nn.Sequential(nn.ReLU(), *convolution(white, first, pool=True))
        self.middle = nn.Sequential(*convolution(first, second, pool=True), Block(second))
        self.last = nn.Sequential(*convolution(second, third, pool=True), Block(third))
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(third, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Float images (N, 3, 32, 32) from 0 to 1 -> scores (N, classes). Smaller and larger ones do as well."""
        return self.scores(self.maps(images))

    def maps(self, images: Tensor) -> Tensor:
        """What the middle stage sees where: images (N, 3, 32, 32) -> (N, 128, 7, 7)."""
        return self.middle(self.stem(self.white(images)))  # (N, 24, 31, 31) -> (N, 64, 15, 15) -> (N, 128, 7, 7)

    def scores(self, maps: Tensor) -> Tensor:
        """The rest of the way: (N, 128, 7, 7) -> scores (N, classes)."""
        maps = self.last(maps)  # (N, 256, 3, 3)
        largest = nn.functional.max_pool2d(maps, maps.shape[2:])  # (N, 256, 1, 1)
        return self.output(self.dropout(largest.flatten(1)))  # (N, 256, 1, 1) -> (N, 256)


class Block(nn.Module):
    """Two convolutions, and a connection that skips them: (N, channels, H, W) -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(*convolution(channels, channels), *convolution(channels, channels))

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, channels, H, W) plus what the convolutions make of them."""
        return maps + self.inner(maps)


def convolution(inputs: int, outputs: int, pool: bool = False) -> list[nn.Module]:
    """A 3×3 convolution, max pooling where asked for, batch norm, ReLU."""
    pooling = [nn.MaxPool2d(2)] if pool else []
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), *pooling, nn.BatchNorm2d(outputs), nn.ReLU()]
