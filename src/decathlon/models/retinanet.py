"""RetinaNet (Lin et al. 2017, arXiv:1708.02002) as torchvision builds it, with a head for any classes."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.retinanet import RetinaNetClassificationHead, RetinaNetHead
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from decathlon.models.backbone import norm, small_backbone
from decathlon.models.timm_backbone import TimmBackbone, normalization

RATIOS = (0.5, 1.0, 2.0)  # aspect ratios (height by width) of the anchors
SCALES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))  # of the sides on each level (section 4, "Anchors")
PRIOR = 0.01  # initial foreground probability of every anchor, so that background does not dominate (section 4.1)
ANCHORS = len(RATIOS) * len(SCALES)  # at each position
# Tensors with rows for classes: all classes for each anchor.
HEADS = {"head.classification_head.cls_logits.weight": ANCHORS, "head.classification_head.cls_logits.bias": ANCHORS}


def retinanet(
    classes: int,
    anchors: tuple[int, ...],
    norms: Literal["batch", "frozen", "group"],
    head_norm: Literal["none", "group"],
    trainable_layers: int,
    eps: float = 1e-5,
    **options: Any,
) -> RetinaNet:
    """Build torchvision's `retinanet_resnet50_fpn`, its head replaced by a head for the data's classes.

    Args:
        classes: Without the background.
        anchors: Their smallest side on each of the five levels of the pyramid, in pixels of the scaled image.
        norms: Of the backbone.
        head_norm: Of the heads. torchvision's first RetinaNet has none; its second has group norm.
        trainable_layers: Stages of the backbone that are trained, from the last: 0 to 5.
        eps: Of the backbone's norms. With its weights for COCO torchvision has 0.
        options: Of `torchvision.models.detection.RetinaNet`.

    Returns:
        In training images (list of float (3, H, W) from 0 to 1) and targets -> losses, else images -> detections.
    """
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        norm_layer=norm(norms, eps),
        trainable_layers=trainable_layers,
        returned_layers=[2, 3, 4],  # C2 would add most of the anchors, and few detections
        extra_blocks=LastLevelP6P7(256, 256),
    )
    return _with_head(backbone, classes, anchors, head_norm, options)


def small_retinanet(
    classes: int,
    anchors: tuple[int, ...],
    channels: tuple[int, ...],
    head_norm: Literal["none", "group"],
    **options: Any,
) -> RetinaNet:
    """The same detector on a small backbone, for the sample: a pyramid of three levels.

    Args:
        classes: Without the background.
        anchors: Their smallest side on each level.
        channels: Output channels of the backbone's stages; pyramid and heads have those of the second to last.
        head_norm: As in `retinanet`.
        options: Of `torchvision.models.detection.RetinaNet`.
    """
    return _with_head(small_backbone(channels, channels[-2]), classes, anchors, head_norm, options)


def timm_retinanet(
    classes: int,
    backbone: str,
    strides: tuple[int, ...],
    anchors: tuple[int, ...],
    pyramid_channels: int,
    head_norm: Literal["none", "group"],
    norms: Literal["batch", "frozen"],
    trainable_layers: int,
    **options: Any,
) -> RetinaNet:
    """The same detector on a timm backbone: a pyramid on some of its strides, and two levels after the last.

    Args:
        classes: Without the background.
        backbone: `timm/NAME`.
        strides: Of the levels of the pyramid.
        anchors: The smallest side on each level, the last two included.
        pyramid_channels: Channels of each level, and of the heads.
        head_norm: As in `retinanet`.
        norms: As in `TimmBackbone`.
        trainable_layers: As in `TimmBackbone`.
        options: Of `torchvision.models.detection.RetinaNet`.
    """
    extra_blocks = LastLevelP6P7(pyramid_channels, pyramid_channels)
    body = TimmBackbone(backbone, strides, pyramid_channels, norms, trainable_layers, extra_blocks)
    return _with_head(body, classes, anchors, head_norm, normalization(backbone) | options)


def _with_head(
    backbone: nn.Module, classes: int, anchors: tuple[int, ...], head_norm: str, options: dict[str, Any]
) -> RetinaNet:
    sides = tuple(tuple(int(side * scale) for scale in SCALES) for side in anchors)
    generator, layer = AnchorGenerator(sides, (RATIOS,) * len(sides)), norm("group") if head_norm == "group" else None
    channels = backbone.out_channels
    head = RetinaNetHead(channels, ANCHORS, classes + 1, norm_layer=layer)
    head.classification_head = RetinaNetClassificationHead(channels, ANCHORS, classes + 1, PRIOR, layer)
    return RetinaNet(backbone, classes + 1, anchor_generator=generator, head=head, **options)
