"""`cifar10-skip`: small RGB images of ten classes, by convolution blocks with skip connections.

Network   convolutions, two blocks with a skip connection, batch norm, max pooling, dropout (after He et al. 2016)
Expected  87.63 ± 0.08 % on the test split of cifar10-jpeg (3 seeds)
Time      380 s of training on two cores of an AMD EPYC; validation reaches the bar, 80 %, after 203 s
Command   decathlon train cifar10-skip
More      docs/tasks/cifar10-skip.md
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
from decathlon.evaluation.architecture import at_least_one
from decathlon.evaluation.classification import TTA, TTA_IN_WORDS, TTAKind
from decathlon.evaluation.onnx_graph import OnnxGraph
from decathlon.evaluation.predictions import Classification
from decathlon.models.skipnet import SkipNet
from decathlon.models.whitening import whiten
from decathlon.tasks.base import Spec
from decathlon.tasks.recipe import Optimizer
from decathlon.tasks.recipe import Recipe as BaseRecipe

SPEC = Spec(
    id="cifar10-skip",
    dataset="cifar10",
    network="convolution blocks with skip connections, batch norm, ReLU, max pooling, dropout",
    bar=0.80,
)

# --- Recipe -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """The hyperparameters of `cifar10-skip`."""

    may_be_zero = ("seed", "shift", "cutout", "low_res_epochs")

    whitening_filters: int = 24
    """Filters of the first convolution, initialised to whiten 2×2 patches of the images; at most 24."""
    channels: tuple[int, int, int] = (64, 128, 256)
    """Filters of the three stages."""
    dropout: float = 0.1
    """Dropout probability before the last layer."""
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
    epochs: int = 8
    batch_size: int = 500
    optimizer: Optimizer = field(default_factory=lambda: Optimizer("muon", lr=0.12, momentum=0.6))

    def __post_init__(self) -> None:
        super().__post_init__()
        require("--label-smoothing", self.label_smoothing < 1, "below 1")
        require("--dropout", self.dropout < 1, "below 1")
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
    optimizer = replace(recipe().optimizer, lr=0.06)
    return replace(
        recipe(), channels=(128, 384, 512), epochs=30, shift=3, cutout=10, optimizer=optimizer, tta="flip+shift"
    )


def sample_recipe() -> Recipe:
    """The recipe for the sample: a narrower network, smaller batches."""
    return replace(recipe(), channels=(32, 64, 64), batch_size=100, low_res_epochs=0.0, epochs=8)


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
        network = SkipNet(recipe.whitening_filters, recipe.channels, recipe.dropout, len(info.classes))
        if train is not None:
            whiten(network.white, to_float(train.inputs[:5000]))
    elif train is not None and recipe.low_res_epochs:
        classification.check_sizes(network, IMAGE_SIZE, recipe.low_res_size, info)
    return network.to(memory_format=torch.channels_last)  # 1.5 times as fast on the CPU


def check_architecture(model: nn.Module, info: DataInfo) -> list[str]:
    """Convolutions, batch norm, ReLU, max pooling, dropout, and a skip connection: addition or concatenation."""
    counts = classification.count_operations(model, (3, 32, 32), info)
    violations = at_least_one(counts, "convolution", "batch norm", "ReLU", "max pooling", "dropout")
    violations += ["it has 1 convolution, and nothing to skip"] if counts["convolution"] == 1 else []
    return violations + ([] if counts["addition"] or counts["concatenation"] else ["it has no skip connection"])


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
    """confusion.png, mistakes.png, filters.png, and attention.png: LayerCAM of some images."""
    from decathlon.evaluation import plots

    classification.plot_validation(TTA(model, recipe.tta), data, folder)
    plots.filters(model, folder / "filters.png")
    if isinstance(model, SkipNet):
        examples, classes = data.validation[:12], [plots.label(name) for name in data.info.classes]
        predicted = classification.compute_logits(TTA(model, recipe.tta), examples.inputs).argmax(1)
        heat_maps = layer_cam(model, examples.inputs, predicted)
        pairs = [(classes[p], classes[t]) for p, t in zip(predicted, examples.targets, strict=True)]
        titles = [name if name == true else f"{name} (true: {true})" for name, true in pairs]
        plots.overlays(examples.inputs, heat_maps, titles, folder / "attention.png", "LayerCAM of the predicted class")


def layer_cam(model: SkipNet, images: Tensor, labels: Tensor) -> Tensor:
    """LayerCAM (Jiang et al. 2021, IEEE Transactions on Image Processing 30): the regions that support a class.

    Each activation is weighted by its own gradient, where that is positive. Grad-CAM has one weight per feature map,
    which is too coarse for a layer this far from the output.

    Args:
        model: In evaluation mode.
        images: uint8 (N, 3, H, W).
        labels: int64 (N,), the class to explain for each image.

    Returns:
        float (N, H, W) from 0 to 1.
    """
    with torch.enable_grad():
        maps = model.maps(to_float(images)).detach().requires_grad_()  # (N, 128, 7, 7)
        logits = model.classify(maps).gather(1, labels[:, None])  # (N, num_classes) -> (N, 1)
        (gradient,) = torch.autograd.grad(logits.sum(), maps)
    heat = (gradient.relu() * maps).sum(1, keepdim=True)  # (N, 128, 7, 7) -> (N, 1, 7, 7)
    heat = F.interpolate(heat.detach(), images.shape[2:], mode="bilinear")[:, 0]  # (N, 1, 7, 7) -> (N, 32, 32)
    return heat / heat.amax((1, 2), keepdim=True).clamp(min=1e-6)
