"""`pets-unet`: which pixels of a photo are pet, by a U-Net.

Network   four encoder blocks of two convolutions, then pooling; a bottleneck; four decoder blocks (Ronneberger 2015)
Expected  91.08 ± 0.09 % on the test split of pets-565 (3 seeds)
Time      694 to 1516 s of training on two cores of an AMD EPYC with other work on them; bar passed after 485 s (mean)
Command   decathlon train pets-unet
More      docs/tasks/pets-unet.md
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from decathlon import masks, metrics, plots
from decathlon.augment import posed, tinted, to_float
from decathlon.data import Data, Epoch, Sized, Source, Split, pets, shuffled
from decathlon.data.pets import Pets
from decathlon.models.unet import UNet
from decathlon.portable import Graph, Session
from decathlon.recipe import Card, Optimizer, require
from decathlon.recipe import Recipe as BaseRecipe
from decathlon.rules import exactly, expect_shape, nothing_but, operations

CARD = Card(
    id="pets-unet",
    dataset="pets",
    network="U-Net: 4 blocks of 2 convolutions down, bottleneck, 4 blocks up with interpolation, 1 output channel",
    bar=0.88,
)

# --- Recipe -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """How `pets-unet` is trained."""

    width: int = 16
    """Filters of the first block; each below has twice as many."""
    size: int = 96
    """Side of the square to which photos are scaled for the network, pixels."""
    small_share: float = 0.5
    """Share of the epochs, the first ones, in which photos are scaled down further: they cost less."""
    small_size: int = 64
    """Side of those photos, pixels."""
    rotation: float = 20.0
    """Largest turn, degrees."""
    zoom: float = 0.3
    """Largest change of the size, as a share of it; a third of that more for width and height apart."""
    shift: float = 0.15
    """Largest shift, as a share of the side."""
    tint: float = 0.3
    """Largest change of brightness, contrast and each colour."""
    dice: float = 0.5
    """Weight of the Dice loss beside that of cross-entropy, 1."""
    ema: float = 0.99
    epochs: int = 60
    batch_size: int = 12
    optimizer: Optimizer = field(default_factory=lambda: Optimizer("muon", lr=0.015, momentum=0.9))

    def __post_init__(self) -> None:
        super().__post_init__()
        for flag, side in (("--size", self.size), ("--small-size", self.small_size)):
            require(flag, side % 16 == 0, "a multiple of 16: it is halved four times")
        require("--small-share", self.small_share <= 1, "from 0 to 1")
        require("--zoom", self.zoom < 0.7, "below 0.7")


def recipe() -> Recipe:
    """The recipe for Oxford-IIIT Pet."""
    return Recipe()


def sample_recipe() -> Recipe:
    """The recipe for the sample: a narrower network, smaller photos, few steps and long ones.

    Photos are distorted little, since drawn pets differ less than real ones.
    """
    gentle = replace(recipe(), rotation=10.0, zoom=0.15, shift=0.05, tint=0.1)
    quick = Optimizer("muon", lr=0.08, momentum=0.6)
    return replace(gentle, width=8, size=64, small_share=0.0, epochs=24, batch_size=8, optimizer=quick)


# --- Data -------------------------------------------------------------------------------------------------------------


def load(source: Source, recipe: Recipe) -> Data:
    """Photos uint8 (N, 3, S, S), masks uint8 (N, 1, S, S), and the trimaps at their own size to measure with."""
    return pets.load(source, recipe.size)


def batches(split: Split, recipe: Recipe, epoch: Epoch) -> Iterable[Split]:
    """Shuffled batches from memory, to be seen smaller in the first epochs."""
    small = epoch.number < int(recipe.small_share * recipe.epochs)
    side = recipe.small_size if small else recipe.size
    return shuffled(Sized(split.inputs, split.targets, side), recipe.batch_size, epoch)


# --- Model ------------------------------------------------------------------------------------------------------------


def model(
    recipe: Recipe, meta: dict[str, Any], train: Split | None = None, network: nn.Module | None = None
) -> nn.Module:
    """Float photos (N, 3, S, S) from 0 to 1 -> scores (N, 1, S, S), above 0 where there is a pet."""
    network = UNet(recipe.width) if network is None else network
    return network.to(memory_format=torch.channels_last)  # convolutions on the CPU are half as fast again


def rules(model: nn.Module, meta: dict[str, Any]) -> list[str]:
    """Nine blocks of two convolutions with batch norm and ReLU, four of them down and four up, and one more at the end.

    Each way down ends in max pooling; each way up begins with interpolation and a concatenation.
    """
    example = torch.zeros(2, 3, 64, 64, device=next(model.parameters()).device)
    output, counts = operations(model, example)
    expect_shape(output, (2, 1, 64, 64), example)
    wanted = {"convolution": 19, "batch_norm": 18, "ReLU": 18, "max_pooling": 4, "interpolation": 4, "concatenation": 4}
    return exactly(counts, **wanted) + nothing_but(counts, *(kind.replace("_", " ") for kind in wanted))


# --- Step -------------------------------------------------------------------------------------------------------------


def step(model: nn.Module, batch: Sized, recipe: Recipe) -> dict[str, Tensor]:
    """Cross-entropy and Dice on photos turned, zoomed, shifted and tinted, with their masks moved alike."""
    photos, truth = to_float(batch.inputs), to_float(batch.targets)
    photos, truth = posed(photos, truth, batch.side, recipe.rotation, recipe.zoom, recipe.shift)
    photos = tinted(photos, recipe.tint).contiguous(memory_format=torch.channels_last)
    return loss(model(photos), truth, recipe)


def loss(scores: Tensor, truth: Tensor, recipe: Recipe) -> dict[str, Tensor]:
    """Binary cross-entropy, and 1 minus the Dice coefficient of each photo (Milletari et al. 2016, section 3)."""
    scores = scores.float()
    entropy = F.binary_cross_entropy_with_logits(scores, truth)
    found = scores.sigmoid()
    both, either = ((values).sum((1, 2, 3)) for values in (found * truth, found + truth))  # (N,)
    dice = 1 - ((2 * both + 1) / (either + 1)).mean()  # the ones: a photo without a pet is no 0 / 0
    return {"loss": entropy + recipe.dice * dice, "entropy": entropy, "dice": dice}


# --- Evaluate ---------------------------------------------------------------------------------------------------------


def evaluate(model: nn.Module, data: Data, split: str, recipe: Recipe) -> dict[str, float]:
    """Accuracy, IoU and Dice at each photo's own size; the mean of the scores of both views, plain and mirrored.

    The boundary counts as pet, but for `accuracy_no_boundary`, which leaves it out. `…_per_image` is the mean over
    photos, the others are over all pixels of all photos.
    """
    photos: Pets = getattr(data, split)
    scores = masks.scores(model, photos.inputs)
    measured = metrics.segmentation(masks.pairs(scores, photos))
    return measured | {"loss": loss(scores, to_float(photos.targets), recipe)["loss"].item()}


# --- Predict ----------------------------------------------------------------------------------------------------------


def predict(model: nn.Module, inputs: list[str], recipe: Recipe, meta: dict[str, Any]) -> list[dict[str, Any]]:
    """How much of each photo is pet; NAME-mask.png, -overlay.png and -cutout.png are put into the current folder."""
    size = model.told("size")[0] if isinstance(model, Session) else recipe.size
    return masks.answers(model, inputs, size, meta["classes"][1], Path())


def graph(model: nn.Module, recipe: Recipe, meta: dict[str, Any]) -> Graph:
    """What `export` writes: the network, for one of the two views, at one size."""
    return masks.graph(model, recipe.size, meta)


# --- Show -------------------------------------------------------------------------------------------------------------


def show(model: nn.Module, data: Data, recipe: Recipe, folder: Path) -> None:
    """overlays.png: true and found outlines; worst.png: those of the worst masks; certainty.png: the scores."""
    photos = cast(Pets, data.validation)
    scores = masks.scores(model, photos.inputs)
    found, truth = scores[:, 0] > 0, photos.targets[:, 0] > 127
    both, either = (found & truth).sum((1, 2)), (found | truth).sum((1, 2))
    iou = both / either.clamp(min=1)
    titles = [f"IoU {100 * value:.0f} %" for value in iou.tolist()]

    def draw(chosen: list[int], name: str, heading: str) -> None:
        names = [titles[number] for number in chosen]
        plots.outlines(photos.inputs[chosen], truth[chosen], found[chosen], names, folder / name, heading)

    draw([*range(min(12, len(photos)))], "overlays.png", "outlines on validation photos: true blue, found orange")
    draw(iou.argsort()[:12].tolist(), "worst.png", "the worst masks: true outline blue, found orange")
    few = slice(0, 6)
    heading = "how sure the network is that a pixel is pet: dark no, bright yes"
    plots.overlays(photos.inputs[few], scores[few, 0].sigmoid(), titles[few], folder / "certainty.png", heading)
