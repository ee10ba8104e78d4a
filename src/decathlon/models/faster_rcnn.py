"""Faster R-CNN (Ren et al. 2015, arXiv:1506.01497) as torchvision builds it, for any classes."""

from __future__ import annotations

from typing import Any, Literal

from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import mobilenet_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from decathlon.models.backbone import norm, small_backbone
from decathlon.models.timm_backbone import TimmBackbone, normalization

RATIOS = (0.5, 1.0, 2.0)  # aspect ratios (height by width) of the anchors
LEVELS = 3  # of the pyramid
POOLED = 7  # output size of RoI align
# Tensors with a row for each class (logits), or with four (box regression).
HEADS = {
    "roi_heads.box_predictor.cls_score.weight": 1,
    "roi_heads.box_predictor.cls_score.bias": 1,
    "roi_heads.box_predictor.bbox_pred.weight": -4,
    "roi_heads.box_predictor.bbox_pred.bias": -4,
}


def faster_rcnn(
    classes: int,
    anchors: tuple[int, ...],
    norms: Literal["batch", "frozen", "group"],
    trainable_layers: int,
    **options: Any,
) -> FasterRCNN:
    """Build torchvision's `fasterrcnn_mobilenet_v3_large_320_fpn`.

    Args:
        classes: Without the background.
        anchors: Their sides in pixels of the scaled image, the same on all levels of the pyramid.
        norms: Of the backbone.
        trainable_layers: Stages of the backbone that are trained, from the last: 0 to 6.
        options: Of `torchvision.models.detection.FasterRCNN`.

    Returns:
        In training images (list of float (3, H, W) from 0 to 1) and targets -> losses, else images -> detections.
    """
    backbone = mobilenet_backbone(
        backbone_name="mobilenet_v3_large",
        weights=None,
        fpn=True,
        norm_layer=norm(norms),
        trainable_layers=trainable_layers,
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
        channels: Output channels of the backbone's stages; the pyramid has those of the second to last.
        width: Width of the two fully connected layers of the RoI head.
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


def timm_faster_rcnn(
    classes: int,
    backbone: str,
    strides: tuple[int, ...],
    anchors: tuple[int, ...],
    pyramid_channels: int,
    representation_size: int,
    norms: Literal["batch", "frozen"],
    trainable_layers: int,
    **options: Any,
) -> FasterRCNN:
    """The same detector on a timm backbone: a pyramid on some of its strides, and a level pooled from the last.

    Args:
        classes: Without the background.
        backbone: `timm/NAME`.
        strides: Of the levels of the pyramid.
        anchors: The side on each level, the pooled level included.
        pyramid_channels: Channels of each level.
        representation_size: Width of the two fully connected layers of the RoI head.
        norms: As in `TimmBackbone`.
        trainable_layers: As in `TimmBackbone`.
        options: Of `torchvision.models.detection.FasterRCNN`.
    """
    body = TimmBackbone(backbone, strides, pyramid_channels, norms, trainable_layers, LastLevelMaxPool())
    return FasterRCNN(
        body,
        rpn_anchor_generator=AnchorGenerator(tuple((side,) for side in anchors), (RATIOS,) * len(anchors)),
        box_roi_pool=MultiScaleRoIAlign(body.names, POOLED, 2),
        box_head=TwoMLPHead(pyramid_channels * POOLED**2, representation_size),
        box_predictor=FastRCNNPredictor(representation_size, classes + 1),
        **(normalization(backbone) | options),
    )
