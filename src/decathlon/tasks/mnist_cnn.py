"""`mnist-cnn`: handwritten digits with convolutions and max pooling.

Network   three convolutions (5×5, 3×3, 3×3), two max poolings, two fully connected layers (LeCun et al. 1998)
Expected  99.66 ± 0.03 % on MNIST's test split (3 seeds)
Time      145 s of training on two cores of an AMD EPYC; validation passes the bar, 99.3 %, after 36 s
Command   decathlon train mnist-cnn
More      docs/tasks/mnist-cnn.md
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from decathlon import classify
from decathlon.augment import warp
from decathlon.data import Data, Epoch, Source, Split, digit, mnist, shuffled
from decathlon.models.cnn import CNN
from decathlon.portable import Graph
from decathlon.recipe import Card, Optimizer, require
from decathlon.recipe import Recipe as BaseRecipe
from decathlon.rules import at_least_one, nothing_but

CARD = Card(id="mnist-cnn", dataset="mnist", network="only convolution, fully connected, max pooling, ReLU", bar=0.993)

# --- Recipe -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """How `mnist-cnn` is trained."""

    channels: tuple[int, int, int] = (32, 64, 128)
    """Filters of the three convolutions."""
    hidden: int = 128
    """Hidden units."""
    groups: int = 8
    """Different distortions in a batch."""
    rotation: float = 10.0
    """Largest rotation, degrees."""
    scale: float = 0.1
    """Largest change of width and of height, a fraction."""
    shear: float = 0.1
    """Largest shear, tangent of the angle."""
    shift: float = 1.5
    """Largest shift, pixels."""
    elastic: float = 0.4
    """Standard deviation of the elastic distortion, pixels."""
    smoothing: float = 0.05
    """Label smoothing."""
    ema: float = 0.998
    epochs: int = 20
    batch_size: int = 128
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(lr=3e-3, weight_decay=2e-2))

    def __post_init__(self) -> None:
        super().__post_init__()
        require("--smoothing", self.smoothing < 1, "below 1")


def recipe() -> Recipe:
    """The recipe for MNIST."""
    return Recipe()


def sample_recipe() -> Recipe:
    """The recipe for the sample: fewer images, so smaller batches."""
    return replace(recipe(), channels=(16, 32, 64), batch_size=64, epochs=25)


# --- Data -------------------------------------------------------------------------------------------------------------


def load(source: Source, recipe: BaseRecipe) -> Data:
    """Images uint8 (N, 1, 28, 28), labels (N,)."""
    return mnist.load(source)


def batches(split: Split, recipe: Recipe, epoch: Epoch) -> Iterable[Split]:
    """Shuffled batches from memory."""
    return shuffled(split, recipe.batch_size, epoch)


# --- Model ------------------------------------------------------------------------------------------------------------


def model(
    recipe: Recipe, meta: dict[str, Any], train: Split | None = None, network: nn.Module | None = None
) -> nn.Module:
    """Float images (N, 1, 28, 28) from 0 to 1 -> scores (N, classes)."""
    if network is None:
        network = CNN(recipe.channels, recipe.hidden, len(meta["classes"]))
    return network.to(memory_format=torch.channels_last)  # convolutions on the CPU are half as fast again


def rules(model: nn.Module, meta: dict[str, Any]) -> list[str]:
    """Convolution, fully connected, max pooling, ReLU, and nothing else; each at least once."""
    counts = classify.operations(model, (1, 28, 28), meta)
    kinds = ("convolution", "fully connected", "max pooling", "ReLU")
    return at_least_one(counts, *kinds) + nothing_but(counts, *kinds)


# --- Step -------------------------------------------------------------------------------------------------------------


def step(model: nn.Module, batch: Split, recipe: Recipe) -> dict[str, Tensor]:
    """Cross-entropy on distorted images."""
    images = warp(
        batch.inputs, recipe.groups, recipe.rotation, recipe.scale, recipe.shear, recipe.shift, recipe.elastic
    )
    return {"loss": F.cross_entropy(model(images), batch.targets, label_smoothing=recipe.smoothing)}


# --- Evaluate ---------------------------------------------------------------------------------------------------------


def evaluate(model: nn.Module, data: Data, split: str, recipe: Recipe) -> dict[str, float]:
    """Accuracy and cross-entropy."""
    return classify.evaluate(model, getattr(data, split))


# --- Predict ----------------------------------------------------------------------------------------------------------


def predict(model: nn.Module, inputs: list[str], recipe: Recipe, meta: dict[str, Any]) -> list[dict[str, Any]]:
    """Classes with probabilities for pictures of a digit: any size, colour or grey."""
    return digit.answers(inputs, lambda image: classify.predict(model, image, meta))


def graph(model: nn.Module, recipe: Recipe, meta: dict[str, Any]) -> Graph:
    """What `export` writes: the network."""
    return classify.graph(model, (1, 28, 28), meta, digit.READING)


# --- Show -------------------------------------------------------------------------------------------------------------


def show(model: nn.Module, data: Data, recipe: Recipe, folder: Path) -> None:
    """confusion.png, mistakes.png."""
    classify.show(model, data, folder)
