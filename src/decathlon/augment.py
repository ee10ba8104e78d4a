"""Random distortions of a whole batch of images at once, on the device that holds them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def warp(
    images: Tensor,
    groups: int,
    rotation: float = 0.0,
    scale: float = 0.0,
    shear: float = 0.0,
    shift: float = 0.0,
    elastic: float = 0.0,
    knots: int = 6,
) -> Tensor:
    """Rotate, stretch, shear, shift and bend images, each by an amount drawn evenly from ± the given one.

    Drawing and applying one distortion an image costs as much as a small network's step. Images are therefore dealt
    into groups that share a distortion: they are the channels of one image for `grid_sample`. Elastic distortion is a
    smooth random field (Simard, Steinkraus and Platt 2003, section 2), here a cubic interpolation of a coarse one.

    Args:
        images: uint8 or float (N, 1, H, W). N is a multiple of `groups`, or each image is distorted for itself.
        groups: Different distortions in the batch.
        rotation: Degrees.
        scale: Fraction of the size, drawn for width and height apart.
        shear: Tangent of the angle.
        shift: Pixels.
        elastic: Standard deviation of the bending field at its knots, in pixels.
        knots: The bending field is drawn on `knots` × `knots` places.

    Returns:
        float32 (N, 1, H, W), uint8 scaled to 0..1; what comes in from outside is 0.
    """
    count, _, height, width = images.shape
    groups = groups if count % groups == 0 else count
    device, side = images.device, max(height, width)
    drawn = torch.rand(groups, 6, device=device) * 2 - 1
    angle = drawn[:, 0] * math.radians(rotation)
    x, y, slant = 1 + drawn[:, 1] * scale, 1 + drawn[:, 2] * scale, drawn[:, 3] * shear
    cos, sin = angle.cos(), angle.sin()
    offset = drawn[:, 4:] * shift * 2 / side  # grid_sample counts from -1 to 1
    matrix = torch.stack(
        [
            torch.stack([cos * x, cos * x * slant - sin * y, offset[:, 0]], 1),
            torch.stack([sin * x, sin * x * slant + cos * y, offset[:, 1]], 1),
        ],
        1,
    )  # (groups, 2, 3)
    grid = F.affine_grid(matrix, [groups, 1, height, width], align_corners=False)  # (groups, H, W, 2)
    if elastic:
        field = torch.randn(groups, 2, knots, knots, device=device) * (elastic * 2 / side)
        bend = F.interpolate(field, size=(height, width), mode="bicubic", align_corners=True)
        grid = grid + bend.permute(0, 2, 3, 1)
    # (N, 1, H, W) -> (groups, N / groups, H, W)
    dealt = to_float(images).view(groups, count // groups, height, width)
    return F.grid_sample(dealt, grid, align_corners=False).view(count, 1, height, width)


def to_float(images: Tensor) -> Tensor:
    """Bring uint8 images to float32 from 0 to 1; leave float ones alone."""
    return images.float() / 255 if images.dtype == torch.uint8 else images
