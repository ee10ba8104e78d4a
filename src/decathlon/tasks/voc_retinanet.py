"""`voc-retinanet`: find things of twenty classes in photos, in one stage: every place says what is there, and where.

Network   RetinaNet, ResNet50 backbone with feature pyramid, its head for the data's classes (after Lin et al. 2017)
Expected  from scratch at 128 pixels, 10 epochs: map 1.77 %, map_50 4.7 % on voc-3737 (1 run); at 320 not measured
Time      94 min for those on one core; minutes for the sample, map_50 83 % after 10 epochs (1 run)
Command   decathlon train voc-retinanet
More      docs/tasks/voc-retinanet.md
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.retinanet import RetinaNetClassificationHead

from decathlon import boxes, detection
from decathlon.data import Data, Epoch, Source, Split, voc
from decathlon.models.retinanet import pretrain, retinanet, small_retinanet
from decathlon.portable import Graph
from decathlon.recipe import Card, Optimizer, require
from decathlon.recipe import Recipe as BaseRecipe

CARD = Card(
    id="voc-retinanet",
    dataset="voc",
    network="RetinaNet, ResNet50 FPN, RetinaNetClassificationHead for the data's classes",
    metric="map",
)

# --- Recipe -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """How `voc-retinanet` is trained."""

    may_be_zero: ClassVar[tuple[str, ...]] = ("seed", "workers", "trainable")

    weights: str = "none"
    """Pretrained weights to begin with: coco (all of it), imagenet (its backbone), none, or a file of either."""
    backbone: Literal["resnet50", "small"] = "resnet50"
    """small is for the sample, and breaks the card's promise elsewhere."""
    channels: tuple[int, int, int, int] = (16, 32, 64, 96)
    """Filters of the small backbone's stages."""
    norm: Literal["batch", "frozen", "group"] = "batch"
    """Norm in the backbone; frozen keeps the statistics of pretrained weights, as torchvision does."""
    head_norm: Literal["none", "group"] = "group"
    """Norm in the heads; torchvision's weights for COCO are for none."""
    trainable: int = 5
    """Stages of the backbone that are trained, from its end: 5 is all of it."""
    min_size: int = 320
    """Pixels to which the shorter side of a picture is scaled."""
    max_size: int = 640
    """Most pixels of the longer side: a longer picture is scaled down further."""
    stored: int = 500
    """Longest side of the decoded pictures in the cache, pixels."""
    anchors: tuple[int, ...] = (32, 64, 128, 256, 512)
    """Smallest side of the anchors on each level of the pyramid, pixels of the scaled picture."""
    zoom: tuple[float, float] = (0.6, 1.25)
    """How small and how large, by the picture's size, the part may be that is shown in training."""
    threshold: float = 0.4
    """Score from which `predict` and the plots name a thing."""
    workers: int = 0
    """Processes that read ahead."""
    epochs: int = 15
    batch_size: int = 8
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer("adamw", lr=5e-4, weight_decay=0.01, warmup=0.1, clip=5.0)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require("--trainable", self.trainable <= 5, "at most 5: the backbone has no more stages")
        require("--zoom", 0 < self.zoom[0] <= 1 <= self.zoom[1], "one number up to 1, and one from 1")
        require("--threshold", self.threshold <= 1, "from 0 to 1")
        require("--max-size", self.max_size >= self.min_size, "at least --min-size")
        require("--norm", self.norm != "frozen" or self.weights != "none", "batch or group without --weights")
        require("--norm", self.norm != "group" or self.weights == "none", "batch or frozen with --weights")
        require("--head-norm", self.head_norm == "none" or self.weights != "coco", "none with --weights coco")
        require("--weights", self.backbone != "small" or self.weights == "none", "none with the small backbone")


def recipe() -> Recipe:
    """The recipe for PASCAL VOC."""
    return Recipe()


def sample_recipe() -> Recipe:
    """The recipe for the sample: a small backbone, small pictures."""
    return replace(
        recipe(),
        backbone="small",
        min_size=120,
        max_size=160,
        anchors=(16, 32, 64),
        zoom=(0.9, 1.0),
        epochs=10,
        batch_size=4,
        optimizer=Optimizer("adamw", lr=1e-3, weight_decay=0.01, warmup=0.1, clip=1.0),
    )


