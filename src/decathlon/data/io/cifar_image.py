"""Any image brought to the format of CIFAR-10: 32×32 pixels, RGB."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from decathlon.data.io.images import to_rgb

IMAGE_SIZE = 32
PREPROCESSING = (
    "upright (EXIF), RGB, transparency on white; shorter side scaled to 32 (bicubic), longer one cropped to its middle"
)


def prepare_cifar_image(image: Image.Image, name: str) -> tuple[Tensor, list[str]]:
    """Convert to RGB, scale the shorter side to 32 pixels, and crop the longer one to its middle.

    Args:
        image: Upright, of any size and mode.
        name: Names the image in errors.

    Returns:
        uint8 (3, 32, 32), and notes on what was done to the image that the user should know.

    Raises:
        ValueError: The image cannot be converted.
    """
    width, height = image.size
    notes = [] if min(width, height) == IMAGE_SIZE else [f"scaled from {width}×{height} to {IMAGE_SIZE}×{IMAGE_SIZE}"]
    if width != height:
        notes.append(f"cropped to its middle: the network sees squares, this is {width}×{height}")
    return torch.from_numpy(resize_and_crop(image, name)), notes


def resize_and_crop(image: Image.Image, name: str) -> np.ndarray:
    """The pixels of `prepare_cifar_image`, uint8 (3, 32, 32)."""
    size = image.size
    try:
        image = to_rgb(image)
        if size != (IMAGE_SIZE, IMAGE_SIZE):
            image = ImageOps.fit(
                image, (IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC
            )  # antialiased where it shrinks
    except (ValueError, OSError) as error:
        raise ValueError(f"{name} cannot be converted to {IMAGE_SIZE}×{IMAGE_SIZE} RGB: {error}") from None
    return np.asarray(image).transpose(2, 0, 1).copy()  # (32, 32, 3) -> (3, 32, 32)
