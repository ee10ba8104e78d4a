"""Segmentation: logits with test-time augmentation, masks at the image's own size, predictions, export."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from decathlon.data.base import DataInfo
from decathlon.data.io.images import ImageInput, input_name, load_image, to_rgb
from decathlon.data.pets import SegmentationSplit, resize
from decathlon.data.transforms.augment import to_float
from decathlon.evaluation import metrics
from decathlon.evaluation.examples import record_mask
from decathlon.evaluation.onnx_graph import OnnxGraph
from decathlon.evaluation.predictions import Segmentation, device_of, predict_in_batches

BATCH_SIZE = 32  # of evaluation: larger batches are no faster


def compute_logits(model: nn.Module, images: Tensor) -> Tensor:
    """The mean of the logits of each image and of its horizontal flip: uint8 (N, 3, S, S) -> float (N, 1, S, S)."""

    def flip_tta(batch: Tensor) -> Tensor:
        batch = to_float(batch).contiguous(memory_format=torch.channels_last)
        return (model(batch) + model(batch.flip(3)).flip(3)) / 2

    return metrics.outputs(flip_tta, images, BATCH_SIZE)


def resize_logits(logits: Tensor, height: int, width: int) -> Tensor:
    """The logits (1, S, S) of one image at its own size: (height, width)."""
    return F.interpolate(logits[None], (height, width), mode="bilinear")[0, 0]  # (1, 1, H, W) -> (H, W)


def predict_masks(logits: Tensor, images: SegmentationSplit) -> Iterator[tuple[Tensor, Tensor]]:
    """For each image, at its own size, the mask of its logits (N, 1, S, S), bool (H, W), and its true trimap."""
    for index, row in enumerate(logits.cpu()):
        trimap = images.trimap(index)
        resized = resize_logits(row, *trimap.shape)
        record_mask(resized, trimap != 2)  # the boundary counts as foreground
        yield resized > 0, trimap


@torch.no_grad()
def predict(
    model: nn.Module, inputs: Sequence[ImageInput], size: int, label: str, batch_size: int
) -> list[Segmentation | Exception]:
    """Segment images of any size and shape, a batch at a time.

    Args:
        model: Float images (N, 3, size, size) -> logits (N, 1, size, size).
        inputs: The images.
        size: To which they are stretched for the network, pixels.
        label: Name of the foreground class.
        batch_size: Images that go through the network at once.

    Returns:
        For each input its prediction, or the error of an input that cannot be read.
    """
    device = device_of(model)

    def read(value: ImageInput, index: int) -> tuple[str, Image.Image]:
        return input_name(value, index), to_rgb(load_image(value))

    def predict_batch(examples: list[tuple[str, Image.Image]]) -> list[Segmentation]:
        images = torch.stack([torch.from_numpy(resize(image, size).copy()) for _, image in examples])
        logits = compute_logits(model, images.to(device)).cpu()
        return [
            Segmentation(
                input=name,
                label=label,
                probability=resize_logits(row, image.height, image.width).sigmoid().numpy(),
                image=np.asarray(image),
            )
            for (name, image), row in zip(examples, logits, strict=True)
        ]

    return predict_in_batches(inputs, read, predict_batch, batch_size)


def onnx_graph(model: nn.Module, size: int, info: DataInfo) -> OnnxGraph:
    """A network from images (N, 3, size, size) to logits (N, 1, size, size), to be written as ONNX."""
    metadata = {
        "preprocessing": f"upright (EXIF), RGB, transparency on white; stretched to {size}×{size} (bilinear, "
        "antialiased); then divide by 255",
        "postprocessing": "mean of the logits of the image and of its horizontal flip, flipped back; resized to the "
        "image's size (bilinear); above 0 is pet, the sigmoid is its probability",
        "labels": info.classes,
        "input": {
            "layout": "NCHW",
            "colours": "RGB",
            "size": [size, size],
            "scale": 1 / 255,
            "mean": [0.0],
            "std": [1.0],
        },
    }
    return OnnxGraph(model, torch.rand(2, 3, size, size), "images", ("logits",), {0: "batch"}, metadata)
