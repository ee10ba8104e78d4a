"""Initialise the first convolution so that it whitens the patches of the images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

EPSILON = 3e-5  # added to each variance: directions of little variance are noise, not to be amplified


@torch.no_grad()
def whiten(convolution: nn.Conv2d, images: Tensor) -> None:
    """Set a convolution to the principal components of the images' patches, scaled to variance 1, and their negatives.

    The weights are then frozen; the biases stay trainable. After tysam-code/hlb-CIFAR10, and Jordan 2024,
    arXiv:2404.00498, section 3.2.

    Args:
        convolution: Has two filters per component, at most 2 · C · k · k.
        images: Float (N, C, H, W) from 0 to 1; a few thousand suffice.
    """
    side, filters = convolution.kernel_size[0], convolution.out_channels // 2
    # (N, C, H, W) -> (N, C, H', W', k, k) -> (N · H' · W', C · k · k)
    patches = (
        images.unfold(2, side, 1).unfold(3, side, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, images.shape[1] * side**2)
    )
    mean = patches.mean(0)
    variances, directions = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    white = (directions / (variances + EPSILON).sqrt()).T.flip(0)[:filters]  # eigh sorts variances in ascending order
    white = torch.cat([white, -white])
    convolution.weight.copy_(white.view_as(convolution.weight))
    if convolution.bias is not None:
        convolution.bias.copy_(-white @ mean)
    convolution.weight.requires_grad_(False)
