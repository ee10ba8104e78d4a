"""One picture of a digit, as anybody may have it, brought to what MNIST's digits look like."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from decathlon.data import files

SIDE, BOX = 28, 20  # MNIST: the digit is scaled into 20×20 and its centre of mass put into the middle of 28×28
MAX_PIXELS = 50_000_000
# Pillow knows many more, which nobody needs here: EPS for one starts Ghostscript, an icon's header lies about its size.
Image.init()  # else it would not know which it knows
FORMATS = tuple(kind for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF") if kind in Image.OPEN)
ORIENTATION = 0x0112  # of EXIF
READING = (
    "grey; dark on bright is inverted; stretched to 0..255; cropped to the ink (above 64), its longer side scaled to "
    "20 pixels, and put into 28×28 so that the centre of mass is in the middle; a 28×28 picture is taken as it is"
)


def open_image(path: str) -> Image.Image:
    """Open a picture upright.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is no picture, no plain file, damaged, or larger than 50 million pixels.
    """
    content = io.BytesIO(files.content(Path(path)))  # of a file Pillow asks for as many bytes as a chunk claims
    try:
        with Image.open(content, formats=FORMATS) as image:
            wide, high = image.size
            upright = ImageOps.exif_transpose(image) if wide * high <= MAX_PIXELS else None  # a copy, decoded
    except UnidentifiedImageError:
        raise ValueError(f"{path} is no picture that can be read") from None
    except Exception as error:  # on damaged files Pillow raises nearly anything: SyntaxError and struct.error, too
        raise ValueError(f"{path} is damaged: {error}") from None
    if upright is None:
        raise ValueError(f"{path} has {wide}×{high} pixels; at most {MAX_PIXELS:,} are read")
    return upright


def held(path: str | Path) -> int:
    """How the camera was held that took a picture, which `open_image` could read: EXIF's orientation, from 1 to 8."""
    content = io.BytesIO(files.content(Path(path)))
    try:
        with Image.open(content, formats=FORMATS) as stored:
            found = stored.getexif().get(ORIENTATION, 1)
    except Exception as error:  # as in `open_image`
        raise ValueError(f"{path} is damaged: {error}") from None
    return found if found in range(1, 9) else 1


def read_digit(path: str) -> tuple[Tensor, list[str]]:
    """Read a picture of any size, colour or grey, as MNIST would have it: bright digit, dark ground, centred.

    A 28×28 picture is taken as it is, but for its colours.

    Returns:
        uint8 (1, 28, 28), and what was done to the picture that the user should know.

    Raises:
        FileNotFoundError, ValueError: As `open_image`; or the picture shows nothing at all.
    """
    return prepared(open_image(path), path)


def prepared(image: Image.Image, path: str) -> tuple[Tensor, list[str]]:
    """What `read_digit` makes of an open picture; `path` names it in errors."""
    pixels = np.asarray(_grey(image), np.float32)
    notes = []
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    if np.median(border) > pixels.mean():
        notes.append("looks inverted (dark digit on a bright ground), as on paper: turned round")
        pixels = 255 - pixels
    low, high = np.percentile(pixels, 5), pixels.max()
    if high - low < 16:
        raise ValueError(f"{path} shows nothing: all its pixels are alike")
    if pixels.shape != (SIDE, SIDE):
        pixels = (pixels - low).clip(0) * (255 / (high - low))
        pixels = _centred(pixels)
        notes.append("cropped, scaled and centred as MNIST's digits are")
    return torch.from_numpy(pixels.clip(0, 255).astype(np.uint8))[None], notes


def _grey(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        over = image.convert("RGBA")
        values = np.asarray(over, np.float32)
        drawn = np.average(values[..., :3].mean(2), weights=values[..., 3] + 1e-6)
        # What is transparent is ground, so it gets the brightness that the drawing has not.
        image = Image.alpha_composite(Image.new("RGBA", over.size, "black" if drawn > 127 else "white"), over)
    if image.mode.startswith(("I", "F")):  # 16 bits and more, which convert() would clip
        values = np.asarray(image, np.float32)
        image = Image.fromarray(((values - values.min()) * (255 / max(1e-9, float(np.ptp(values))))).astype(np.uint8))
    return image.convert("L")


def _centred(pixels: np.ndarray) -> np.ndarray:
    """Crop to the ink, scale into 20×20, put the centre of mass into the middle: (H, W) -> (28, 28)."""
    ink = pixels > 64
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    crop = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    factor = BOX / max(crop.shape)
    size = max(1, round(crop.shape[1] * factor)), max(1, round(crop.shape[0] * factor))
    digit = np.asarray(Image.fromarray(crop.astype(np.uint8)).resize(size, Image.Resampling.BOX), np.float32)
    weight = digit.sum()
    y = (digit.sum(1) @ np.arange(digit.shape[0])) / weight
    x = (digit.sum(0) @ np.arange(digit.shape[1])) / weight
    top = int(np.clip(round((SIDE - 1) / 2 - y), 0, SIDE - digit.shape[0]))
    left = int(np.clip(round((SIDE - 1) / 2 - x), 0, SIDE - digit.shape[1]))
    canvas = np.zeros((SIDE, SIDE), np.float32)
    canvas[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return canvas


def answers(inputs: list[str], answer: Callable[[Tensor], dict[str, Any]]) -> list[dict[str, Any]]:
    """What `answer` says of each picture's uint8 (1, 28, 28), with the picture's name and what was done to it."""
    found = []
    for path in inputs:
        image, notes = read_digit(path)
        found.append({"input": path, **answer(image), "notes": notes})
    return found
