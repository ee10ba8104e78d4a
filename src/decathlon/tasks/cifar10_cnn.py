"""`cifar10-cnn`: small RGB images of ten classes, by a plain convolutional network.

Network   six convolutions, three fully connected layers, batch norm, max pooling (after Simonyan and Zisserman 2015)
Expected  89.29 ± 0.13 % on the test split of cifar10-jpeg (3 seeds)
Time      698 s of training on two cores of an AMD EPYC; validation reaches the bar, 88 %, after 355 s
Command   decathlon train cifar10-cnn
More      docs/tasks/cifar10-cnn.md
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from decathlon.data import cifar10
from decathlon.data.base import Data, DataInfo, EpochShard, ResizedSplit, Source, Split, shuffled_batches
from decathlon.data.io.cifar_image import IMAGE_SIZE, PREPROCESSING, prepare_cifar_image
from decathlon.data.io.images import ImageInput
from decathlon.data.transforms.augment import cutout, random_translate, to_float
from decathlon.errors import require
from decathlon.evaluation import classification
from decathlon.evaluation.architecture import at_least_one, exactly, nothing_but
from decathlon.evaluation.classification import TTA, TTA_IN_WORDS, TTAKind
from decathlon.evaluation.onnx_graph import OnnxGraph
from decathlon.evaluation.predictions import Classification
from decathlon.models.convnet import ConvNet
from decathlon.models.whitening import whiten
from decathlon.tasks.base import Spec
from decathlon.tasks.recipe import Optimizer
from decathlon.tasks.recipe import Recipe as BaseRecipe

SPEC = Spec(
    id="cifar10-cnn",
    dataset="cifar10",
    network="6 convolutions + 3 fully connected, batch norm, max pooling",
    bar=0.88,
)

# --- Recipe -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """The hyperparameters of `cifar10-cnn`."""

    may_be_zero = ("seed", "shift", "cutout", "low_res_epochs")

    whitening_filters: int = 24
    """Filters of the first convolution, initialised to whiten 2×2 patches of the images; at most 24."""
    channels: tuple[int, int, int] = (64, 128, 256)
    """Filters of the other convolutions: two with the first number, two with the second, one with the third."""
    hidden: int = 256
    """Units of each hidden fully connected layer."""
    shift: int = 2
    """Random translation: maximum shift in pixels."""
    cutout: int = 0
    """Side of a random square that is set to the image's mean, pixels."""
    low_res_epochs: float = 0.5
    """Fraction of the epochs, the first ones, that train on images of `low_res_size`, at half the cost."""
    low_res_size: int = 24
    """Image size in these epochs, pixels."""
    label_smoothing: float = 0.2
    """Label smoothing."""
    tta: TTAKind = "flip"
    """Test-time augmentation: the copies of an image whose logits are averaged."""
    ema: float = 0.98
    epochs: int = 18
    batch_size: int = 500
    optimizer: Optimizer = field(default_factory=lambda: Optimizer("muon", lr=0.06, momentum=0.6))

    def __post_init__(self) -> None:
        super().__post_init__()
        require("--batch-size", self.batch_size > 1, "at least 2: batch norm needs two examples")
        require("--label-smoothing", self.label_smoothing < 1, "below 1")
        require(
            "--whitening-filters",
            self.whitening_filters <= 24 and self.whitening_filters % 2 == 0,
            "even, and at most 24",
        )
        require("--low-res-epochs", self.low_res_epochs <= 1, "from 0 to 1")
        require("--low-res-size", 16 <= self.low_res_size <= IMAGE_SIZE, "from 16, which three poolings need, to 32")
        require("--shift", self.shift < IMAGE_SIZE // 2, "below 16")
        require("--cutout", self.cutout <= IMAGE_SIZE, "from 0 to 32")


def recipe() -> Recipe:
    """The recipe for CIFAR-10."""
    return Recipe()


def best_recipe() -> Recipe:
    """The recipe for the highest accuracy: more filters, epochs and augmentation, in evaluation, too."""
    return replace(recipe(), channels=(128, 384, 512), epochs=36, shift=3, cutout=10, tta="flip+shift")


def sample_recipe() -> Recipe:
    """The recipe for the sample: a narrower network, smaller batches."""
    small = replace(recipe(), channels=(32, 64, 64), hidden=64, batch_size=100, low_res_epochs=0.0, epochs=8)
    return replace(small, optimizer=replace(small.optimizer, lr=0.12))


# --- Data -------------------------------------------------------------------------------------------------------------


def load(source: Source, recipe: BaseRecipe) -> Data:
    """Images uint8 (N, 3, 32, 32), labels (N,)."""
    return cifar10.load(source)


def batches(split: Split, recipe: Recipe, epoch: EpochShard) -> Iterable[Split]:
    """Shuffled batches from memory, with alternating flip: every other image is flipped, in the next epoch the others.

    So two epochs contain every image and its horizontal flip once; random flips would repeat half of the images.
    (Jordan 2024, arXiv:2404.00498, section 3.6)
    """
    images, flipped = split.inputs.clone(), slice(epoch.number % 2, None, 2)
    images[flipped] = images[flipped].flip(3)
    low_res = epoch.number < int(recipe.low_res_epochs * recipe.epochs)
    side = recipe.low_res_size if low_res else images.shape[-1]
    return shuffled_batches(ResizedSplit(images, split.targets, side), recipe.batch_size, epoch)


# --- Model ------------------------------------------------------------------------------------------------------------


def model(recipe: Recipe, info: DataInfo, train: Split | None = None, network: nn.Module | None = None) -> nn.Module:
    """Float images (N, 3, 32, 32) from 0 to 1 -> logits (N, num_classes)."""
    if network is None:
        network = ConvNet(recipe.whitening_filters, recipe.channels, recipe.hidden, len(info.classes))
        if train is not None:
            whiten(network.white, to_float(train.inputs[:5000]))
    elif train is not None and recipe.low_res_epochs:
        classification.check_sizes(network, IMAGE_SIZE, recipe.low_res_size, info)
    return network.to(memory_format=torch.channels_last)  # 1.5 times as fast on the CPU


def check_architecture(model: nn.Module, info: DataInfo) -> list[str]:
    """Six convolutions, three fully connected layers, batch norm, max pooling, ReLU, dropout, and nothing else."""
    counts = classification.count_operations(model, (3, 32, 32), info)
    kinds = ("convolution", "fully connected", "batch norm", "max pooling", "ReLU", "dropout")
    violations = exactly(counts, convolution=6, fully_connected=3) + at_least_one(counts, "batch norm", "max pooling")
    return violations + nothing_but(counts, *kinds)


# --- Training loss ----------------------------------------------------------------------------------------------------


def training_loss(model: nn.Module, batch: ResizedSplit, recipe: Recipe) -> dict[str, Tensor]:
    """Cross-entropy on translated images with cutout, at low resolution in the first epochs."""
    images = to_float(cutout(random_translate(batch.inputs, recipe.shift), recipe.cutout))
    if batch.side < images.shape[-1]:
        images = F.interpolate(images, (batch.side, batch.side), mode="bilinear", antialias=True)
    images = images.contiguous(memory_format=torch.channels_last)
    return {"loss": F.cross_entropy(model(images), batch.targets, label_smoothing=recipe.label_smoothing)}


# --- Evaluate ---------------------------------------------------------------------------------------------------------


def evaluate(model: nn.Module, data: Data, split: str, recipe: Recipe) -> dict[str, float]:
    """Accuracy and cross-entropy, with test-time augmentation."""
    return classification.evaluate(TTA(model, recipe.tta), getattr(data, split))


# --- Predict ----------------------------------------------------------------------------------------------------------


def predict(
    model: nn.Module, inputs: Sequence[ImageInput], recipe: Recipe, info: DataInfo, batch_size: int = 32
) -> list[Classification | Exception]:
    """Class probabilities of images of any size and shape."""
    return classification.predict(TTA(model, recipe.tta), inputs, prepare_cifar_image, info.classes, batch_size)


def onnx_graph(model: nn.Module, recipe: Recipe, info: DataInfo) -> OnnxGraph:
    """What `export` writes: the network, without the test-time augmentation."""
    return classification.onnx_graph(model, (3, 32, 32), info, PREPROCESSING, TTA_IN_WORDS[recipe.tta])


# --- Plots ------------------------------------------------------------------------------------------------------------


def plot_validation(model: nn.Module, data: Data, recipe: Recipe, folder: Path) -> None:
    """confusion.png, mistakes.png, filters.png."""
    from decathlon.evaluation import plots

    classification.plot_validation(TTA(model, recipe.tta), data, folder)
    plots.filters(model, folder / "filters.png")
