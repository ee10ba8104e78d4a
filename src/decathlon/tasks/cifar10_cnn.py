"""`cifar10-cnn`: small colour photos of ten kinds of things, with convolutions in a row.

Network   six convolutions, three fully connected layers, batch norm, max pooling (after Simonyan and Zisserman 2015)
Expected  89.06 ± 0.22 % on the test split of cifar10-jpeg (3 seeds)
Time      1493 s of training on two cores of an AMD EPYC; validation passes the bar, 88 %, after 1004 s
Command   decathlon train cifar10-cnn
More      docs/tasks/cifar10-cnn.md
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from decathlon import classify, plots
from decathlon.augment import shifted, to_float
from decathlon.data import Data, Epoch, Sized, Source, Split, cifar10, photo, shuffled
from decathlon.models.convnet import ConvNet
from decathlon.models.whitening import whiten
from decathlon.portable import Graph
from decathlon.recipe import Card, Optimizer, require
from decathlon.recipe import Recipe as BaseRecipe
from decathlon.rules import at_least_one, exactly, nothing_but

CARD = Card(
    id="cifar10-cnn",
    dataset="cifar10",
    network="6 convolutions + 3 fully connected, batch norm, max pooling",
    bar=0.88,
)

# --- Recipe -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """How `cifar10-cnn` is trained."""

    may_be_zero = ("seed", "shift", "small_share")

    white: int = 24
    """Filters of the first convolution, which starts from the main directions of the images' patches: 24 at most."""
    channels: tuple[int, int, int] = (64, 128, 256)
    """Filters of the others: two convolutions with the first number, two with the second, one with the third."""
    hidden: int = 256
    """Units of each hidden layer."""
    dropout: float = 0.0
    """Share of the hidden units that is dropped before the last layer."""
    shift: int = 2
    """Largest shift, pixels."""
    small_share: float = 0.5
    """Share of the epochs, from the first, in which images are scaled down: they cost half."""
    small_side: int = 24
    """Side of those images, pixels."""
    smoothing: float = 0.2
    """Label smoothing."""
    ema: float = 0.98
    epochs: int = 18
    batch_size: int = 500
    optimizer: Optimizer = field(default_factory=lambda: Optimizer("muon", lr=0.12, momentum=0.6))

    def __post_init__(self) -> None:
        super().__post_init__()
        require("--batch-size", self.batch_size > 1, "at least 2: batch norm compares examples")
        require("--smoothing", self.smoothing < 1, "below 1")
        require("--dropout", self.dropout < 1, "below 1")
        require("--white", self.white <= 24 and self.white % 2 == 0, "even, and at most 24")
        require("--small-share", self.small_share <= 1, "from 0 to 1")
        require("--small-side", 16 <= self.small_side <= photo.SIDE, "from 16, which three poolings need, to 32")
        require("--shift", self.shift < photo.SIDE // 2, "below 16")


def recipe() -> Recipe:
    """The recipe for CIFAR-10."""
    return Recipe()


def sample_recipe() -> Recipe:
    """The recipe for the sample: a narrower network, smaller batches."""
    return replace(recipe(), channels=(32, 64, 64), hidden=64, batch_size=100, small_share=0.0, epochs=8)


# --- Data -------------------------------------------------------------------------------------------------------------


def load(source: Source, recipe: BaseRecipe) -> Data:
    """Images uint8 (N, 3, 32, 32), labels (N,)."""
    return cifar10.load(source)


def batches(split: Split, recipe: Recipe, epoch: Epoch) -> Iterable[Split]:
    """Shuffled batches from memory; every other image is mirrored, and in the next epoch the others are.

    So two epochs show both sides of every image once; drawn mirrors show half of the images one side twice.
    (Jordan 2024, arXiv:2404.00498, section 3.6)
    """
    images, turned = split.inputs.clone(), slice(epoch.number % 2, None, 2)
    images[turned] = images[turned].flip(3)
    small = epoch.number < int(recipe.small_share * recipe.epochs)
    side = recipe.small_side if small else images.shape[-1]
    return shuffled(Sized(images, split.targets, side), recipe.batch_size, epoch)


# --- Model ------------------------------------------------------------------------------------------------------------


def model(
    recipe: Recipe, meta: dict[str, Any], train: Split | None = None, network: nn.Module | None = None
) -> nn.Module:
    """Float images (N, 3, 32, 32) from 0 to 1 -> scores (N, classes)."""
    if network is None:
        network = ConvNet(recipe.white, recipe.channels, recipe.hidden, recipe.dropout, len(meta["classes"]))
        if train is not None:
            whiten(network.white, to_float(train.inputs[:5000]))
    elif train is not None and recipe.small_share:
        classify.check_sizes(network, photo.SIDE, recipe.small_side, meta)
    return network.to(memory_format=torch.channels_last)  # on the CPU half again as fast


def rules(model: nn.Module, meta: dict[str, Any]) -> list[str]:
    """Six convolutions, three fully connected layers, batch norm, max pooling, ReLU, dropout, and nothing else."""
    counts = classify.operations(model, (3, 32, 32), meta)
    kinds = ("convolution", "fully connected", "batch norm", "max pooling", "ReLU", "dropout")
    broken = exactly(counts, convolution=6, fully_connected=3) + at_least_one(counts, "batch norm", "max pooling")
    return broken + nothing_but(counts, *kinds)


# --- Step -------------------------------------------------------------------------------------------------------------


def step(model: nn.Module, batch: Sized, recipe: Recipe) -> dict[str, Tensor]:
    """Cross-entropy on shifted images, smaller ones in the first epochs."""
    images = to_float(shifted(batch.inputs, recipe.shift))
    if batch.side < images.shape[-1]:
        images = F.interpolate(images, (batch.side, batch.side), mode="bilinear", antialias=True)
    images = images.contiguous(memory_format=torch.channels_last)
    return {"loss": F.cross_entropy(model(images), batch.targets, label_smoothing=recipe.smoothing)}


# --- Evaluate ---------------------------------------------------------------------------------------------------------


def evaluate(model: nn.Module, data: Data, split: str, recipe: Recipe) -> dict[str, float]:
    """Accuracy and cross-entropy; each image is seen as it is and mirrored, and the mean of the scores counts."""
    return classify.evaluate(classify.mirrored(model), getattr(data, split))


# --- Predict ----------------------------------------------------------------------------------------------------------


def predict(model: nn.Module, inputs: list[str], recipe: Recipe, meta: dict[str, Any]) -> list[dict[str, Any]]:
    """Classes with probabilities for photos: any size, any shape."""
    return photo.answers(inputs, lambda image: classify.predict(classify.mirrored(model), image, meta))


def graph(model: nn.Module, recipe: Recipe, meta: dict[str, Any]) -> Graph:
    """What `export` writes: the network, for one of the two views."""
    return classify.graph(model, (3, 32, 32), meta, photo.READING, classify.VIEWS)


# --- Show -------------------------------------------------------------------------------------------------------------


def show(model: nn.Module, data: Data, recipe: Recipe, folder: Path) -> None:
    """confusion.png, mistakes.png, filters.png."""
    classify.show(classify.mirrored(model), data, folder)
    plots.filters(model, folder / "filters.png")
