"""The digits tab: what the three MNIST networks say of a drawing, and a walk between two digits in code space."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor

from decathlon import classify
from decathlon.augment import to_float
from decathlon.data.digit import SIDE, prepared
from decathlon.demo import models

TASKS = ("mnist-mlp", "mnist-cnn", "mnist-autoencoder")
STEPS = 9  # pictures of a walk, both ends among them
MINE = "your drawing"


@dataclass(frozen=True)
class Answers:
    """What is to be seen of one drawing.

    Attributes:
        seen: The drawing as the networks see it, uint8 (28, 28).
        notes: What was done to it.
        probabilities: Of each task, by class with the likeliest first; of the autoencoder the share of the trees.
        reconstruction: What the autoencoder makes of it, uint8 (28, 28).
        code: The autoencoder's code, float32 (code,).
    """

    seen: np.ndarray
    notes: list[str]
    probabilities: dict[str, dict[str, float]]
    reconstruction: np.ndarray
    code: np.ndarray


def answers(drawing: Image.Image) -> Answers:
    """Ask the three networks about a drawing of any size, bright on black.

    Raises:
        ValueError: It shows nothing.
    """
    image, notes = prepared(drawing, "the drawing")
    said = {
        name: classify.predict(models.network(name).model, image, models.network(name).meta)["probabilities"]
        for name in TASKS[:2]
    }
    ready = models.network(TASKS[2])
    reconstruction, code = through(image)
    classes = [ready.classes[number] for number in ready.forest.classes_]
    said[TASKS[2]] = classify.ranked(ready.forest.predict_proba(code[None])[0].tolist(), classes)["probabilities"]
    return Answers(image[0].numpy(), notes, said, reconstruction, code)


def through(image: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """One uint8 image (1, 28, 28) through the autoencoder: its reconstruction uint8 (28, 28), and its code (code,)."""
    with torch.no_grad():
        made, code = models.network(TASKS[2]).model(to_float(image[None]))
    return pixels(made)[0], code[0].numpy()


def pixels(images: Tensor) -> np.ndarray:
    """Float images (N, 1, 28, 28) from 0 to 1 as uint8 (N, 28, 28)."""
    return (255 * images[:, 0].clamp(0, 1)).round().byte().numpy()


@cache
def example(number: int) -> np.ndarray:
    """A handwritten digit that comes with scikit-learn, brought from 8×8 to uint8 (28, 28).

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
    """
    bunch = load_digits()
    small = bunch.images[np.flatnonzero(bunch.target == number)[EXAMPLES[number]]] * (255 / 16)
    large = Image.fromarray(small.astype(np.uint8)).resize((20, 20), Image.Resampling.BICUBIC)
    return np.pad(np.asarray(large), 4)


EXAMPLES = (0,) * 10  # which one of each digit


def ends(name: str, drawing: Image.Image | None) -> Tensor:
    """The image uint8 (1, 28, 28) at which a walk starts or ends: `0` to `9`, or the drawing.

    Raises:
        ValueError: The name is another one, or nothing is drawn.
    """
    if name == MINE:
        if drawing is None:
            raise ValueError("draw a digit first: the walk is to start or end at your drawing")
        return prepared(drawing, "the drawing")[0]
    if name not in [str(number) for number in range(10)]:
        raise ValueError(f"a walk goes from digit to digit, or to {MINE}")
    return torch.from_numpy(example(int(name)).copy())[None]


def walk(start: str, end: str, drawing: Image.Image | None) -> np.ndarray:
    """Pictures along the straight line between the codes of two digits: uint8 (STEPS, 28, 28).

    Raises:
        ValueError: As `ends`.
    """
    pair = to_float(torch.stack([ends(name, drawing) for name in (start, end)]))
    network = models.network(TASKS[2]).model.network
    share = torch.linspace(0, 1, STEPS)[:, None]
    with torch.no_grad():
        first, last = network(pair)[1]
        made = network.decoder((1 - share) * first + share * last)  # (STEPS, code) -> (STEPS, 1, 28, 28)
    assert made.shape == (STEPS, 1, SIDE, SIDE)
    return pixels(made)
