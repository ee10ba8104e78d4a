"""Convolutional autoencoder (Hinton and Salakhutdinov 2006; convolutional: Masci et al. 2011)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Autoencoder(nn.Module):
    """Encoder from an image to a latent code, decoder from the code to an image.

    Args:
        latent_dim: Latent dimension: the size of the code.
        channels: Filters of the encoder's three convolutions.
    """

    def __init__(self, latent_dim: int = 64, channels: tuple[int, int, int] = (16, 32, 64)) -> None:
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
            nn.Linear(third * 9, latent_dim),
        )
        self.decoder = nn.Sequential(  # (N, latent_dim)
            nn.Linear(latent_dim, 512),
            nn.ReLU(),
            nn.Linear(512, 784),
            nn.Unflatten(1, (1, 28, 28)),  # (N, 784) -> (N, 1, 28, 28)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Float images (N, 1, 28, 28) from 0 to 1 -> reconstructions of the same shape, and codes (N, latent_dim)."""
        code = self.encoder(images)
        return self.decoder(code), code


class AutoencoderWithLabels(nn.Module):
    """An autoencoder with the codes and labels that its random forest is fitted on.

    The forest itself is not saved: fitting it again takes a second, and saving it would need pickle.

    Args:
        network: Images (N, 1, 28, 28) -> reconstructions and codes.
        latent_dim: Size of a code.
        n_labelled: Number of labelled codes.

    Attributes:
        codes: Of the labelled training images, float (n_labelled, latent_dim).
        labels: Their classes, int64 (n_labelled,).
    """

    codes: Tensor
    labels: Tensor

    def __init__(self, network: nn.Module, latent_dim: int, n_labelled: int) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("codes", torch.zeros(n_labelled, latent_dim))
        self.register_buffer("labels", torch.zeros(n_labelled, dtype=torch.long))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Float images (N, 1, 28, 28) from 0 to 1 -> reconstructions of the same shape, and codes (N, latent_dim)."""
        return self.network(images)


class EncoderOnly(nn.Module):
    """The encoder of an autoencoder alone, for export.

    Args:
        network: Images (N, 1, 28, 28) -> reconstructions and codes.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Float images (N, 1, 28, 28) from 0 to 1 -> codes (N, latent_dim)."""
        return self.network(images)[1]
