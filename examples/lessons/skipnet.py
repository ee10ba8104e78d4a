"""Networks for the experiments of docs/tasks/cifar10-skip.md."""

from __future__ import annotations

from torch import Tensor, nn

BLOCKS = 20  # of two convolutions each


class Block(nn.Module):
    """Two 3×3 convolutions, with or without a skip connection: (N, channels, H, W) -> the same shape."""

    def __init__(self, channels: int, skip: bool) -> None:
        super().__init__()
        self.skip = skip
        self.inner = nn.Sequential(
            *(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()),
            *(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps (N, channels, H, W) -> the same shape."""
        return maps + self.inner(maps) if self.skip else self.inner(maps)


def build(skip: bool, channels: int = 16) -> nn.Module:
    """A convolution, `BLOCKS` blocks and one fully connected layer: (N, 3, 32, 32) -> logits (N, 10)."""
    return nn.Sequential(
        *(nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()),
        nn.MaxPool2d(2),  # (N, channels, 16, 16)
        *(Block(channels, skip) for _ in range(BLOCKS)),
        *(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(channels, 10)),
    )


def deep_plain() -> nn.Module:
    """41 convolutions in a row."""
    return build(skip=False)


def deep_residual() -> nn.Module:
    """The same 41 convolutions with a skip connection around every two."""
    return build(skip=True)
