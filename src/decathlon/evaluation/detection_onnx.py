"""ONNX export of the detectors: for one input size, to which images are letterboxed."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from decathlon.data.base import DataInfo
from decathlon.data.transforms.detection import scaled_size
from decathlon.evaluation.onnx_graph import OnnxGraph

STRIDE = 32  # an image's sides must be multiples of it for the detectors not to pad it
NMS_IOU = 0.7  # from which of two boxes, also of different classes, only that of the higher score is shown


def letterbox(image: Tensor, shorter: int, side: int, fill: list[float]) -> tuple[Tensor, tuple[int, int]]:
    """Put an image into the upper left corner of a square, scaled as the detectors scale it, but so that it fits.

    Args:
        image: Float (3, H, W) from 0 to 1.
        shorter: Pixels to which its shorter side is scaled, unless the longer side would have more than `side`.
        side: Of the square.
        fill: Colour of the padding: the detector's mean, which becomes 0 once normalised, like the detector's padding.

    Returns:
        Float (1, 3, side, side), and the height and width of the image in it.
    """
    size = scaled_size(image.shape[1], image.shape[2], (shorter, side))
    canvas = torch.tensor(fill).view(1, 3, 1, 1).repeat(1, 1, side, side)
    canvas[..., : size[0], : size[1]] = F.interpolate(image[None], size, mode="bilinear")
    return canvas, size


class FixedSizeDetector(nn.Module):
    """A detector for squares of one size that are neither scaled nor padded."""

    def __init__(self, model: nn.Module, side: int) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).eval()
        if isinstance(transform := getattr(self.model, "transform", None), GeneralizedRCNNTransform):
            transform.fixed_size = (side, side)
        if isinstance(heads := getattr(self.model, "roi_heads", None), RoIHeads):
            heads.box_coder.decode = partial(decode_boxes, heads.box_coder)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Float (1, 3, side, side) -> boxes (M, 4), labels (M,), scores (M,)."""
        (output,) = self.model([image[0]])
        return output["boxes"], output["labels"], output["scores"]


def decode_boxes(coder: Any, codes: Tensor, proposals: list[Tensor]) -> Tensor:
    """As torchvision's `BoxCoder.decode`, boxes (M, classes, 4); a trace of this version works for zero proposals, too.

    Args:
        coder: The coder.
        codes: Offsets (M, classes · 4).
        proposals: The boxes that the offsets are relative to, a tensor for each image; M in all.
    """
    return coder.decode_single(codes, torch.cat(proposals)).unflatten(1, (int(codes.shape[1]) // 4, 4))


def onnx_graph(model: nn.Module, size: tuple[int, int, int], threshold: float, info: DataInfo) -> OnnxGraph:
    """A detector for one input size: a trace of torchvision's detectors works only at the size it was traced with.

    Args:
        model: The detector.
        size: Pixels to which it scales the shorter side, the maximum of the longer one, and that before it scales.
        threshold: Score from which `predict` reports an object.
        info: Of the data.
    """
    # Images of up to 4:3, as most are, keep the scale that the detector was trained at; longer ones are scaled down.
    side = -(-min(size[1], size[0] * 4 // 3) // STRIDE) * STRIDE
    fill = list(getattr(getattr(model, "transform", None), "image_mean", [0.5] * 3))
    metadata = {
        "preprocessing": f"upright (EXIF), RGB, transparency on white; longer side at most {size[2]} (bicubic, "
        f"antialiased); divided by 255; shorter side scaled to {size[0]} (bilinear), less where the longer one would "
        f"have more than {side}; put into the upper left corner of a {side}×{side} square that is filled with "
        "input.pad_value; the graph normalises",
        "postprocessing": "boxes (left, top, right, bottom) scaled back and clipped to the image; scores from "
        f"{threshold}; of boxes with an IoU of {NMS_IOU} or more that of the highest score",
        "labels": ["(background)", *info.classes],
        "input": {
            **{"layout": "NCHW", "colours": "RGB", "size": [side, side], "scale": 1 / 255, "mean": [0.0], "std": [1.0]},
            **{"min_size": size[0], "pad_value": fill, "threshold": threshold, "nms_iou": NMS_IOU},
        },
    }
    return OnnxGraph(
        FixedSizeDetector(model, side),
        torch.rand(1, 3, side, side),
        "images",
        ("boxes", "labels", "scores"),
        {},
        metadata,
    )
