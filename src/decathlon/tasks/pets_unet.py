"""`pets-unet`: segment the pet in an image, by a U-Net.

Network   four encoder blocks of two convolutions, then pooling; a bottleneck; four decoder blocks (Ronneberger 2015)
Expected  91.08 ± 0.09 % on the test split of pets-565 (3 seeds); 93.23 ± 0.11 % with --recipe best (3 seeds)
Time      694 to 1516 s of training on two cores of an AMD EPYC with other work on them; bar reached after 485 s (mean)
Command   decathlon train pets-unet
More      docs/tasks/pets-unet.md
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from decathlon.data import pets
from decathlon.data.base import Data, DataInfo, EpochShard, ResizedSplit, Source, Split, shuffled_batches
from decathlon.data.io.images import ImageInput
from decathlon.data.pets import SegmentationSplit
from decathlon.data.transforms.augment import color_jitter, random_affine, to_float
from decathlon.errors import require
from decathlon.evaluation import metrics, segmentation
from decathlon.evaluation.architecture import exactly, expect_shape, nothing_but, operations
from decathlon.evaluation.onnx_graph import OnnxGraph, OnnxNetwork
from decathlon.evaluation.predictions import Segmentation
from decathlon.models.unet import UNet
from decathlon.tasks.base import Spec
from decathlon.tasks.recipe import Optimizer
from decathlon.tasks.recipe import Recipe as BaseRecipe

SPEC = Spec(
    id="pets-unet",
    dataset="pets",
    network="U-Net: 4 blocks of 2 convolutions down, bottleneck, 4 blocks up with interpolation, 1 output channel",
    bar=0.88,
    tta="flip",
)

# --- Recipe -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """The hyperparameters of `pets-unet`."""

    width: int = 16
    """Filters of the first encoder block; each level below has twice as many."""
    image_size: int = 96
    """Size to which images are stretched for the network, pixels."""
    low_res_epochs: float = 0.5
    """Fraction of the epochs, the first ones, that train on images of `low_res_size`, at lower cost."""
    low_res_size: int = 64
    """Image size in these epochs, pixels."""
    rotation: float = 20.0
    """Random rotation: maximum angle in degrees."""
    scale: float = 0.3
    """Random scaling: maximum logarithm of the factor; that of the aspect ratio is up to two thirds of it."""
    shift: float = 0.15
    """Random translation, up to this fraction of the image size."""
    color_jitter: float = 0.3
    """Color jitter: random change of brightness, contrast, saturation and colour balance, up to this fraction."""
    dice_weight: float = 0.5
    """Weight of the Dice loss; that of the cross-entropy is 1."""
    ema: float = 0.99
    epochs: int = 60
    batch_size: int = 12
    optimizer: Optimizer = field(default_factory=lambda: Optimizer("muon", lr=0.015, momentum=0.9))

    def __post_init__(self) -> None:
        super().__post_init__()
        for flag, size in (("--image-size", self.image_size), ("--low-res-size", self.low_res_size)):
            require(flag, size % 16 == 0, "a multiple of 16: it is halved four times")
        require("--low-res-epochs", self.low_res_epochs <= 1, "from 0 to 1")
        require("--scale", self.scale < 0.7, "below 0.7")


def recipe() -> Recipe:
    """The recipe for Oxford-IIIT Pet."""
    return Recipe()


def best_recipe() -> Recipe:
    """The recipe for the highest accuracy: larger images, more epochs, stronger color jitter."""
    return replace(recipe(), image_size=128, low_res_size=80, epochs=240, ema=0.995, color_jitter=0.4)


def sample_recipe() -> Recipe:
    """The recipe for the sample: a narrower network, smaller images, few steps and a high learning rate.

    The augmentation is weak, since drawn pets vary less than real ones.
    """
    weak = replace(recipe(), rotation=10.0, scale=0.15, shift=0.05, color_jitter=0.1)
    optimizer = Optimizer("muon", lr=0.08, momentum=0.6)
    return replace(weak, width=8, image_size=64, low_res_epochs=0.0, epochs=24, batch_size=8, optimizer=optimizer)


# --- Data -------------------------------------------------------------------------------------------------------------


def load(source: Source, recipe: Recipe) -> Data:
    """Images uint8 (N, 3, S, S), masks uint8 (N, 1, S, S), and trimaps at the images' own sizes for evaluation."""
    return pets.load(source, recipe.image_size)


def batches(split: Split, recipe: Recipe, epoch: EpochShard) -> Iterable[Split]:
    """Shuffled batches from memory, at low resolution in the first epochs."""
    low_res = epoch.number < int(recipe.low_res_epochs * recipe.epochs)
    side = recipe.low_res_size if low_res else recipe.image_size
    return shuffled_batches(ResizedSplit(split.inputs, split.targets, side), recipe.batch_size, epoch)


# --- Model ------------------------------------------------------------------------------------------------------------


def model(recipe: Recipe, info: DataInfo, train: Split | None = None, network: nn.Module | None = None) -> nn.Module:
    """Float images (N, 3, S, S) from 0 to 1 -> logits (N, 1, S, S), above 0 for pet."""
    network = UNet(recipe.width) if network is None else network
    return network.to(memory_format=torch.channels_last)  # convolutions on the CPU are 1.5 times as fast


