"""Six convolutions and three fully connected layers in a row, with batch norm and max pooling, after VGG.

VGG: Simonyan and Zisserman 2015, arXiv:1409.1556. Batch norm: Ioffe and Szegedy 2015, arXiv:1502.03167.
"""

from __future__ import annotations

from torch import Tensor, nn


class ConvNet(nn.Module):
    """Six convolutions, three fully connected layers.

    Args:
        white: Filters of the first convolution, 2×2.
        channels: Filters of the others, 3×3: two with the first number, two with the second, one with the third.
        hidden: Units of the two hidden fully connected layers.
        dropout: Share of the hidden units that is dropped before the last layer, in training.
        classes: Scores to give.
    """

    def __init__(
        self,
        white: int = 24,
        channels: tuple[int, int, int] = (64, 128, 256),
        hidden: int = 256,
        dropout: float = 0.0,
        classes: int = 10,
    ) -> None:
        super().__init__()
        first, second, third = channels
        self.white = nn.Conv2d(3, white, 2)
        self.body = nn.Sequential(
            nn.ReLU(),
            *convolution(white, first, pool=True),
            *convolution(first, first),
            *convolution(first, second, pool=True),
            *convolution(second, second),
            *convolution(second, third, pool=True),
        )
        self.head = nn.Sequential(
            *(nn.Linear(third, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()),
            *(nn.Linear(hidden, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Float images (N, 3, 32, 32) from 0 to 1 -> scores (N, classes). Smaller and larger ones do as well."""
        maps = self.body(self.white(images))  # (N, 24, 31, 31) -> (N, 64, 15, 15) -> (N, 128, 7, 7) -> (N, 256, 3, 3)
        largest = nn.functional.max_pool2d(maps, maps.shape[2:])  # (N, 256, 1, 1)
        return self.head(largest.flatten(1))  # (N, 256, 1, 1) -> (N, 256)


def convolution(inputs: int, outputs: int, pool: bool = False) -> list[nn.Module]:
    """A 3×3 convolution, max pooling where asked for, batch norm, ReLU."""
    pooling = [nn.MaxPool2d(2)] if pool else []
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), *pooling, nn.BatchNorm2d(outputs), nn.ReLU()]
