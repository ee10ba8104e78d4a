"""A random forest on the codes of an encoder: predictions for images of digits, and probabilities of all classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from decathlon.data.io.digit_image import prepare_digit
from decathlon.data.io.images import ImageInput
from decathlon.data.transforms.augment import to_float
from decathlon.evaluation import classification
from decathlon.evaluation.predictions import Classification, device_of

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestClassifier


def predict(
    encoder: nn.Module,
    predict_proba: Callable[[np.ndarray], np.ndarray],
    inputs: Sequence[ImageInput],
    classes: list[str],
    batch_size: int,
) -> list[Classification | Exception]:
    """Classify images of digits by their codes, a batch at a time.

    Args:
        encoder: Float images (N, 1, 28, 28) -> codes (N, latent_dim).
        predict_proba: Of the forest: codes -> probabilities (N, num_classes).
        inputs: The images.
        classes: In the order of the probabilities.
        batch_size: Images that go through the encoder at once.

    Returns:
        For each input its prediction, or the error of an input that cannot be read.
    """
    device = device_of(encoder)

    def predict_probabilities(images: Tensor) -> Tensor:
        codes = encoder(to_float(images.to(device))).float().cpu().numpy()
        return torch.from_numpy(np.asarray(predict_proba(codes)))

    return classification.predict_by(predict_probabilities, inputs, prepare_digit, classes, batch_size)


def fit(codes: np.ndarray, labels: np.ndarray, n_trees: int, seed: int) -> RandomForestClassifier:
    """A random forest (Breiman 2001) on codes (N, latent_dim) and their labels (N,); the last ones are remembered."""
    return _fit(codes.tobytes(), codes.shape, codes.dtype.str, labels.tobytes(), labels.dtype.str, n_trees, seed)


@lru_cache(maxsize=2)  # fitting takes seconds, and every call of `predict` needs the same one
def _fit(
    codes: bytes, shape: tuple[int, int], codes_type: str, labels: bytes, labels_type: str, n_trees: int, seed: int
) -> RandomForestClassifier:
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(n_trees, random_state=seed, n_jobs=torch.get_num_threads())
    return forest.fit(np.frombuffer(codes, codes_type).reshape(shape), np.frombuffer(labels, labels_type))


def class_names(forest: RandomForestClassifier, classes: list[str]) -> list[str]:
    """The classes that the forest was fitted on, in the order of its probabilities."""
    return [classes[label] for label in forest.classes_]


def log_probabilities(forest: RandomForestClassifier, codes: np.ndarray, num_classes: int) -> Tensor:
    """Log probabilities of all classes, also those that the forest was not fitted on: float (N, num_classes)."""
    probabilities = np.zeros((len(codes), num_classes), np.float32)
    probabilities[:, forest.classes_] = forest.predict_proba(codes)
    return torch.from_numpy(probabilities).clamp_min(1e-9).log()
