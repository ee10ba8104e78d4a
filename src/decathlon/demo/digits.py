"""The digits tab: the three MNIST networks' predictions for a drawing, and a path between two latent codes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor

from decathlon.data.io.digit_image import IMAGE_SIZE, prepare_digit
from decathlon.data.transforms.augment import to_float
from decathlon.demo import models
from decathlon.evaluation.classification import classify_one, rank_classes

TASKS = ("mnist-mlp", "mnist-cnn", "mnist-autoencoder")
NUM_STEPS = 9  # of an interpolation, both ends included
DRAWING = "your drawing"


@dataclass(frozen=True)
class DigitPredictions:
    """The predictions for one drawing.

    Attributes:
        image: The input of the networks, uint8 (28, 28).
        notes: How the drawing was prepared.
        probabilities: For each task, by class, the most probable first; of the autoencoder, the fractions of the trees.
        reconstruction: The autoencoder's output, uint8 (28, 28).
        code: The latent code, float32 (latent_dim,).
    """

    image: np.ndarray
    notes: list[str]
    probabilities: dict[str, dict[str, float]]
    reconstruction: np.ndarray
    code: np.ndarray


def predict(drawing: Image.Image) -> DigitPredictions:
    """Run the three networks on a drawing of any size, bright on black.

    Raises:
        ValueError: It is empty.
    """
    image, notes = prepare_digit(drawing, "the drawing")
    probabilities = {
        name: classify_one(models.get_network(name).model, image, models.get_network(name).classes)["probabilities"]
        for name in TASKS[:2]
    }
    autoencoder = models.get_network(TASKS[2])
    reconstruction, code = reconstruct(image)
    classes = [autoencoder.classes[label] for label in autoencoder.forest.classes_]
    probabilities[TASKS[2]] = rank_classes(autoencoder.forest.predict_proba(code[None])[0].tolist(), classes)[
        "probabilities"
    ]
    return DigitPredictions(image[0].numpy(), notes, probabilities, reconstruction, code)


def reconstruct(image: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The reconstruction, uint8 (28, 28), and the latent code (latent_dim,) of a uint8 image (1, 28, 28)."""
    with torch.no_grad():
        output, code = models.get_network(TASKS[2]).model(to_float(image[None]))
    return to_pixels(output)[0], code[0].numpy()


def to_pixels(images: Tensor) -> np.ndarray:
    """Convert float images (N, 1, 28, 28) from 0 to 1 to uint8 (N, 28, 28)."""
    return (255 * images[:, 0].clamp(0, 1)).round().byte().numpy()


@cache
def load_example_digit(digit: int) -> np.ndarray:
    """A handwritten digit that comes with scikit-learn, scaled from 8×8 to uint8 (28, 28).

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
    """
    bunch = load_digits()
    small = bunch.images[np.flatnonzero(bunch.target == digit)[0]] * (255 / 16)
    large = Image.fromarray(small.astype(np.uint8)).resize((20, 20), Image.Resampling.BICUBIC)
    return np.pad(np.asarray(large), 4)


def load_endpoint(name: str, drawing: Image.Image | None) -> Tensor:
    """The image, uint8 (1, 28, 28), at one end of an interpolation: an example of `0` to `9`, or the drawing.

    Raises:
        ValueError: The name is another one, or nothing is drawn.
    """
    if name == DRAWING:
        if drawing is None:
            raise ValueError("draw a digit first: one end of the interpolation is your drawing")
        return prepare_digit(drawing, "the drawing")[0]
    if name not in [str(number) for number in range(10)]:
        raise ValueError(f"an interpolation is between digits, or {DRAWING}")
    return torch.from_numpy(load_example_digit(int(name)).copy())[None]


def interpolate(start: str, end: str, drawing: Image.Image | None) -> np.ndarray:
    """Decode points on the straight line between the latent codes of two digits: uint8 (NUM_STEPS, 28, 28).

    Raises:
        ValueError: As `load_endpoint`.
    """
    pair = to_float(torch.stack([load_endpoint(name, drawing) for name in (start, end)]))
    network = models.get_network(TASKS[2]).model.network
    weight = torch.linspace(0, 1, NUM_STEPS)[:, None]
    with torch.no_grad():
        first, last = network(pair)[1]
        codes = (1 - weight) * first + weight * last  # (NUM_STEPS, latent_dim)
        images = network.decoder(codes)  # (NUM_STEPS, 1, 28, 28)
    assert images.shape == (NUM_STEPS, 1, IMAGE_SIZE, IMAGE_SIZE)
    return to_pixels(images)
