"""`mnist-mlp`: handwritten digits with two fully connected layers.

Network   784 -> 1536 -> 10, ReLU between (Rumelhart, Hinton and Williams 1986)
Expected  99.28 ± 0.02 % on MNIST's test split (3 seeds)
Time      66 s of training on two cores of an AMD EPYC; validation reaches the bar, 98 %, after 12 s
Command   decathlon train mnist-mlp
More      docs/tasks/mnist-mlp.md
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from decathlon.data import mnist
from decathlon.data.base import Data, DataInfo, EpochShard, Source, Split, shuffled_batches
from decathlon.data.io.digit_image import PREPROCESSING, prepare_digit
from decathlon.data.io.images import ImageInput
from decathlon.data.transforms.augment import warp
from decathlon.errors import require
from decathlon.evaluation import classification
from decathlon.evaluation.architecture import at_least_one, exactly, nothing_but
from decathlon.evaluation.onnx_graph import OnnxGraph
from decathlon.evaluation.predictions import Classification
from decathlon.models.mlp import MLP
from decathlon.tasks.base import Spec
from decathlon.tasks.recipe import Optimizer
from decathlon.tasks.recipe import Recipe as BaseRecipe

SPEC = Spec(id="mnist-mlp", dataset="mnist", network="2 fully connected layers, ReLU", bar=0.98)

# --- Recipe -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """The hyperparameters of `mnist-mlp`."""

    hidden: int = 1536
    """Hidden units."""
    warp_groups: int = 8
    """Different distortions per batch: images of a group share one, for speed."""
    rotation: float = 8.0
    """Random rotation: maximum angle in degrees."""
    scale: float = 0.1
    """Random scaling of width and height, up to this fraction."""
    shear: float = 0.1
    """Random shear, up to this tangent of the angle."""
    shift: float = 1.0
    """Random translation: maximum shift in pixels."""
    elastic: float = 0.4
    """Standard deviation of the elastic distortion, pixels."""
    label_smoothing: float = 0.05
    """Label smoothing."""
    ema: float = 0.995
    epochs: int = 35
    batch_size: int = 512
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(lr=3e-3, weight_decay=2e-2))

    def __post_init__(self) -> None:
        super().__post_init__()
        require("--label-smoothing", self.label_smoothing < 1, "below 1")


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


def batches(split: Split, recipe: Recipe, epoch: EpochShard) -> Iterable[Split]:
    """Shuffled batches from memory."""
    return shuffled_batches(split, recipe.batch_size, epoch)


# --- Model ------------------------------------------------------------------------------------------------------------


def model(recipe: Recipe, info: DataInfo, train: Split | None = None, network: nn.Module | None = None) -> nn.Module:
    """Float images (N, 1, 28, 28) from 0 to 1 -> logits (N, num_classes); `network` is the user's own (`--model`)."""
    return MLP(28 * 28, recipe.hidden, len(info.classes)) if network is None else network


def check_architecture(model: nn.Module, info: DataInfo) -> list[str]:
    """Two fully connected layers with ReLU, and nothing else but dropout, which acts in training only."""
    counts = classification.count_operations(model, (1, 28, 28), info)
    violations = exactly(counts, fully_connected=2) + at_least_one(counts, "ReLU")
    return violations + nothing_but(counts, "fully connected", "ReLU", "dropout")


# --- Training loss ----------------------------------------------------------------------------------------------------


def training_loss(model: nn.Module, batch: Split, recipe: Recipe) -> dict[str, Tensor]:
    """Cross-entropy on distorted images."""
    images = warp(
        batch.inputs, recipe.warp_groups, recipe.rotation, recipe.scale, recipe.shear, recipe.shift, recipe.elastic
    )
    return {"loss": F.cross_entropy(model(images), batch.targets, label_smoothing=recipe.label_smoothing)}


# --- Evaluate ---------------------------------------------------------------------------------------------------------


def evaluate(model: nn.Module, data: Data, split: str, recipe: Recipe) -> dict[str, float]:
    """Accuracy and cross-entropy."""
    return classification.evaluate(model, getattr(data, split))


# --- Predict ----------------------------------------------------------------------------------------------------------


def predict(
    model: nn.Module, inputs: Sequence[ImageInput], recipe: Recipe, info: DataInfo, batch_size: int = 32
) -> list[Classification | Exception]:
    """Class probabilities of images of a digit: any size, RGB or grey."""
    return classification.predict(model, inputs, prepare_digit, info.classes, batch_size)


def onnx_graph(model: nn.Module, recipe: Recipe, info: DataInfo) -> OnnxGraph:
    """What `export` writes: the network."""
    return classification.onnx_graph(model, (1, 28, 28), info, PREPROCESSING)


# --- Plots ------------------------------------------------------------------------------------------------------------


def plot_validation(model: nn.Module, data: Data, recipe: Recipe, folder: Path) -> None:
    """confusion.png, mistakes.png."""
    classification.plot_validation(model, data, folder)
