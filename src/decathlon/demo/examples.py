"""Example inputs: drawn or written by the project, or photos anyone may use; none is from a data set of the tasks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from decathlon.data.synthetic import pets, shapes

CREDIT = (
    "The astronaut (NASA, public domain) and the cat (Stéfan van der Walt, CC0) are photos of scikit-image; the temple "
    "(danielbuechele) and the flower (vultilion), both CC BY 2.0, come with scikit-learn. The package draws the rest."
)
REVIEWS = [
    "The plot was not bad at all, and the music was really moving. I would watch it again tomorrow.",
    "Two hours of clumsy dialogue and an ending that explains nothing. What a waste of a great cast.",
    "I expected a dull costume drama. It turned out to be the funniest film of the year, and a warm one, too.",
    "Beautiful pictures, wonderful actors, and still I was bored: the script has no idea where it wants to go.",
]
# Seeds of the drawings. Networks trained on photos fail on many drawings: these objects are ones that `cifar10-skip`
# classifies correctly, these pets ones that `pets-unet` finds, and the page says so.
OBJECTS = {"ship": 11, "airplane": 7, "truck": 11, "cat": 6}
PETS = (("dog", 36), ("cat", 9), ("dog", 51))
SCIKIT_LEARN = {"temple": "china.jpg", "flower": "flower.jpg"}
PHOTOS = Path(__file__).with_name("photos")


def write_images(folder: Path) -> dict[str, list[str]]:
    """Write the examples of the tabs that take an image into a folder.

    Returns:
        For each tab, the paths.
    """
    photos = [(name, Image.fromarray(load_sample_image(file))) for name, file in SCIKIT_LEARN.items()]
    own: dict[str, list[tuple[str, Image.Image]]] = {
        "objects": [(name, enlarge(shapes.draw_image(name, make_rng(seed)), 10)) for name, seed in OBJECTS.items()],
        "pets": [
            *[(f"{name}-{seed}", enlarge(pets.draw_pet(name, make_rng(seed))[0], 3)) for name, seed in PETS],
            open_photo("chelsea"),
        ],
        "boxes": [open_photo("astronaut"), open_photo("chelsea")],
    }
    paths: dict[str, list[str]] = {}
    for tab, images in own.items():
        for name, image in [*images, *photos]:
            path = folder / f"{tab}-{name}.png"
            image.save(path)
            paths.setdefault(tab, []).append(str(path))
    return paths


def open_photo(name: str) -> tuple[str, Image.Image]:
    """The name and the image of a photo that comes with the demo."""
    return name, Image.open(PHOTOS / f"{name}.jpg", formats=["JPEG"])


def make_rng(seed: int) -> np.random.Generator:
    """A random generator for one drawing."""
    return np.random.default_rng(seed)


def enlarge(image: Image.Image, factor: int) -> Image.Image:
    """Enlarge a small drawing smoothly."""
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
