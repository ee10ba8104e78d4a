"""One image of a digit, converted to the format of MNIST."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

# MNIST: the digit is scaled into 20×20 and its centre of mass put into the middle of 28×28.
IMAGE_SIZE, DIGIT_SIZE = 28, 20
MIN_CONTRAST = 16  # of 255: with less an image shows no digit
MIN_BRIGHTNESS = 200  # of 255: a digit whose brightest pixel is darker after scaling is stretched once more
PREPROCESSING = (
    "grey; dark on bright is inverted (where the median of the border is above the mean); stretched to 0..255; "
    "cropped to the ink (above 64), its longer side scaled to 20 pixels, stretched again where that made it darker "
    "than 200, and put into 28×28 so that the centre of mass is in the middle; a 28×28 image is taken as it is"
)


def prepare_digit(image: Image.Image, name: str) -> tuple[Tensor, list[str]]:
    """Convert an image of any size, colour or grey, to MNIST's format: bright digit, dark background, centred.

    A 28×28 image keeps its size and position.

    Args:
        image: Upright.
        name: Names the image in errors.

    Returns:
        uint8 (1, 28, 28), and notes on what was done to the image that the user should know.

    Raises:
        ValueError: There is no digit: the contrast is too low.
    """
    pixels = np.asarray(_grey(image), np.float32)
    notes = []
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    if np.median(border) > pixels.mean():
        notes.append("looks inverted (dark digit on a light background), as on paper: inverted")
        pixels = 255 - pixels
    low, high = np.percentile(pixels, 5), pixels.max()
    if high - low < MIN_CONTRAST:
        raise ValueError(f"{name} shows no digit: it has too little contrast")
    if pixels.shape != (IMAGE_SIZE, IMAGE_SIZE):
        pixels = centre((pixels - low).clip(0) * (255 / (high - low)))
        if not pixels.any():
            raise ValueError(f"{name} shows no digit, only dots")
        notes.append("cropped, scaled and centred as MNIST's digits are")
    return torch.from_numpy(pixels.clip(0, 255).astype(np.uint8))[None], notes


def _grey(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # 16 bits and more, which convert() would clip
        values = np.nan_to_num(np.asarray(image, np.float32))
        image = Image.fromarray(((values - values.min()) * (255 / max(1e-9, float(np.ptp(values))))).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        over = image.convert("RGBA")
        values = np.asarray(over, np.float32)
        drawn = np.average(values[..., :3].mean(2), weights=values[..., 3] + 1e-6)
        # What is transparent is ground, so it gets the brightness that the drawing has not.
        image = Image.alpha_composite(Image.new("RGBA", over.size, "black" if drawn > 127 else "white"), over)
    return image.convert("L")


def centre(pixels: np.ndarray) -> np.ndarray:
    """Crop to the ink, scale into 20×20, put the centre of mass into the middle: (H, W) -> (28, 28)."""
    ink = pixels > 64
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    crop = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    factor = DIGIT_SIZE / max(crop.shape)
    size = max(1, round(crop.shape[1] * factor)), max(1, round(crop.shape[0] * factor))
    digit = np.asarray(Image.fromarray(crop.astype(np.uint8)).resize(size, Image.Resampling.BOX), np.float32)
    background = float(np.median(crop))
    if digit.max() < MIN_BRIGHTNESS and digit.max() > background:  # a thin stroke, averaged with what is beside it
        digit = (digit - background).clip(0) * (255 / (digit.max() - background))
    weight = digit.sum()
    if not weight:
        return np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.float32)
    y = (digit.sum(1) @ np.arange(digit.shape[0])) / weight
    x = (digit.sum(0) @ np.arange(digit.shape[1])) / weight
    top = int(np.clip(round((IMAGE_SIZE - 1) / 2 - y), 0, IMAGE_SIZE - digit.shape[0]))
    left = int(np.clip(round((IMAGE_SIZE - 1) / 2 - x), 0, IMAGE_SIZE - digit.shape[1]))
    canvas = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.float32)
    canvas[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return canvas
