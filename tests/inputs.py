"""An input for `predict`, for every data set. A new one adds a line here, or the registry's tests fail and say so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image


def digit(folder: Path) -> str:
    """A large dark one on paper, as a phone would photograph it."""
    pixels = np.full((300, 200), 230, np.uint8)
    pixels[60:240, 90:112] = 20
    path = folder / "one.png"
    Image.fromarray(pixels).save(path)
    return str(path)


def review(folder: Path) -> str:
    return "The plot was not bad and the music was really moving ."


INPUTS: dict[str, Callable[[Path], str]] = {"mnist": digit, "imdb": review}
