"""To click: drawn or written by the project, or pictures that come with scikit-learn; none is from a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from decathlon.data import drawn, drawn_pets, drawn_scenes

CREDIT = (
    "Drawn by the package; the temple (by danielbuechele) and the flower (by vultilion) are photos under CC BY 2.0 "
    "that come with scikit-learn."
)
REVIEWS = [
    "The plot was not bad at all, and the music was really moving. I would watch it again tomorrow.",
    "Two hours of clumsy dialogue and an ending that explains nothing. What a waste of a great cast.",
    "I expected a dull costume drama. It turned out to be the funniest film of the year, and a warm one, too.",
    "Beautiful pictures, wonderful actors, and still I was bored: the script has no idea where it wants to go.",
]
# The drawings, by the seed that makes them. Networks that learned from photos fail on many a drawing: these things are
# ones that `cifar10-skip` names right, these pets ones that `pets-unet` finds, and the page says so.
THINGS = {"ship": 11, "airplane": 7, "truck": 11, "cat": 6}
PETS = (("dog", 14), ("cat", 14), ("dog", 39), ("cat", 0))
SCENES = (11, 40, 45)
PHOTOS = {"temple": "china.jpg", "flower": "flower.jpg"}


def pictures(folder: Path) -> dict[str, list[str]]:
    """Write the examples of the tabs that take a photo into a folder.

    Returns:
        Of each tab, the paths.
    """
    photos = [(name, Image.fromarray(load_sample_image(file))) for name, file in PHOTOS.items()]
    made = {
        "things": [(name, enlarged(drawn.picture(name, seeded(seed)), 10)) for name, seed in THINGS.items()],
        "pets": [(f"{name}-{seed}", enlarged(drawn_pets.picture(name, seeded(seed))[0], 3)) for name, seed in PETS],
        "boxes": [(f"scene-{seed}", enlarged(drawn_scenes.scene(seeded(seed))[0], 4)) for seed in SCENES],
    }
    found: dict[str, list[str]] = {}
    for tab, drawings in made.items():
        for name, image in [*drawings, *photos]:
            path = folder / f"{tab}-{name}.png"
            image.save(path)
            found.setdefault(tab, []).append(str(path))
    return found


def seeded(seed: int) -> np.random.Generator:
    """Random numbers for one drawing."""
    return np.random.default_rng(seed)


def enlarged(image: Image.Image, times: int) -> Image.Image:
    """A small drawing, smoothly enlarged."""
    return image.resize((image.width * times, image.height * times), Image.Resampling.BICUBIC)
