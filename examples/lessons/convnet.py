"""Networks for the experiments of docs/tasks/cifar10-cnn.md."""

from __future__ import annotations

from torch import Tensor, nn


def layer(in_channels: int, out_channels: int, kernel_size: int, norm: bool, pool: bool = False) -> nn.Sequential:
    """Convolution, optionally max pooling and batch norm, ReLU."""
    layers: list[nn.Module] = [nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)]
    layers += [nn.MaxPool2d(2)] if pool else []
    layers += [nn.BatchNorm2d(out_channels)] if norm else []
    return nn.Sequential(*layers, nn.ReLU())


class GlobalMaxPool(nn.Module):
    """The maximum over all positions, for images of any size: (N, C, H, W) -> (N, C)."""

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps (N, C, H, W) -> (N, C)."""
        return nn.functional.max_pool2d(maps, maps.shape[2:]).flatten(1)


def build(kernel_size: int = 3, norm: bool = True) -> nn.Module:
    """The layers of the task's network at half its width: (N, 3, 32, 32) -> logits (N, 10)."""
    return nn.Sequential(
        *(nn.Conv2d(3, 24, 2), nn.ReLU()),  # (N, 24, 31, 31)
        layer(24, 32, kernel_size, norm, pool=True),  # (N, 32, 15, 15)
        layer(32, 32, kernel_size, norm),
        layer(32, 64, kernel_size, norm, pool=True),  # (N, 64, 7, 7)
        layer(64, 64, kernel_size, norm),
        layer(64, 128, kernel_size, norm, pool=True),  # (N, 128, 3, 3)
        GlobalMaxPool(),  # (N, 128)
        *(nn.Linear(128, 128), *([nn.BatchNorm1d(128)] if norm else []), nn.ReLU()),
        *(nn.Linear(128, 128), *([nn.BatchNorm1d(128)] if norm else []), nn.ReLU()),
        nn.Linear(128, 10),
    )


def with_norm() -> nn.Module:
    """Six convolutions and three fully connected layers with batch norm; the first layer is not whitened."""
    return build()


def without_norm() -> nn.Module:
    """The same without batch norm."""
    return build(norm=False)


def pointwise() -> nn.Module:
    """The same with 1×1 convolutions in place of 3×3."""
    return build(kernel_size=1)
