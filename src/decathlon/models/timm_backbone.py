"""Any timm model as the backbone of a detector, with a feature pyramid."""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, FeaturePyramidNetwork

TIMM = "timm/"  # prefix of the names of timm backbones


class TimmBackbone(nn.Module):
    """A timm model as feature extractor, with a feature pyramid on it (Lin et al. 2017, section 3).

    Args:
        name: Of a timm model that gives features at several strides, with or without `timm/` before it.
        strides: Strides of the levels of the pyramid.
        pyramid_channels: Channels of each level.
        norm: `frozen` keeps the statistics and weights of batch norm as they are (pretrained); `batch` trains them.
        trainable_layers: Stages (one per stride) that are trained, counted from the last; 5 or more is all of them.
        extra_blocks: Module that adds further levels.

    Raises:
        ValueError: timm has no such model, or it gives no features at these strides.
    """

    def __init__(
        self,
        name: str,
        strides: Sequence[int],
        pyramid_channels: int,
        norm: Literal["batch", "frozen"],
        trainable_layers: int,
        extra_blocks: ExtraFPNBlock,
    ) -> None:
        import timm  # takes a second, and most networks do not need it

        super().__init__()
        name = name.removeprefix(TIMM)
        available = feature_strides(name)
        if missing := [stride for stride in strides if stride not in available]:
            raise ValueError(f"--pyramid-strides: {name} has no features at stride {missing[0]}; it has {available}")
        indices = tuple(available.index(stride) for stride in strides)
        self.body: Any = timm.create_model(name, features_only=True, out_indices=indices)
        self.names = [str(level) for level in range(len(strides))]
        model: Any = self.body
        self.fpn: nn.Module = FeaturePyramidNetwork(model.feature_info.channels(), pyramid_channels, extra_blocks)
        self.out_channels, self.frozen = pyramid_channels, norm == "frozen"
        for parameter in self.frozen_parameters(trainable_layers):
            parameter.requires_grad_(False)

    def frozen_parameters(self, trainable_layers: int) -> list[nn.Parameter]:
        """Parameters of the stages that are not trained, and with frozen norms those of all norms."""
        named = dict(self.body.named_parameters())
        ends, is_stem = list[int](), False  # after how many parameters each stage ends
        for info in self.body.feature_info.info:
            stage = _flat(info["module"]) + "_"
            numbers = [number for number, name in enumerate(named, 1) if _flat(name).startswith(stage)]
            # A stage without parameters is an activation that ends the stem, or was cut off behind the pyramid's last.
            ends += [numbers[0] - 1, numbers[-1]] if is_stem and numbers else numbers[-1:]
            is_stem = not numbers
        count = ends[-trainable_layers - 1] if trainable_layers < len(ends) else 0
        frozen = list(named.values())[:count]
        if self.frozen:
            frozen += [p for m in self.body.modules() if isinstance(m, _BatchNorm) for p in m.parameters()]
        return frozen

    def train(self, mode: bool = True) -> TimmBackbone:
        """As `nn.Module.train`, but frozen norms stay in evaluation mode: one kernel each, unlike FrozenBatchNorm2d."""
        super().train(mode)
        if self.frozen:
            for module in self.body.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Float images (N, 3, H, W) -> levels of the pyramid, each (N, pyramid_channels, h, w), the finest first."""
        slow_depthwise = images.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        with DepthwiseInFp32() if slow_depthwise else nullcontext():
            features = self.body(images)
        return self.fpn(OrderedDict(zip(self.names, features, strict=True)))


class DepthwiseInFp32(TorchFunctionMode):
    """Depthwise convolutions in float32 under autocast: on a CPU bfloat16 gradients take two to ten times longer."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.conv2d or (kwargs or {}).get("groups", args[6] if len(args) > 6 else 1) == 1:
            return func(*args, **(kwargs or {}))
        with torch.autocast("cpu", enabled=False):
            output = func(args[0].float(), *args[1:], **(kwargs or {}))
        return output.to(torch.get_autocast_dtype("cpu"))


def feature_strides(name: str) -> list[int]:
    """The strides at which a timm model gives features.

    Raises:
        ValueError: There is no such model (the message names the most similar), or it has no features.
    """
    import timm

    if not timm.is_model(name.partition(".")[0]):
        near = difflib.get_close_matches(name, timm.list_models(), n=1, cutoff=0.3)
        raise ValueError(
            f"--backbone timm/{name}: timm has no such model" + (f"; did you mean {near[0]!r}?" if near else "")
        )
    try:
        model: Any = timm.create_model(name, features_only=True)
        return list(model.feature_info.reduction())
    except (RuntimeError, AttributeError, AssertionError, TypeError) as error:
        raise ValueError(f"--backbone timm/{name}: it gives no features at several strides: {error}") from None


def normalization(name: str) -> dict[str, list[float]]:
    """Mean and standard deviation of the image normalisation of a timm model's pretrained weights."""
    import timm

    config = timm.get_pretrained_cfg(name.removeprefix(TIMM))
    if config is None:
        return {}
    return {"image_mean": list(config.mean), "image_std": list(config.std)}


def _flat(name: str) -> str:
    """A parameter's name without dots: some timm feature extractors join module names by underscores."""
    return name.replace(".", "_")


def derived_anchors(strides: Sequence[int], anchor_scale: float, min_size: int) -> tuple[int, ...]:
    """The smallest anchor on each level: `anchor_scale` strides for a `min_size` of 320 pixels, else in proportion."""
    return tuple(max(1, round(stride * anchor_scale * min_size / 320)) for stride in strides)
