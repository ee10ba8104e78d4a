"""An input for `predict`, for every data set. A new one adds a line here, or the registry's tests fail and say so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from decathlon.data.synthetic import pets as synthetic_pets
from decathlon.data.synthetic import scenes, shapes


def digit(folder: Path) -> str:
    """A large dark one on paper, as a phone would photograph it."""
    pixels = np.full((300, 200), 230, np.uint8)
    pixels[60:240, 90:112] = 20
    path = folder / "one.png"
    Image.fromarray(pixels).save(path)
    return str(path)


def review(folder: Path) -> str:
    return "The plot was not bad and the music was really moving ."


def photo(folder: Path) -> str:
    """A drawn ship with much sky over it, as a camera held upright would take it."""
    ship = shapes.draw_image("ship", np.random.default_rng(1)).resize((240, 240))
    image = Image.new("RGB", (240, 320), ship.getpixel((0, 0)))
    image.paste(ship, (0, 80))
    path = folder / "ship.jpg"
    image.save(path)
    return str(path)


def pet(folder: Path) -> str:
    """A drawn dog, larger than any in the sample and of odd sides."""
    path = folder / "dog.jpg"
    synthetic_pets.draw_pet("dog", np.random.default_rng(1))[0].resize((301, 233)).save(path)
    return str(path)


def scene(folder: Path) -> str:
    """Drawn objects, held upright, half as large again as the sample's."""
    path = folder / "scene.png"
    scenes.draw_scene(np.random.default_rng(1))[0].resize((240, 180)).rotate(90, expand=True).save(path)
    return str(path)


INPUTS: dict[str, Callable[[Path], str]] = {
    "mnist": digit,
    "imdb": review,
    "cifar10": photo,
    "pets": pet,
    "voc": scene,
}
