"""Networks for the experiments of docs/tasks/cifar10-cnn.md."""

from __future__ import annotations

from torch import nn


def layer(in_channels: int, out_channels: int, kernel_size: int, norm: bool, pool: bool = False) -> nn.Sequential:
    """Convolution, optionally max pooling and batch norm, ReLU."""
    layers: list[nn.Module] = [nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)]
    layers += [nn.MaxPool2d(2)] if pool else []
    layers += [nn.BatchNorm2d(out_channels)] if norm else []
    return nn.Sequential(*layers, nn.ReLU())


def build(kernel_size: int = 3, norm: bool = True) -> nn.Module:
    """Six convolutions and three fully connected layers, as the task's network: (N, 3, 32, 32) -> logits (N, 10)."""
    return nn.Sequential(
        *(nn.Conv2d(3, 24, 2), nn.ReLU()),  # (N, 24, 31, 31)
        layer(24, 64, kernel_size, norm, pool=True),  # (N, 64, 15, 15)
        layer(64, 64, kernel_size, norm),
        layer(64, 128, kernel_size, norm, pool=True),  # (N, 128, 7, 7)
        layer(128, 128, kernel_size, norm),
        layer(128, 256, kernel_size, norm, pool=True),  # (N, 256, 3, 3)
        *(nn.AdaptiveMaxPool2d(1), nn.Flatten()),  # (N, 256)
        *(nn.Linear(256, 256), *([nn.BatchNorm1d(256)] if norm else []), nn.ReLU()),
        *(nn.Linear(256, 256), *([nn.BatchNorm1d(256)] if norm else []), nn.ReLU()),
        nn.Linear(256, 10),
    )


def with_norm() -> nn.Module:
    """The layers of the task's network; the first one is not whitened."""
    return build()


def without_norm() -> nn.Module:
    """The same without batch norm."""
    return build(norm=False)


def pointwise() -> nn.Module:
    """The same with 1×1 convolutions in place of 3×3."""
    return build(kernel_size=1)
