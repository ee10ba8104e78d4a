"""Faster R-CNN (Ren et al. 2015, arXiv:1506.01497) as torchvision builds it, for any classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from torchvision.models import MobileNet_V3_Large_Weights
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection import FasterRCNN_MobileNet_V3_Large_320_FPN_Weights as Weights
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import mobilenet_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

from decathlon.models.backbone import small_backbone
from decathlon.pretrained import fetched, norm, start

RATIOS = (0.5, 1.0, 2.0)  # height by width of an anchor
LEVELS = 3  # of the pyramid
POOLED = 7  # side of what is cut out of the pyramid for a region
# Tensors with rows for classes: scores one after the other, and four offsets of the box for each class.
HEADS = {
    "roi_heads.box_predictor.cls_score.weight": 1,
    "roi_heads.box_predictor.cls_score.bias": 1,
    "roi_heads.box_predictor.bbox_pred.weight": -4,
    "roi_heads.box_predictor.bbox_pred.bias": -4,
}


def faster_rcnn(
    classes: int, anchors: tuple[int, ...], norms: Literal["batch", "frozen", "group"], trainable: int, **options: Any
) -> FasterRCNN:
    """What `torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn` builds.

    Args:
        classes: Without the background.
        anchors: Their sides in pixels of the scaled picture, the same on all levels of the pyramid.
        norms: Of the backbone.
        trainable: Stages of the backbone that are trained, from its end: 0 to 6.
        options: Of `torchvision.models.detection.FasterRCNN`.

    Returns:
        In training pictures (list of float (3, H, W) from 0 to 1) and targets -> losses, else pictures -> detections.
    """
    backbone = mobilenet_backbone(
        backbone_name="mobilenet_v3_large", weights=None, fpn=True, norm_layer=norm(norms), trainable_layers=trainable
    )
    generator = AnchorGenerator((anchors,) * LEVELS, (RATIOS,) * LEVELS)
    return FasterRCNN(backbone, classes + 1, rpn_anchor_generator=generator, **options)


def small_faster_rcnn(
    classes: int, anchors: tuple[int, ...], channels: tuple[int, ...], width: int, **options: Any
) -> FasterRCNN:
    """The same detector on a small backbone, for the sample.

    Args:
        classes: Without the background.
        anchors: Sides on the finest level of the pyramid; they double from level to level.
        channels: Filters of the backbone's stages; the pyramid has as many as the second to last.
        width: Of the two fully connected layers that look at a region.
        options: Of `torchvision.models.detection.FasterRCNN`.
    """
    pyramid = channels[-2]
    sides = tuple(tuple(side * 2**level for side in anchors) for level in range(LEVELS))
    return FasterRCNN(
        small_backbone(channels, pyramid),
        rpn_anchor_generator=AnchorGenerator(sides, (RATIOS,) * LEVELS),
        box_roi_pool=MultiScaleRoIAlign(["0", "1"], POOLED, 2),
        box_head=TwoMLPHead(pyramid * POOLED**2, width),
        box_predictor=FastRCNNPredictor(width, classes + 1),
        **options,
    )


def pretrain(model: FasterRCNN, weights: str, classes: Sequence[str], build: Callable[[int], FasterRCNN]) -> None:
    """Begin with the weights that `weights` names: `coco`, `imagenet`, or a file.

    Raises:
        ConnectionError, FileNotFoundError, ValueError: As `fetched` and `start`.
    """
    state = fetched(weights, Weights.COCO_V1, MobileNet_V3_Large_Weights.IMAGENET1K_V1)
    start(model, state, build, HEADS, classes, Weights.COCO_V1.meta["categories"])
