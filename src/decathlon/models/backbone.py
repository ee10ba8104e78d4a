"""A small backbone with a feature pyramid, for the detectors' sample recipes, and the norm layers of backbones."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from torchvision.ops.misc import FrozenBatchNorm2d


def small_backbone(channels: tuple[int, ...], pyramid: int) -> BackboneWithFPN:
    """Stages of 3×3 convolutions with batch norm and ReLU, one in the first and two in the others; each has stride 2.

    Args:
        channels: Output channels of the stages. The pyramid is built on the last two.
        pyramid: Channels of each level of the pyramid (Lin et al. 2017, Feature pyramid networks, section 3).

    Returns:
        Float images (N, 3, H, W) -> levels `0`, `1` and `pool`, each (N, pyramid, h, w) at half the last resolution.
    """
    stages = OrderedDict[str, nn.Module]()
    for number, (before, after) in enumerate(zip((3, *channels), channels, strict=False)):
        second = _convolution(after, after, 1) if number else []
        stages[f"stage{number}"] = nn.Sequential(*_convolution(before, after, 2), *second)
    last = len(channels) - 1
    levels = {f"stage{last - 1}": "0", f"stage{last}": "1"}
    return BackboneWithFPN(nn.Sequential(stages), levels, list(channels[-2:]), pyramid, extra_blocks=LastLevelMaxPool())


def _convolution(before: int, after: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]


def norm(name: Literal["batch", "frozen", "group"], eps: float = 1e-5) -> Callable[..., nn.Module]:
    """A norm layer as a function of the channels; group norm has 16 channels a group where that divides them."""
    if name == "group":
        return lambda channels: nn.GroupNorm(max(1, channels // math.gcd(channels, 16)), channels)
    return partial(nn.BatchNorm2d if name == "batch" else FrozenBatchNorm2d, eps=eps)
