"""Image classification: what its tasks share to evaluate, predict, export and plot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from decathlon.data.base import Data, DataInfo, Split
from decathlon.data.io.images import ImageInput, input_name, load_image
from decathlon.data.transforms.augment import to_float
from decathlon.evaluation import architecture, metrics
from decathlon.evaluation.onnx_graph import OnnxGraph
from decathlon.evaluation.predictions import Classification, device_of, predict_in_batches

TTA_IN_WORDS = {
    "flip": "mean of the logits of the image and of its horizontal flip; ",
    "flip+shift": "weighted mean of the logits of the image and its horizontal flip (1/4 each) and of both shifted by "
    "a pixel up and left, and down and right, with reflection padding (1/8 each); ",
}
PIXEL_SCALING = {"scale": 1 / 255, "mean": [0.0], "std": [1.0]}  # value = (byte · scale - mean) / std
TTAKind = Literal["flip", "flip+shift"]
# An upright image and its name -> uint8 (C, H, W) for the network, and notes for the user on how it was prepared
Prepare = Callable[[Image.Image, str], tuple[Tensor, list[str]]]


class TTA(nn.Module):
    """Test-time augmentation: the mean of the logits of several augmented copies of an image.

    Args:
        model: Float images (N, C, H, W) -> logits (N, num_classes).
        kind: `flip` is the image and its horizontal flip. `flip+shift` adds both of them shifted by one pixel along a
            diagonal, either way, at half the weight (Jordan 2024, arXiv:2404.00498, section 3.5): six copies.
    """

    def __init__(self, model: nn.Module, kind: TTAKind) -> None:
        super().__init__()
        self.model, self.kind = model, kind

    def forward(self, images: Tensor) -> Tensor:
        """Float images (N, C, H, W) -> logits (N, num_classes)."""
        logits = self.flipped(images)
        if self.kind == "flip":
            return logits
        padded = F.pad(images, (1, 1, 1, 1), "reflect")  # (N, C, H + 2, W + 2)
        shifted = self.flipped(padded[..., :-2, :-2]) + self.flipped(padded[..., 2:, 2:])
        return logits / 2 + shifted / 4

    def flipped(self, images: Tensor) -> Tensor:
        """The mean of the logits of the images and of their flips."""
        return (self.model(images) + self.model(images.flip(3))) / 2


def compute_logits(model: nn.Module, images: Tensor) -> Tensor:
    """Logits (N, num_classes) of uint8 images (N, C, H, W), computed in batches."""
    return metrics.outputs(lambda batch: model(to_float(batch)), images)


def evaluate(model: nn.Module, split: Split) -> dict[str, float]:
    """Accuracy and cross-entropy on a split."""
    return metrics.classification(compute_logits(model, split.inputs), split.targets)


def predict(
    model: nn.Module, inputs: Sequence[ImageInput], prepare: Prepare, classes: list[str], batch_size: int
) -> list[Classification | Exception]:
    """Classify images, a batch at a time.

    Args:
        model: Float images (N, C, H, W) -> logits (N, num_classes).
        inputs: The images.
        prepare: From an image to the network's input.
        classes: Class names.
        batch_size: Images that go through the network at once.

    Returns:
        For each input its prediction, or the error of an input that cannot be read.
    """
    device = device_of(model)

    def predict_probabilities(images: Tensor) -> Tensor:
        return compute_logits(model, images.to(device)).softmax(1).cpu()

    return predict_by(predict_probabilities, inputs, prepare, classes, batch_size)


@torch.no_grad()
def predict_by(
    predict_probabilities: Callable[[Tensor], Tensor],
    inputs: Sequence[ImageInput],
    prepare: Prepare,
    classes: list[str],
    batch_size: int,
) -> list[Classification | Exception]:
    """As `predict`, with a function from uint8 images (N, C, H, W) to probabilities (N, num_classes) on the CPU."""

    def read(value: ImageInput, index: int) -> tuple[str, Tensor, list[str]]:
        name = input_name(value, index)
        return name, *prepare(load_image(value), name)

    def predict_batch(examples: list[tuple[str, Tensor, list[str]]]) -> list[Classification]:
        rows = predict_probabilities(torch.stack([image for _, image, _ in examples])).tolist()
        return [
            Classification(
                input=name,
                notes=tuple(notes),
                image=image.permute(1, 2, 0).squeeze(2 if len(image) == 1 else ()).numpy(),  # (H, W, C) or (H, W)
                **rank_classes(row, classes),
            )
            for (name, image, notes), row in zip(examples, rows, strict=True)
        ]

    return predict_in_batches(inputs, read, predict_batch, batch_size)


def classify_one(model: nn.Module, image: Tensor, classes: list[str]) -> dict[str, Any]:
    """`label` and `probabilities`, as `rank_classes`, of one uint8 image (C, H, W)."""
    with torch.no_grad():
        return rank_classes(compute_logits(model, image[None])[0].softmax(0).tolist(), classes)


def rank_classes(probabilities: list[float], classes: list[str]) -> dict[str, Any]:
    """`label`, and `probabilities` by class, the most probable first."""
    pairs = sorted(zip(classes, probabilities, strict=True), key=lambda pair: -pair[1])
    return {"label": pairs[0][0], "probabilities": dict(pairs)}


def count_operations(model: nn.Module, shape: tuple[int, int, int], info: DataInfo) -> Counter[str]:
    """The operations of a network from images (N, *shape) to logits (N, num_classes), by kind.

    Raises:
        ValueError: It does not take such images, or does not return such logits.
    """
    example = torch.zeros(2, *shape, device=next(model.parameters()).device)
    output, counts = architecture.operations(model, example)
    architecture.expect_shape(output, (2, len(info.classes)), example)
    return counts


def check_sizes(model: nn.Module, size: int, low_res_size: int, info: DataInfo) -> None:
    """Raise ValueError unless a network takes RGB images of both sizes, in pixels."""
    count_operations(model, (3, size, size), info)
    try:
        count_operations(model, (3, low_res_size, low_res_size), info)
    except ValueError as error:
        raise ValueError(f"{error}; with --low-res-epochs 0 all images are {size}×{size}") from None


def onnx_graph(
    model: nn.Module, shape: tuple[int, int, int], info: DataInfo, preprocessing: str, tta: str = ""
) -> OnnxGraph:
    """A network from images (N, *shape) to logits (N, num_classes), to be written as ONNX.

    Args:
        model: The network.
        shape: Of one image.
        info: Of the data.
        preprocessing: From an image file to bytes of this shape, in words.
        tta: Test-time augmentation around the network, in words.
    """
    metadata = {
        "preprocessing": f"{preprocessing}; then divide by 255",
        "postprocessing": f"{tta}softmax over the logits; the most probable label",
        "labels": info.classes,
        "input": {"layout": "NCHW", "colours": "grey" if shape[0] == 1 else "RGB", "size": list(shape[1:])}
        | PIXEL_SCALING,
    }
    return OnnxGraph(model, torch.rand(2, *shape), "images", ("logits",), {0: "batch"}, metadata)


def plot_validation(model: nn.Module, data: Data, folder: Path) -> None:
    """confusion.png and mistakes.png, of the validation split."""
    from decathlon.evaluation import plots

    split, classes = data.validation, data.info.classes
    logits = compute_logits(model, split.inputs)
    plots.confusion_matrix(logits, split.targets, classes, folder / "confusion.png")
    plots.mistakes(logits, split, classes, folder / "mistakes.png")
