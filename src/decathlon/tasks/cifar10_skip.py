"""`cifar10-skip`: small colour photos of ten kinds of things, with blocks that a connection skips.

Network   convolutions, two blocks with a skip connection, batch norm, max pooling, dropout (after He et al. 2016)
Expected  87.63 ± 0.08 % on the test split of cifar10-jpeg (3 seeds)
Time      569 s of training on two cores of an AMD EPYC; validation passes the bar, 80 %, after 280 s
Command   decathlon train cifar10-skip
More      docs/tasks/cifar10-skip.md
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
from decathlon.models.skipnet import SkipNet
from decathlon.models.whitening import whiten
from decathlon.portable import Graph
from decathlon.recipe import Card, Optimizer, require
from decathlon.recipe import Recipe as BaseRecipe
from decathlon.rules import at_least_one

CARD = Card(
    id="cifar10-skip",
    dataset="cifar10",
    network="convolution blocks with skip connections, batch norm, ReLU, max pooling, dropout",
    bar=0.80,
)

# --- Recipe -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """How `cifar10-skip` is trained."""

    may_be_zero = ("seed", "shift", "small_share")

    white: int = 24
    """Filters of the first convolution, which starts from the main directions of the images' patches: 24 at most."""
    channels: tuple[int, int, int] = (64, 128, 256)
    """Filters of the three stages."""
    dropout: float = 0.1
    """Share of the values that is dropped before the last layer."""
    shift: int = 2
    """Largest shift, pixels."""
    small_share: float = 0.5
    """Share of the epochs, from the first, in which images are scaled down: they cost half."""
    small_side: int = 24
    """Side of those images, pixels."""
    smoothing: float = 0.2
    """Label smoothing."""
    ema: float = 0.98
    epochs: int = 8
    batch_size: int = 500
    optimizer: Optimizer = field(default_factory=lambda: Optimizer("muon", lr=0.12, momentum=0.6))

    def __post_init__(self) -> None:
        super().__post_init__()
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
    return replace(recipe(), channels=(32, 64, 64), batch_size=100, small_share=0.0, epochs=8)


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
        network = SkipNet(recipe.white, recipe.channels, recipe.dropout, len(meta["classes"]))
        if train is not None:
            whiten(network.white, to_float(train.inputs[:5000]))
    elif train is not None and recipe.small_share:
        classify.check_sizes(network, photo.SIDE, recipe.small_side, meta)
    return network.to(memory_format=torch.channels_last)  # on the CPU half again as fast


def rules(model: nn.Module, meta: dict[str, Any]) -> list[str]:
    """Convolutions, batch norm, ReLU, max pooling, dropout, and a skip connection: a sum or a concatenation of maps."""
    counts = classify.operations(model, (3, 32, 32), meta)
    broken = at_least_one(counts, "convolution", "batch norm", "ReLU", "max pooling", "dropout")
    broken += ["it has 1 convolution, and nothing to skip"] if counts["convolution"] == 1 else []
    return broken + ([] if counts["addition"] or counts["concatenation"] else ["it has no skip connection"])


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
    """confusion.png, mistakes.png, filters.png, and attention.png: where it looks."""
    classify.show(classify.mirrored(model), data, folder)
    plots.filters(model, folder / "filters.png")
    if isinstance(model, SkipNet):
        shown, classes = data.validation[:12], data.meta["classes"]
        said = classify.logits(classify.mirrored(model), shown.inputs).argmax(1)
        heat = looked_at(model, shown.inputs, said)
        names = [(plots.label(classes[s]), plots.label(classes[t])) for s, t in zip(said, shown.targets, strict=True)]
        titles = [one if one == true else f"{one} (true: {true})" for one, true in names]
        plots.overlays(shown.inputs, heat, titles, folder / "attention.png", "where the network looks for what it says")


def looked_at(model: SkipNet, images: Tensor, labels: Tensor) -> Tensor:
    """LayerCAM (Jiang et al. 2021, IEEE Transactions on Image Processing 30): which places speak for a class.

    Each value of a map counts by its own gradient, where that is positive. Grad-CAM gives each map one weight, and goes
    astray so far from the output.

    Args:
        model: In evaluation mode.
        images: uint8 (N, 3, H, W).
        labels: int64 (N,), the class of each that is asked about.

    Returns:
        float (N, H, W) from 0 to 1.
    """
    with torch.enable_grad():
        maps = model.maps(to_float(images)).detach().requires_grad_()  # (N, 128, 7, 7)
        scores = model.scores(maps).gather(1, labels[:, None])  # (N, classes) -> (N, 1)
        (gradient,) = torch.autograd.grad(scores.sum(), maps)
    heat = (gradient.relu() * maps).sum(1, keepdim=True)  # (N, 128, 7, 7) -> (N, 1, 7, 7)
    heat = F.interpolate(heat.detach(), images.shape[2:], mode="bilinear")[:, 0]  # (N, 1, 7, 7) -> (N, 32, 32)
    return heat / heat.amax((1, 2), keepdim=True).clamp(min=1e-6)