def check_architecture(model: nn.Module, info: DataInfo) -> list[str]:
    """Nine blocks of two convolutions with batch norm and ReLU: 4 encoder blocks, the bottleneck, 4 decoder blocks.

    Max pooling follows each encoder block, interpolation and concatenation precede each decoder block; the output
    layer is a convolution.
    """
    example = torch.zeros(2, 3, 64, 64, device=next(model.parameters()).device)
    output, counts = operations(model, example)
    expect_shape(output, (2, 1, 64, 64), example)
    required = {"convolution": 19, "batch_norm": 18, "ReLU": 18}
    required |= {"max_pooling": 4, "interpolation": 4, "concatenation": 4}
    return exactly(counts, **required) + nothing_but(counts, *(kind.replace("_", " ") for kind in required))


# --- Training loss ----------------------------------------------------------------------------------------------------


def training_loss(model: nn.Module, batch: ResizedSplit, recipe: Recipe) -> dict[str, Tensor]:
    """Cross-entropy and Dice loss on augmented images and masks."""
    images, masks = to_float(batch.inputs), to_float(batch.targets)
    images, masks = random_affine(images, masks, batch.side, recipe.rotation, recipe.scale, recipe.shift)
    images = color_jitter(images, recipe.color_jitter).contiguous(memory_format=torch.channels_last)
    return bce_dice_loss(model(images), masks, recipe)


def bce_dice_loss(logits: Tensor, masks: Tensor, recipe: Recipe) -> dict[str, Tensor]:
    """Binary cross-entropy, and 1 minus the Dice coefficient of each image (Milletari et al. 2016, section 3)."""
    logits = logits.float()
    entropy = F.binary_cross_entropy_with_logits(logits, masks)
    probability = logits.sigmoid()
    intersection, total = (values.sum((1, 2, 3)) for values in (probability * masks, probability + masks))  # (N,)
    dice = 1 - ((2 * intersection + 1) / (total + 1)).mean()  # smoothed by 1: an image without a pet is not 0 / 0
    return {"loss": entropy + recipe.dice_weight * dice, "entropy": entropy, "dice": dice}


# --- Evaluate ---------------------------------------------------------------------------------------------------------


def evaluate(model: nn.Module, data: Data, split: str, recipe: Recipe) -> dict[str, float]:
    """Accuracy, IoU and Dice at each image's own size, with horizontal flip as test-time augmentation.

    The boundary counts as pet; `accuracy_no_boundary` ignores it. `…_per_image` is the mean over images, the others
    are over all pixels of all images.
    """
    examples: SegmentationSplit = getattr(data, split)
    logits = segmentation.compute_logits(model, examples.inputs)
    loss = bce_dice_loss(logits, to_float(examples.targets), recipe)["loss"].item()
    return metrics.segmentation(segmentation.predict_masks(logits, examples)) | {"loss": loss}


# --- Predict ----------------------------------------------------------------------------------------------------------


def predict(
    model: nn.Module, inputs: Sequence[ImageInput], recipe: Recipe, info: DataInfo, batch_size: int = 32
) -> list[Segmentation | Exception]:
    """The mask of the pet in images of any size and shape."""
    size = model.input_entry("size")[0] if isinstance(model, OnnxNetwork) else recipe.image_size
    return segmentation.predict(model, inputs, size, info.classes[1], batch_size)


def onnx_graph(model: nn.Module, recipe: Recipe, info: DataInfo) -> OnnxGraph:
    """What `export` writes: the network for one image size, without the test-time augmentation."""
    return segmentation.onnx_graph(model, recipe.image_size, info)


# --- Plots ------------------------------------------------------------------------------------------------------------


def plot_validation(model: nn.Module, data: Data, recipe: Recipe, folder: Path) -> None:
    """overlays.png: true and predicted outlines; worst.png: those of the lowest IoU; certainty.png: probabilities."""
    from decathlon.evaluation import plots

    split = cast(SegmentationSplit, data.validation)
    logits = segmentation.compute_logits(model, split.inputs)
    predicted, truth = logits[:, 0] > 0, split.targets[:, 0] > 127
    iou = (predicted & truth).sum((1, 2)) / (predicted | truth).sum((1, 2)).clamp(min=1)
    titles = [f"IoU {100 * value:.0f} %" for value in iou.tolist()]

    def draw(indices: list[int], name: str, heading: str) -> None:
        chosen = [titles[index] for index in indices]
        plots.outlines(split.inputs[indices], truth[indices], predicted[indices], chosen, folder / name, heading)

    draw([*range(min(12, len(split)))], "overlays.png", "validation images: true outline blue, predicted orange")
    draw(iou.argsort()[:12].tolist(), "worst.png", "the lowest IoU: true outline blue, predicted orange")
    few = slice(0, 6)
    heading = "predicted probability of pet: dark 0, bright 1"
    plots.overlays(split.inputs[few], logits[few, 0].sigmoid(), titles[few], folder / "certainty.png", heading)
