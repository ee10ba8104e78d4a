"""A small backbone with a feature pyramid, for small pictures of simple things: the samples of the detectors."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool


def small_backbone(channels: tuple[int, ...], pyramid: int) -> BackboneWithFPN:
    """Convolutions 3×3 with batch norm and ReLU, one before and two in each stage; each stage halves the picture.

    Args:
        channels: Filters of the stages. The pyramid stands on the last two.
        pyramid: Filters of each level of the pyramid (Lin et al. 2017, Feature pyramid networks, section 3).

    Returns:
        Float pictures (N, 3, H, W) -> levels `0`, `1` and `pool`, each (N, pyramid, h, w), every one half of the last.
    """
    stages = OrderedDict[str, nn.Module]()
    for number, (before, after) in enumerate(zip((3, *channels), channels, strict=False)):
        more = _convolution(after, after, 1) if number else []
        stages[f"stage{number}"] = nn.Sequential(*_convolution(before, after, 2), *more)
    last = len(channels) - 1
    levels = {f"stage{last - 1}": "0", f"stage{last}": "1"}
    return BackboneWithFPN(nn.Sequential(stages), levels, list(channels[-2:]), pyramid, extra_blocks=LastLevelMaxPool())


def _convolution(before: int, after: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
