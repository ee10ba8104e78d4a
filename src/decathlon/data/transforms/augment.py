"""Augmentation of a whole batch of images at once, on their device."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from decathlon.data.base import to_device


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
    """Random affine and elastic distortion, each parameter drawn uniformly from ± the given value.

    One distortion per image would cost as much as a training step of a small network. Images are therefore divided
    into groups that share a distortion: the images of a group are the channels of one image for `grid_sample`. The
    elastic distortion is a smooth random displacement field (Simard, Steinkraus and Platt 2003, section 2), here a
    bicubic interpolation of a coarse one.

    Args:
        images: uint8 or float (N, C, H, W). If N is no multiple of `groups`, each image has a distortion of its own.
        groups: Number of different distortions in the batch.
        rotation: Maximum rotation, degrees.
        scale: Maximum change of width and of height, a fraction.
        shear: Maximum shear, tangent of the angle.
        shift: Maximum translation, pixels.
        elastic: Standard deviation of the displacement field at its knots, pixels.
        knots: The displacement field is drawn on `knots` × `knots` points.

    Returns:
        float32 (N, C, H, W), uint8 scaled to 0..1; filled with 0 outside the image.
    """
    count, channels, height, width = images.shape
    groups = groups if count % groups == 0 else count
    device, side = images.device, max(height, width)
    # On the CPU, in numpy: for so few numbers the overhead of torch's calls exceeds their arithmetic.
    drawn = torch.rand(6, groups).numpy() * 2 - 1
    angle, x, y, slant = drawn[0] * math.radians(rotation), 1 + drawn[1] * scale, 1 + drawn[2] * scale, drawn[3] * shear
    cos, sin = np.cos(angle), np.sin(angle)
    right, down = drawn[4:] * (shift * 2 / side)  # grid_sample has coordinates from -1 to 1
    rows = [cos * x, cos * x * slant - sin * y, right, sin * x, sin * x * slant + cos * y, down]
    matrix = torch.from_numpy(np.stack(rows, 1)).float().view(groups * 2, 3)  # six of (groups,) -> (groups · 2, 3)
    displacement = torch.randn(groups * 2, knots**2) * (elastic * 2 / side)
    parameters = to_device(torch.cat([matrix, displacement], 1), device)
    # The sampling grid is linear in all parameters, so one matrix product gives it:
    # (groups · 2, 3 + knots²) @ (3 + knots², H·W) -> (groups, H, W, 2)
    grid = (parameters @ warp_basis(knots, height, width, device)).view(groups, 2, height, width).permute(0, 2, 3, 1)
    # (N, C, H, W) -> (groups, N / groups · C, H, W)
    grouped = to_float(images).view(groups, count // groups * channels, height, width)
    return F.grid_sample(grouped, grid, align_corners=False).view(count, channels, height, width)


def random_translate(images: Tensor, max_shift: int) -> Tensor:
    """Random translation of each image by whole pixels, with reflection padding.

    Args:
        images: Any type (N, C, H, W).
        max_shift: Maximum translation in each direction, pixels; 0 changes nothing.
    """
    if not max_shift:
        return images
    count, channels, height, width = images.shape
    padded = F.pad(images.float(), (max_shift,) * 4, mode="reflect").to(images.dtype)  # it takes floats only
    down, right = to_device(torch.randint(2 * max_shift + 1, (2, count, 1)), images.device)
    rows, columns = down + torch.arange(height).to(down), right + torch.arange(width).to(down)  # (N, H), (N, W)
    image, channel = torch.arange(count).to(down), torch.arange(channels).to(down)
    return padded[image[:, None, None, None], channel[:, None, None], rows[:, None, :, None], columns[:, None, None, :]]


def cutout(images: Tensor, size: int) -> Tensor:
    """Set a random square of each image to the image's mean (DeVries and Taylor 2017, arXiv:1708.04552).

    Args:
        images: Any type (N, C, H, W).
        size: Side of the square, pixels; 0 changes nothing.
    """
    if not size:
        return images
    count, _, height, width = images.shape
    top = torch.randint(height - size + 1, (count, 1))
    left = torch.randint(width - size + 1, (count, 1))
    rows, columns = torch.arange(height) - top, torch.arange(width) - left  # (N, H), (N, W): from the corner
    inside = ((rows >= 0) & (rows < size))[:, None, :, None] & ((columns >= 0) & (columns < size))[:, None, None, :]
    mean = images.float().mean((2, 3), keepdim=True).to(images.dtype)
    return torch.where(to_device(inside, images.device), mean, images)


def random_affine(
    images: Tensor, masks: Tensor, size: int, rotation: float, scale: float, shift: float
) -> tuple[Tensor, Tensor]:
    """Random rotation, scaling, translation and horizontal flip (p = 0.5), the same for an image and its mask.

    Both are padded by reflection, so that the mask stays correct and no pixel has to be ignored.

    Args:
        images: Float (N, C, H, W).
        masks: Float (N, 1, H, W).
        size: Height and width of the result, pixels.
        rotation: Maximum rotation, degrees.
        scale: Maximum logarithm of the factor of the size; that of the aspect ratio is up to two thirds of it.
        shift: Maximum translation, a fraction of the size.

    Returns:
        Images (N, C, size, size) and masks (N, 1, size, size).
    """
    drawn = torch.rand(6, len(images)) * 2 - 1
    angle, factor, aspect = drawn[0] * math.radians(rotation), (drawn[1] * scale).exp(), (drawn[2] * scale / 3).exp()
    across, down = factor * aspect * drawn[3].sign(), factor / aspect
    cos, sin = angle.cos(), angle.sin()
    right, below = drawn[4:] * (2 * shift)  # a grid has coordinates from -1 to 1
    rows = [cos * across, -sin * down, right, sin * across, cos * down, below]
    matrices = torch.stack(rows, 1).view(-1, 2, 3).to(images.dtype)  # six of (N,) -> (N, 2, 3)
    grid = F.affine_grid(to_device(matrices, images.device), [len(images), 1, size, size], align_corners=False)
    moved = F.grid_sample(torch.cat([images, masks], 1), grid, padding_mode="reflection", align_corners=False)
    return moved[:, :-1], moved[:, -1:]


def color_jitter(images: Tensor, strength: float) -> Tensor:
    """Randomly change brightness, contrast, saturation and colour balance of float images (N, 3, H, W) from 0 to 1.

    Args:
        images: The images.
        strength: Maximum relative change of each.
    """
    drawn = to_device((torch.rand(len(images), 6) * 2 - 1) * strength, images.device).to(images.dtype)
    saturation, contrast = (1 + drawn[:, column, None, None, None] for column in (0, 1))
    # Brightness, common to the three channels, times the colour balance, half as strong.
    gain = (1 + drawn[:, 2:3]) * (1 + drawn[:, 3:] / 2)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * saturation
    mean = grey.mean((2, 3), keepdim=True)
    return ((mean + (images - mean) * contrast) * gain[..., None, None]).clamp(0, 1)


@functools.cache
def warp_basis(knots: int, height: int, width: int, device: torch.device) -> Tensor:
    """The basis of the grids for `grid_sample`: x, y, 1 and a bicubic function at each knot, (3 + knots², H·W)."""
    x, y = (torch.arange(size).mul(2).add(1).div(size).sub(1) for size in (width, height))  # centres of pixels
    ys, xs = torch.meshgrid(y, x, indexing="ij")
    unit = torch.eye(knots**2).view(-1, 1, knots, knots)
    bumps = F.interpolate(unit, size=(height, width), mode="bicubic", align_corners=True)
    return torch.cat([torch.stack([xs, ys, torch.ones_like(xs)]).flatten(1), bumps.flatten(1)]).to(device)


def to_float(images: Tensor) -> Tensor:
    """Scale uint8 images to float32 from 0 to 1; float images are returned unchanged."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images
