"""Convolution blocks with skip connections, after ResNet (He et al. 2016, arXiv:1512.03385)."""

from __future__ import annotations

from torch import Tensor, nn


class SkipNet(nn.Module):
    """Three stages of convolutions; the last two have a residual block each.

    Args:
        whitening_filters: Filters of the first convolution, 2×2.
        channels: Filters of each stage, 3×3.
        dropout: Dropout probability before the last layer.
        num_classes: Number of classes.
    """

    def __init__(
        self,
        whitening_filters: int = 24,
        channels: tuple[int, int, int] = (64, 128, 256),
        dropout: float = 0.1,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        first, second, third = channels
        self.white = nn.Conv2d(3, whitening_filters, 2)
        self.stem = nn.Sequential(nn.ReLU(), *convolution(whitening_filters, first, pool=True))
        self.middle = nn.Sequential(*convolution(first, second, pool=True), Block(second))
        self.last = nn.Sequential(*convolution(second, third, pool=True), Block(third))
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(third, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Float images (N, 3, 32, 32) from 0 to 1 -> logits (N, num_classes). Other sizes from 16 work as well."""
        return self.classify(self.maps(images))

    def maps(self, images: Tensor) -> Tensor:
        """Feature maps of the middle stage: float images (N, 3, 32, 32) -> (N, 128, 7, 7)."""
        return self.middle(self.stem(self.white(images)))  # (N, 24, 31, 31) -> (N, 64, 15, 15) -> (N, 128, 7, 7)

    def classify(self, maps: Tensor) -> Tensor:
        """The last stage and the output layer: feature maps (N, 128, 7, 7) -> logits (N, num_classes)."""
        maps = self.last(maps)  # (N, 256, 3, 3)
        pooled = nn.functional.max_pool2d(maps, maps.shape[2:])  # (N, 256, 1, 1)
        return self.output(self.dropout(pooled.flatten(1)))  # (N, 256, 1, 1) -> (N, 256)


class Block(nn.Module):
    """A residual block: two convolutions and a skip connection; (N, channels, H, W) -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(*convolution(channels, channels), *convolution(channels, channels))

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps (N, channels, H, W) -> the same shape."""
        return maps + self.inner(maps)


def convolution(in_channels: int, out_channels: int, pool: bool = False) -> list[nn.Module]:
    """A 3×3 convolution, optionally max pooling, batch norm, ReLU."""
    kernel = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    return [kernel, *([nn.MaxPool2d(2)] if pool else []), nn.BatchNorm2d(out_channels), nn.ReLU()]
