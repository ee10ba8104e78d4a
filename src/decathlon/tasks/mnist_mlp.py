"""`mnist-mlp`: handwritten digits with two fully connected layers.

Network   784 -> 1536 -> 10, ReLU between (Rumelhart, Hinton and Williams 1986)
Expected  99.28 ± 0.02 % on MNIST's test split (3 seeds)
Time      74 s of training on two cores of an AMD EPYC; validation passes the bar, 98 %, after 13 s
Command   decathlon train mnist-mlp
More      docs/tasks/mnist-mlp.md
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from decathlon import classify
from decathlon.augment import warp
from decathlon.data import Data, Epoch, Source, Split, digit, mnist, shuffled
from decathlon.models.mlp import MLP
from decathlon.portable import Graph
from decathlon.recipe import Card, Optimizer, require
from decathlon.recipe import Recipe as BaseRecipe
from decathlon.rules import at_least_one, exactly, nothing_but

CARD = Card(id="mnist-mlp", dataset="mnist", network="2 fully connected layers, ReLU", bar=0.98)

# --- Recipe -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """How `mnist-mlp` is trained."""

    hidden: int = 1536
    """Hidden units."""
    groups: int = 8
    """Different distortions in a batch."""
    rotation: float = 8.0
    """Largest rotation, degrees."""
    scale: float = 0.1
    """Largest change of width and of height, a fraction."""
    shear: float = 0.1
    """Largest shear, tangent of the angle."""
    shift: float = 1.0
    """Largest shift, pixels."""
    elastic: float = 0.4
    """Standard deviation of the elastic distortion, pixels."""
    smoothing: float = 0.05
    """Label smoothing."""
    ema: float = 0.995
    epochs: int = 35
    batch_size: int = 512
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(lr=3e-3, weight_decay=2e-2))

    def __post_init__(self) -> None:
        super().__post_init__()
        require("--smoothing", self.smoothing < 1, "below 1")


def recipe() -> Recipe:
    """The recipe for MNIST."""
    return Recipe()


def sample_recipe() -> Recipe:
    """The recipe for the sample: fewer images, so smaller batches."""
    return replace(recipe(), hidden=256, batch_size=64, epochs=20)


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
    return MLP(28 * 28, recipe.hidden, len(meta["classes"])) if network is None else network


def rules(model: nn.Module, meta: dict[str, Any]) -> list[str]:
    """Two fully connected layers and ReLU; dropout is a trick of training, and anything else breaks the promise."""
    counts = classify.operations(model, (1, 28, 28), meta)
    broken = exactly(counts, fully_connected=2) + at_least_one(counts, "ReLU")
    return broken + nothing_but(counts, "fully connected", "ReLU", "dropout")


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