# --- Data -------------------------------------------------------------------------------------------------------------


def load(source: Source, recipe: BaseRecipe) -> Data:
    """Pictures uint8 (3, H, W) with boxes."""
    return voc.load(source, cast(Recipe, recipe).stored)


def batches(split: voc.Scenes, recipe: Recipe, epoch: Epoch) -> Iterable[boxes.Batch]:
    """Batches of pictures of about one shape, zoomed and mirrored at random."""
    size = recipe.min_size, recipe.max_size
    return boxes.batches(split, recipe.batch_size, epoch, size, recipe.zoom, recipe.workers)


# --- Model ------------------------------------------------------------------------------------------------------------


def model(
    recipe: Recipe, meta: dict[str, Any], train: Split | None = None, network: nn.Module | None = None
) -> nn.Module:
    """Lists of pictures, and targets in training -> detections, and in training losses."""

    def build(classes: int) -> RetinaNet:
        options = {"min_size": recipe.min_size, "max_size": recipe.max_size, "detections_per_img": 100}
        if recipe.backbone == "small":
            return small_retinanet(classes, recipe.anchors, recipe.channels, recipe.head_norm, **options)
        # As torchvision does for its own weights; batch norm that learns its statistics takes no 0.
        eps = 0.0 if recipe.weights == "coco" and recipe.norm == "frozen" else 1e-5
        return retinanet(classes, recipe.anchors, recipe.norm, recipe.head_norm, recipe.trainable, eps, **options)

    if network is None:
        network = made = build(len(meta["classes"]))
        if train is not None and recipe.weights != "none":
            pretrain(made, recipe.weights, meta["classes"], build)
    return detection.exact(network).to(memory_format=torch.channels_last)


def rules(model: nn.Module, meta: dict[str, Any]) -> list[str]:
    """RetinaNet with a pyramid and a head for the classes; the backbone, too, but for the sample."""
    detection.check(model, meta)
    if not isinstance(model, RetinaNet):
        return ["it is no RetinaNet of torchvision's"]
    broken, head = [], model.head.classification_head
    if not isinstance(head, RetinaNetClassificationHead) or head.num_classes != len(meta["classes"]) + 1:
        broken.append("its head is no RetinaNetClassificationHead for the data's classes and the background")
    if not isinstance(model.backbone, BackboneWithFPN):
        return [*broken, "its backbone has no feature pyramid"]
    if not meta["sample"] and detection.kernels(model.backbone.body) != detection.kernels(resnet50()):
        broken.append("its backbone is not ResNet50")
    return broken


# --- Step -------------------------------------------------------------------------------------------------------------


def step(model: nn.Module, batch: boxes.Batch, recipe: Recipe) -> dict[str, Tensor]:
    """The sum of two losses: focal loss of what is there, and the distance of the boxes from where it is."""
    return detection.step(model, batch)


# --- Evaluate ---------------------------------------------------------------------------------------------------------


def evaluate(model: nn.Module, data: Data, split: str, recipe: Recipe) -> dict[str, float]:
    """COCO's AP, as `map`, and VOC's of 2007."""
    return detection.evaluate(model, getattr(data, split), data.meta["classes"])


# --- Predict ----------------------------------------------------------------------------------------------------------


def predict(model: nn.Module, inputs: list[str], recipe: Recipe, meta: dict[str, Any]) -> list[dict[str, Any]]:
    """The things in photos of any size; a picture of each with their boxes is written."""
    return detection.predict(model, inputs, recipe.threshold, meta, CARD.id)


def graph(model: nn.Module, recipe: Recipe, meta: dict[str, Any]) -> Graph:
    """What `export` writes: the detector for one size of picture; `predict` fits pictures into it."""
    return detection.graph(model, (recipe.min_size, recipe.max_size), recipe.threshold, meta)


# --- Show -------------------------------------------------------------------------------------------------------------


def show(model: nn.Module, data: Data, recipe: Recipe, folder: Path) -> None:
    """boxes.png, precision.png, classes.png."""
    detection.show(model, data, recipe.threshold, folder)
