"""Convolutional autoencoder (Hinton and Salakhutdinov 2006; convolutional: Masci et al. 2011)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Autoencoder(nn.Module):
    """Image to a short code and back.

    Args:
        code: Values in a code.
        channels: Filters of the encoder's three convolutions.
    """

    def __init__(self, code: int = 64, channels: tuple[int, int, int] = (16, 32, 64)) -> None:
        super().__init__()
        first, second, third = channels
        self.encoder = nn.Sequential(  # (N, 1, 28, 28)
            nn.Conv2d(1, first, 5, stride=2, padding=2, bias=False),  # (N, 16, 14, 14)
            nn.BatchNorm2d(first),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, padding=1, bias=False),
            nn.BatchNorm2d(second),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (N, 32, 7, 7)
            nn.Conv2d(second, third, 3, padding=1, bias=False),
            nn.BatchNorm2d(third),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (N, 64, 3, 3)
            nn.Flatten(),  # (N, 576)
            nn.Linear(third * 9, code),
        )
        self.decoder = nn.Sequential(  # (N, code)
            nn.Linear(code, 512),
            nn.ReLU(),
            nn.Linear(512, 784),
            nn.Unflatten(1, (1, 28, 28)),  # (N, 784) -> (N, 1, 28, 28)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Float images (N, 1, 28, 28) from 0 to 1 -> reconstructions of the same shape, and codes (N, code)."""
        code = self.encoder(images)
        return self.decoder(code), code


class Coder(nn.Module):
    """An autoencoder with the labelled codes that its forest is grown from.

    The forest itself is not kept: growing it again from the codes takes a second, and a stored one would be a pickle.
    """

    codes: Tensor
    labels: Tensor

    def __init__(self, network: nn.Module, code: int, labelled: int) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("codes", torch.zeros(labelled, code))
        self.register_buffer("labels", torch.zeros(labelled, dtype=torch.long))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Float images (N, 1, 28, 28) from 0 to 1 -> reconstructions of the same shape, and codes (N, code)."""
        return self.network(images)


class Codes(nn.Module):
    """The way to the codes alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Float images (N, 1, 28, 28) from 0 to 1 -> codes (N, code)."""
        return self.network(images)[1]
