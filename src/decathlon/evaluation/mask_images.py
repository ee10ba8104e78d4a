"""Images of a mask: black and white, over the image, and the foreground cut out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

KINDS = ("mask", "overlay", "cutout")  # of the files that `write` writes
AMBER = np.array([217, 119, 6])  # the colour of masks in overlays


def write(image: Image.Image, probability: np.ndarray, stem: str, folder: Path) -> list[Path]:
    """Write STEM-mask.png, STEM-overlay.png and STEM-cutout.png; a number is added where such a file exists already.

    Args:
        image: RGB.
        probability: Of the foreground at each pixel, float (H, W) from 0 to 1.
        stem: STEM.
        folder: The folder of the files.

    Returns:
        The paths of the three files. No existing file is overwritten.
    """
    number = 1
    while True:
        name = stem if number == 1 else f"{stem}-{number}"
        paths = [folder / f"{name}-{kind}.png" for kind in KINDS]
        if not any(path.exists() for path in paths):
            break
        number += 1
    pixels, mask = np.asarray(image), probability > 0.5
    files = mask.astype(np.uint8) * 255, overlay(pixels, mask), cut_out(pixels, probability)
    for path, values in zip(paths, files, strict=True):
        with path.open("xb") as file:
            Image.fromarray(values).save(file, format="PNG")
    return paths


def overlay(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """An image uint8 (H, W, 3) tinted where `mask` (H, W) is true, darkened elsewhere: uint8 (H, W, 3)."""
    return np.where(mask[..., None], pixels * 0.45 + AMBER * 0.55, pixels * 0.8).astype(np.uint8)


def cut_out(pixels: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """An image uint8 (H, W, 3) with its background transparent: uint8 (H, W, 4).

    The edge is soft: opaque where `probability` (H, W) is near 1, fully transparent where it is near 0.
    """
    return np.dstack([pixels, (255 * (2 * probability - 0.5)).clip(0, 255).astype(np.uint8)])
