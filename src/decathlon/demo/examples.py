"""Inputs to click: drawn or written by the project, or pictures that come with scikit-learn. None is from a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from decathlon.data import drawn, drawn_pets, drawn_scenes

CREDIT = (
    "Examples are drawn by the package, but for the temple (daniel.buechele) and the flower (vultilion), photos under "
    "CC BY 2.0 that come with scikit-learn."
)
REVIEWS = [
    "The plot was not bad at all, and the music was really moving. I would watch it again tomorrow.",
    "Two hours of clumsy dialogue and an ending that explains nothing. What a waste of a great cast.",
    "I expected a dull costume drama. It turned out to be the funniest film of the year, and a warm one, too.",
    "Beautiful pictures, wonderful actors, and still I was bored: the script has no idea where it wants to go.",
]
THINGS = ("ship", "airplane", "automobile", "horse")
SEED = 1  # of the drawings


def pictures(folder: Path) -> dict[str, list[str]]:
    """Write the examples of the tabs that take a photo into a folder.

    Returns:
        Of each tab, the paths.
    """
    draw = np.random.default_rng(SEED)
    made: dict[str, list[tuple[str, Image.Image]]] = {
        "things": [(name, enlarged(drawn.picture(name, draw), 10)) for name in THINGS],
        "pets": [(name, enlarged(drawn_pets.picture(name, draw)[0], 3)) for name in ("dog", "cat")],
        "boxes": [(f"scene-{number}", enlarged(drawn_scenes.scene(draw)[0], 4)) for number in (1, 2, 3)],
    }
    photos = [(name, Image.fromarray(load_sample_image(f"{file}.jpg"))) for name, file in
              (("temple", "china"), ("flower", "flower"))]
    found = {}
    for tab, ours in made.items():
        found[tab] = []
        for name, image in [*ours, *photos]:
            path = folder / f"{tab}-{name}.png"
            image.save(path)
            found[tab].append(str(path))
    return found


def enlarged(image: Image.Image, times: int) -> Image.Image:
    """A small drawing, smoothly enlarged."""
    return image.resize((image.width * times, image.height * times), Image.Resampling.BICUBIC)
