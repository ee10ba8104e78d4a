"""Plots of object detection: images with boxes, precision-recall curves, AP by class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from torch import Tensor

from decathlon.evaluation.plots import INK, LINE, label, save


def draw_boxes(image: Tensor, boxes: Sequence[Sequence[float]], names: Sequence[str], path: Path) -> None:
    """An image uint8 (3, H, W) at its own size, with boxes (left, top, right, bottom) and a name on each."""
    height, width = image.shape[1:]
    figure = plt.figure(figsize=(width / 100, height / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image.permute(1, 2, 0).numpy())  # (3, H, W) -> (H, W, 3)
    axes.axis("off")
    for index, (box, name) in enumerate(zip(boxes, names, strict=True)):
        _box(axes, box, plt.get_cmap("tab10")(index % 10), name, 1.5)
    axes.set(xlim=(0, width), ylim=(height, 0))
    figure.savefig(path, dpi=100)
    plt.close(figure)


def scenes(
    images: Sequence[Tensor],
    truths: Sequence[Tensor],
    predictions: Sequence[dict[str, Tensor]],
    classes: Sequence[str],
    path: Path,
) -> None:
    """Images with the boxes of the ground truth, dotted white, and of the predictions, in the colour of their class.

    Args:
        images: uint8 (3, H, W), of any sizes.
        truths: The true boxes (M, 4) of each image, in pixels.
        predictions: `boxes` (M, 4) and `labels` (M,), counted from 1, of each image.
        classes: Class names.
        path: The file.
    """
    columns = 4
    rows = max(1, -(-len(images) // columns))
    figure, table = plt.subplots(rows, columns, figsize=(3 * columns, 2.3 * rows), squeeze=False)
    colors = plt.get_cmap("tab10" if len(classes) <= 10 else "tab20")
    for axes in table.flat:
        axes.axis("off")
    for axes, image, true, predicted in zip(table.flat, images, truths, predictions, strict=False):
        axes.imshow(image.permute(1, 2, 0).numpy())  # (3, H, W) -> (H, W, 3)
        for box in true.tolist():
            _box(axes, box, "white", "", 1.0, ":")
        for box, number in zip(predicted["boxes"].tolist(), predicted["labels"].tolist(), strict=True):
            _box(axes, box, colors((number - 1) % colors.N), classes[number - 1], 1.5)
        axes.set(xlim=(0, image.shape[2]), ylim=(image.shape[1], 0))
    figure.suptitle(
        "validation: ground truth dotted, predictions in colour", fontsize=9, x=0.01, horizontalalignment="left"
    )
    figure.tight_layout()
    save(figure, path)


def _box(axes: Any, box: Sequence[float], color: Any, name: str, width: float, style: str = "-") -> None:
    left, top, right, bottom = box
    corners = [left, right, right, left, left], [top, top, bottom, bottom, top]
    axes.plot(*corners, color=color, linewidth=width, linestyle=style)
    if name:
        patch = {"facecolor": color, "edgecolor": "none", "pad": 1}
        axes.text(left, top, label(name), fontsize=7, color="white", va="bottom", bbox=patch)


def precision_recall(curves: dict[str, tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    """The precision-recall curve of each class, two arrays, which are empty for a class without detections."""
    figure, axes = plt.subplots(figsize=(6, 4.2))
    colors = plt.get_cmap("tab10" if len(curves) <= 10 else "tab20")
    for number, (name, (precision, recall)) in enumerate(curves.items()):
        axes.plot(recall, precision, color=colors(number % colors.N), label=label(name), linewidth=1.3)
    if not any(len(precision) for precision, _ in curves.values()):
        axes.text(0.5, 0.5, "no detections", ha="center", color=INK)
    axes.set(
        xlabel="recall",
        ylabel="precision",
        xlim=(0, 1.01),
        ylim=(0, 1.03),
        title="precision-recall at IoU 0.50, validation",
    )
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.grid(alpha=0.3)
    save(figure, path)


def average_precisions(values: dict[str, float], path: Path) -> None:
    """The AP of each class as bars."""
    figure, axes = plt.subplots(figsize=(6, 0.26 * len(values) + 1))
    axes.barh([label(name) for name in values], list(values.values()), color=LINE)
    for row, value in enumerate(values.values()):
        axes.text(value + 0.01, row, f"{value:.2f}", va="center", fontsize=8, color=INK)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.08), title="AP (COCO, 0.50 to 0.95) by class, validation")
    save(figure, path)
