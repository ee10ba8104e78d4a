"""RetinaNet (Lin et al. 2017, arXiv:1708.02002) as torchvision builds it, with a head for any classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import nn
from torchvision.models import ResNet50_Weights
from torchvision.models.detection import RetinaNet
from torchvision.models.detection import RetinaNet_ResNet50_FPN_Weights as Weights
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.retinanet import RetinaNetClassificationHead, RetinaNetHead
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from decathlon.models.backbone import small_backbone
from decathlon.pretrained import fetched, norm, start

RATIOS = (0.5, 1.0, 2.0)  # height by width of an anchor
SCALES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))  # of the sides on each level (section 4, "Anchors")
PRIOR = 0.01  # the score with which every anchor begins, so that the many empty ones do not drown the few (section 4.1)
ANCHORS = len(RATIOS) * len(SCALES)  # at each place
# Tensors with rows for classes: for each anchor all classes.
HEADS = {"head.classification_head.cls_logits.weight": ANCHORS, "head.classification_head.cls_logits.bias": ANCHORS}


def retinanet(
    classes: int,
    anchors: tuple[int, ...],
    norms: Literal["batch", "frozen", "group"],
    head_norm: Literal["none", "group"],
    trainable: int,
    eps: float = 1e-5,
    **options: Any,
) -> RetinaNet:
    """What `torchvision.models.detection.retinanet_resnet50_fpn` builds, its head replaced by one for our classes.

    Args:
        classes: Without the background.
        anchors: Their smallest side on each of the five levels of the pyramid, in pixels of the scaled picture.
        norms: Of the backbone.
        head_norm: Of the heads. torchvision's first RetinaNet has none; its second has group norm.
        trainable: Stages of the backbone that are trained, from its end: 0 to 5.
        eps: Of the backbone's norms. With its weights for COCO torchvision has 0.
        options: Of `torchvision.models.detection.RetinaNet`.

    Returns:
        In training pictures (list of float (3, H, W) from 0 to 1) and targets -> losses, else pictures -> detections.
    """
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        norm_layer=norm(norms, eps),
        trainable_layers=trainable,
        returned_layers=[2, 3, 4],  # the level before them would have most of the anchors, and find little
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
        channels: Filters of the backbone's stages; the pyramid and the heads have as many as the second to last.
        head_norm: As in `retinanet`.
        options: Of `torchvision.models.detection.RetinaNet`.
    """
    return _with_head(small_backbone(channels, channels[-2]), classes, anchors, head_norm, options)


def _with_head(
    backbone: nn.Module, classes: int, anchors: tuple[int, ...], head_norm: str, options: dict[str, Any]
) -> RetinaNet:
    sides = tuple(tuple(int(side * scale) for scale in SCALES) for side in anchors)
    generator, layer = AnchorGenerator(sides, (RATIOS,) * len(sides)), norm("group") if head_norm == "group" else None
    filters = backbone.out_channels
    head = RetinaNetHead(filters, ANCHORS, classes + 1, norm_layer=layer)
    head.classification_head = RetinaNetClassificationHead(filters, ANCHORS, classes + 1, PRIOR, layer)
    return RetinaNet(backbone, classes + 1, anchor_generator=generator, head=head, **options)


def pretrain(model: RetinaNet, weights: str, classes: Sequence[str], build: Callable[[int], RetinaNet]) -> None:
    """Begin with the weights that `weights` names: `coco`, `imagenet`, or a file.

    Raises:
        ConnectionError, FileNotFoundError, ValueError: As `fetched` and `start`.
    """
    state = fetched(weights, Weights.COCO_V1, ResNet50_Weights.IMAGENET1K_V1)
    start(model, state, build, HEADS, classes, Weights.COCO_V1.meta["categories"])
