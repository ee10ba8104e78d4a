"""What the tasks that classify pictures share: measuring, predicting and drawing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from decathlon import metrics, plots, rules
from decathlon.augment import to_float
from decathlon.data import Data, Split
from decathlon.portable import Graph

VIEWS = "mean of the scores of the image and of its mirror image; "
PLAIN = {"scale": 1 / 255, "mean": [0.0], "std": [1.0]}  # value = (byte · scale - mean) / std
Scorer = Callable[[Tensor], Tensor]  # float images (N, C, H, W) -> scores (N, classes): a network, or two views of one


def mirrored(model: Scorer) -> Scorer:
    """The mean of the scores of an image and of its mirror image."""
    return lambda images: (model(images) + model(images.flip(3))) / 2


def logits(model: Scorer, images: Tensor) -> Tensor:
    """Scores (N, classes) of uint8 images (N, C, H, W), computed a batch at a time."""
    return metrics.outputs(lambda batch: model(to_float(batch)), images)


def evaluate(model: Scorer, split: Split) -> dict[str, float]:
    """Accuracy and cross-entropy on a split."""
    return metrics.classification(logits(model, split.inputs), split.targets)


def predict(model: Scorer, image: Tensor, meta: dict[str, Any]) -> dict[str, Any]:
    """The classes and their probabilities, the likeliest first, for one uint8 image (C, H, W)."""
    with torch.no_grad():
        probabilities = logits(model, image[None])[0].softmax(0)
    return ranked(probabilities.tolist(), meta["classes"])


def ranked(probabilities: list[float], classes: list[str]) -> dict[str, Any]:
    """`label`, and `probabilities` by class with the likeliest first."""
    pairs = sorted(zip(classes, probabilities, strict=True), key=lambda pair: -pair[1])
    return {"label": pairs[0][0], "probabilities": dict(pairs)}


def operations(model: nn.Module, shape: tuple[int, int, int], meta: dict[str, Any]) -> Counter[str]:
    """The operations of a network from images (N, *shape) to scores (N, classes).

    Raises:
        ValueError: It does not take such images, or does not give such scores.
    """
    example = torch.zeros(2, *shape, device=next(model.parameters()).device)
    output, counts = rules.operations(model, example)
    rules.expect_shape(output, (2, len(meta["classes"])), example)
    return counts


def check_sizes(model: nn.Module, side: int, small: int, meta: dict[str, Any]) -> None:
    """Raise ValueError unless a network takes photos of both sides, in pixels."""
    operations(model, (3, side, side), meta)
    try:
        operations(model, (3, small, small), meta)
    except ValueError as error:
        raise ValueError(f"{error}; with --small-share 0 all photos are {side}×{side}") from None


def graph(model: nn.Module, shape: tuple[int, int, int], meta: dict[str, Any], reading: str, views: str = "") -> Graph:
    """A network from images (N, *shape) to scores (N, classes), to be written as ONNX.

    Args:
        model: The network.
        shape: Of one image.
        meta: Of the data.
        reading: How a picture comes to this shape, in words.
        views: What is to be done beside running it once, in words.
    """
    facts = {
        "preprocessing": f"{reading}; then divide by 255",
        "answer": f"{views}softmax over the scores; the likeliest label",
        "labels": meta["classes"],
        "input": {"layout": "NCHW", "colours": "grey" if shape[0] == 1 else "RGB", "size": list(shape[1:])} | PLAIN,
    }
    return Graph(model, torch.rand(2, *shape), "images", ("scores",), {0: "batch"}, facts)


def show(model: Scorer, data: Data, folder: Path) -> None:
    """confusion.png and mistakes.png, of the validation split."""
    scores, split, classes = logits(model, data.validation.inputs), data.validation, data.meta["classes"]
    plots.confusion_matrix(scores, split.targets, classes, folder / "confusion.png")
    plots.mistakes(scores, split, classes, folder / "mistakes.png")
