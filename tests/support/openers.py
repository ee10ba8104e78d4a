"""Every way in which an image file is opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from decathlon.data import pets
from decathlon.data.io import decoded_images, digit_image, image_folder

OPENERS: dict[str, Callable[[Path], Any]] = {
    "digit": lambda path: digit_image.read_digit(str(path)),
    "classification": image_folder.read_image,
    "segmentation": lambda path: pets.read_pair(pets.Pair("train", path, path, True)),
    "detection": decoded_images.read_image,
}
