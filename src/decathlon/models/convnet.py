"""Six convolutions and three fully connected layers, with batch norm and max pooling, after VGG.

VGG: Simonyan and Zisserman 2015, arXiv:1409.1556. Batch norm: Ioffe and Szegedy 2015, arXiv:1502.03167.
"""

from __future__ import annotations

from torch import Tensor, nn


class ConvNet(nn.Module):
    """Six convolutions, three fully connected layers.

    Args:
        whitening_filters: Filters of the first convolution, 2×2.
        channels: Filters of the others, 3×3: two with the first number, two with the second, one with the third.
        hidden: Units of the two hidden fully connected layers.
        num_classes: Number of classes.
    """

    def __init__(
        self,
        whitening_filters: int = 24,
        channels: tuple[int, int, int] = (64, 128, 256),
        hidden: int = 256,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        first, second, third = channels
        self.white = nn.Conv2d(3, whitening_filters, 2)
        self.body = nn.Sequential(
            nn.ReLU(),
            *convolution(whitening_filters, first, pool=True),
            *convolution(first, first),
            *convolution(first, second, pool=True),
            *convolution(second, second),
            *convolution(second, third, pool=True),
        )
        self.head = nn.Sequential(
            *(nn.Linear(third, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()),
            *(nn.Linear(hidden, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Float images (N, 3, 32, 32) from 0 to 1 -> logits (N, num_classes). Other sizes from 16 work as well."""
        maps = self.body(self.white(images))  # (N, 24, 31, 31) -> (N, 64, 15, 15) -> (N, 128, 7, 7) -> (N, 256, 3, 3)
        pooled = nn.functional.max_pool2d(maps, maps.shape[2:])  # (N, 256, 1, 1)
        return self.head(pooled.flatten(1))  # (N, 256, 1, 1) -> (N, 256)


def convolution(in_channels: int, out_channels: int, pool: bool = False) -> list[nn.Module]:
    """A 3×3 convolution, optionally max pooling, batch norm, ReLU."""
    kernel = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    return [kernel, *([nn.MaxPool2d(2)] if pool else []), nn.BatchNorm2d(out_channels), nn.ReLU()]
