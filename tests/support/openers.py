"""Every way in which an image file is opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from decathlon.data import pets
from decathlon.data.io import decoded_images, image_folder
from decathlon.data.io.digit_image import prepare_digit
from decathlon.data.io.images import open_image


def read_digit(path: str) -> tuple[Tensor, list[str]]:
    """An image as `predict` of the MNIST tasks prepares it, and the notes on it."""
    return prepare_digit(open_image(path), path)


OPENERS: dict[str, Callable[[Path], Any]] = {
    "digit": lambda path: read_digit(str(path)),
    "classification": image_folder.read_image,
    "segmentation": lambda path: pets.read_pair(pets.Pair("train", path, path, True)),
    "detection": decoded_images.read_image,
}
