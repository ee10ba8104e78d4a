"""`voc-faster-rcnn`: find things of twenty classes in photos, in two stages: where something is, then what it is.

Network   Faster R-CNN, MobileNetV3-Large backbone with a feature pyramid, 320 pixels (after Ren et al. 2015)
Expected  from scratch at 128 pixels, 15 epochs: map 3.96 %, map_50 9.4 % on voc-3737 (1 run); at 320 not measured
Time      87 min for those on one core; a minute or two for the sample, map_50 95 to 97 % (2 runs)
Command   decathlon train voc-faster-rcnn
More      docs/tasks/voc-faster-rcnn.md
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_large
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor

from decathlon import boxes, detection
from decathlon.data import Data, Epoch, Source, Split, voc
from decathlon.models.faster_rcnn import faster_rcnn, pretrain, small_faster_rcnn
from decathlon.portable import Graph
from decathlon.recipe import Card, Optimizer, require
from decathlon.recipe import Recipe as BaseRecipe

CARD = Card(
    id="voc-faster-rcnn",
    dataset="voc",
    network="Faster R-CNN, MobileNetV3-Large 320 FPN",
    metric="map",
)

# --- Recipe -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """How `voc-faster-rcnn` is trained."""

    may_be_zero: ClassVar[tuple[str, ...]] = ("seed", "workers", "trainable")

    weights: str = "none"
    """Pretrained weights to begin with: coco (all of it), imagenet (its backbone), none, or a file of either."""
    backbone: Literal["mobilenet_v3_large", "small"] = "mobilenet_v3_large"
    """small is for the sample, and breaks the card's promise elsewhere."""
    channels: tuple[int, int, int, int] = (16, 32, 64, 96)
    """Filters of the small backbone's stages."""
    width: int = 256
    """Of the layers that look at a region, on the small backbone."""
    norm: Literal["batch", "frozen", "group"] = "batch"
    """Norm in the backbone; frozen keeps the statistics of pretrained weights, as torchvision does."""
    trainable: int = 6
    """Stages of the backbone that are trained, from its end: 6 is all of it."""
    min_size: int = 320
    """Pixels to which the shorter side of a picture is scaled."""
    max_size: int = 640
    """Most pixels of the longer side: a longer picture is scaled down further."""
    stored: int = 500
    """Longest side of the decoded pictures in the cache, pixels."""
    anchors: tuple[int, ...] = (32, 64, 128, 256, 512)
    """Sides of the anchors, pixels of the scaled picture; on the small backbone they double from level to level."""
    proposals: int = 300
    """Regions of a picture that the first stage hands over in training."""
    regions: int = 64
    """Of these, how many are trained on: torchvision's 512 are most of the work."""
    zoom: tuple[float, float] = (0.6, 1.25)
    """How small and how large, by the picture's size, the part may be that is shown in training."""
    threshold: float = 0.5
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
        require("--trainable", self.trainable <= 6, "at most 6: the backbone has no more stages")
        require("--zoom", 0 < self.zoom[0] <= 1 <= self.zoom[1], "one number up to 1, and one from 1")
        require("--threshold", self.threshold <= 1, "from 0 to 1")
        require("--max-size", self.max_size >= self.min_size, "at least --min-size")
        require("--norm", self.norm != "frozen" or self.weights != "none", "batch or group without --weights")
        require("--norm", self.norm != "group" or self.weights == "none", "batch or frozen with --weights")
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
        anchors=(16, 22),
        proposals=100,
        regions=32,
        zoom=(0.9, 1.0),
        epochs=6,
        batch_size=4,
        optimizer=Optimizer("adamw", lr=2e-3, weight_decay=0.01, warmup=0.1, clip=1.0),
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

    def build(classes: int) -> FasterRCNN:
        options = {
            "min_size": recipe.min_size,
            "max_size": recipe.max_size,
            "rpn_pre_nms_top_n_train": 2 * recipe.proposals,
            "rpn_post_nms_top_n_train": recipe.proposals,
            "rpn_pre_nms_top_n_test": 150,  # these three are torchvision's for 320 pixels
            "rpn_post_nms_top_n_test": 150,
            "rpn_score_thresh": 0.05,
            "box_batch_size_per_image": recipe.regions,
        }
        if recipe.backbone == "small":
            return small_faster_rcnn(classes, recipe.anchors, recipe.channels, recipe.width, **options)
        return faster_rcnn(classes, recipe.anchors, recipe.norm, recipe.trainable, **options)

    if network is None:
        network = made = build(len(meta["classes"]))
        if train is not None and recipe.weights != "none":
            pretrain(made, recipe.weights, meta["classes"], build)
    return detection.exact(network).to(memory_format=torch.channels_last)


def rules(model: nn.Module, meta: dict[str, Any]) -> list[str]:
    """Faster R-CNN with a pyramid and a predictor for the classes; the backbone, too, but for the sample."""
    detection.check(model, meta)
    if not isinstance(model, FasterRCNN):
        return ["it is no FasterRCNN of torchvision's"]
    broken, predictor = [], model.roi_heads.box_predictor
    if not isinstance(predictor, FastRCNNPredictor) or predictor.cls_score.out_features != len(meta["classes"]) + 1:
        broken.append("its predictor is no FastRCNNPredictor for the data's classes and the background")
    if not isinstance(model.backbone, BackboneWithFPN):
        return [*broken, "its backbone has no feature pyramid"]
    if not meta["sample"] and detection.kernels(model.backbone.body) != detection.kernels(
        mobilenet_v3_large().features
    ):
        broken.append("its backbone is not MobileNetV3-Large")
    return broken


# --- Step -------------------------------------------------------------------------------------------------------------


def step(model: nn.Module, batch: boxes.Batch, recipe: Recipe) -> dict[str, Tensor]:
    """The sum of four losses: is there something and where (first stage), what is it and where (second)."""
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
