"""Random distortions of a whole batch of images at once, on the device that holds them."""

from __future__ import annotations

import functools
import math

import numpy as np
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
        images: uint8 or float (N, C, H, W). N is a multiple of `groups`, or each image is distorted for itself.
        groups: Different distortions in the batch.
        rotation: Degrees.
        scale: Fraction of the size, drawn for width and height apart.
        shear: Tangent of the angle.
        shift: Pixels.
        elastic: Standard deviation of the bending field at its knots, in pixels.
        knots: The bending field is drawn on `knots` × `knots` places.

    Returns:
        float32 (N, C, H, W), uint8 scaled to 0..1; what comes in from outside is 0.
    """
    count, channels, height, width = images.shape
    groups = groups if count % groups == 0 else count
    device, side = images.device, max(height, width)
    # Drawn and computed on the CPU, in numpy: on so few numbers each of torch's calls costs more than its arithmetic.
    drawn = torch.rand(6, groups).numpy() * 2 - 1
    angle, x, y, slant = drawn[0] * math.radians(rotation), 1 + drawn[1] * scale, 1 + drawn[2] * scale, drawn[3] * shear
    cos, sin = np.cos(angle), np.sin(angle)
    right, down = drawn[4:] * (shift * 2 / side)  # grid_sample counts from -1 to 1
    rows = [cos * x, cos * x * slant - sin * y, right, sin * x, sin * x * slant + cos * y, down]
    matrix = torch.from_numpy(np.stack(rows, 1)).float().view(groups * 2, 3)  # six of (groups,) -> (groups · 2, 3)
    bend = torch.randn(groups * 2, knots**2) * (elastic * 2 / side)
    # Where each pixel comes from is linear in all that was drawn, so one product gives it:
    # (groups · 2, 3 + knots²) @ (3 + knots², H·W) -> (groups, H, W, 2)
    grid = (torch.cat([matrix, bend], 1) @ basis(knots, height, width)).view(groups, 2, height, width)
    grid = grid.permute(0, 2, 3, 1).to(device)
    # (N, C, H, W) -> (groups, N / groups · C, H, W)
    dealt = to_float(images).view(groups, count // groups * channels, height, width)
    return F.grid_sample(dealt, grid, align_corners=False).view(count, channels, height, width)


def shifted(images: Tensor, most: int) -> Tensor:
    """Shift each image by whole pixels, up to `most` each way; what comes in is what lies there, mirrored.

    Args:
        images: Any type (N, C, H, W).
        most: 0 leaves them alone.
    """
    if not most:
        return images
    count, channels, height, width = images.shape
    wide = F.pad(images.float(), (most,) * 4, mode="reflect").to(images.dtype)  # which is for floats only
    down, right = torch.randint(2 * most + 1, (2, count, 1)).to(images.device)
    rows, columns = down + torch.arange(height).to(down), right + torch.arange(width).to(down)  # (N, H), (N, W)
    image, channel = torch.arange(count).to(down), torch.arange(channels).to(down)
    return wide[image[:, None, None, None], channel[:, None, None], rows[:, None, :, None], columns[:, None, None, :]]


def posed(
    images: Tensor, masks: Tensor, side: int, rotation: float, zoom: float, shift: float
) -> tuple[Tensor, Tensor]:
    """Turn, zoom, stretch and shift each image and its mask alike, and mirror one of two.

    What comes in from outside is what lies there mirrored, in the mask as well: so the mask stays true, and no pixel
    has to be left out.

    Args:
        images: Float (N, C, H, W).
        masks: Float (N, 1, H, W).
        side: Of the result, pixels.
        rotation: Most degrees.
        zoom: Most change of the size, as a share; of width and height apart a third of that.
        shift: Most, as a share of the side.

    Returns:
        Images (N, C, side, side) and masks (N, 1, side, side).
    """
    drawn = torch.rand(6, len(images)) * 2 - 1
    angle, size, stretch = drawn[0] * math.radians(rotation), (drawn[1] * zoom).exp(), (drawn[2] * zoom / 3).exp()
    across, down = size * stretch * drawn[3].sign(), size / stretch
    cos, sin = angle.cos(), angle.sin()
    right, below = drawn[4:] * (2 * shift)  # a grid counts from -1 to 1
    rows = [cos * across, -sin * down, right, sin * across, cos * down, below]
    matrices = torch.stack(rows, 1).view(-1, 2, 3).to(images)  # six of (N,) -> (N, 2, 3)
    grid = F.affine_grid(matrices, [len(images), 1, side, side], align_corners=False)
    moved = F.grid_sample(torch.cat([images, masks], 1), grid, padding_mode="reflection", align_corners=False)
    return moved[:, :-1], moved[:, -1:]


def tinted(images: Tensor, most: float) -> Tensor:
    """Change brightness, contrast, saturation and each colour of float images (N, 3, H, W), each by up to `most`."""
    drawn = ((torch.rand(len(images), 6) * 2 - 1) * most).to(images)
    saturation, contrast = (1 + drawn[:, place, None, None, None] for place in (0, 1))
    # Brightness is common to the three colours; what each has of its own is half as strong.
    gain = (1 + drawn[:, 2:3]) * (1 + drawn[:, 3:] / 2)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * saturation
    middle = grey.mean((2, 3), keepdim=True)
    return ((middle + (images - middle) * contrast) * gain[..., None, None]).clamp(0, 1)


@functools.cache
def basis(knots: int, height: int, width: int) -> Tensor:
    """What a grid for `grid_sample` is made of: x, y, 1, and a cubic bump at each knot. (3 + knots², H·W)."""
    x, y = (torch.arange(size).mul(2).add(1).div(size).sub(1) for size in (width, height))  # centres of pixels
    ys, xs = torch.meshgrid(y, x, indexing="ij")
    corners = torch.eye(knots**2).view(-1, 1, knots, knots)
    bumps = F.interpolate(corners, size=(height, width), mode="bicubic", align_corners=True)
    return torch.cat([torch.stack([xs, ys, torch.ones_like(xs)]).flatten(1), bumps.flatten(1)])


def to_float(images: Tensor) -> Tensor:
    """Bring uint8 images to float32 from 0 to 1; leave float ones alone."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images
