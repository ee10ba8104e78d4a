"""Figures of single predictions, from their parts: what `Prediction.plot` returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from decathlon.evaluation.mask_images import cut_out, overlay
from decathlon.evaluation.plots import INK, LINE, SECOND, label

MAX_BARS = 10  # classes or words that are listed


def classification(name: str, probabilities: dict[str, float], image: np.ndarray | None) -> Figure:
    """The image, if there is one, and the most probable classes as bars."""
    if image is None:
        return _probabilities(name, probabilities)
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
    left.imshow(image, cmap="gray", vmin=0, vmax=255)
    left.set_title(label(name), color=INK)
    left.axis("off")
    _bars(right, dict(list(probabilities.items())[:MAX_BARS]))
    right.set(xlim=(0, 1), xlabel="probability")
    return figure


def text_classification(
    name: str, probabilities: dict[str, float], attributions: Sequence[tuple[str, float]]
) -> Figure:
    """The words with the largest attributions as bars; without attributions the probabilities."""
    totals: dict[str, float] = {}
    for word, value in attributions:
        totals[word] = totals.get(word, 0.0) + value
    strongest = dict(sorted(totals.items(), key=lambda pair: -abs(pair[1]))[:MAX_BARS])
    if not strongest:
        return _probabilities(name, probabilities)
    figure = Figure(figsize=(5, 0.3 * len(strongest) + 1.2), layout="constrained")
    axes = figure.subplots()
    _bars(axes, strongest)
    probability = probabilities[name]
    axes.set(title=f"{label(name)} ({100 * probability:.0f} %)", xlabel="contribution to the logit")
    return figure


def segmentation(name: str, image: np.ndarray, probability: np.ndarray) -> Figure:
    """The image, the mask over it, and the cut-out."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    mask = probability > 0.5
    images = {
        "image": image,
        f"{name}: {100 * mask.mean():.1f} % of the image": overlay(image, mask),
        "cut-out": cut_out(image, probability),
    }
    for axes, (title, pixels) in zip(figure.subplots(1, 3), images.items(), strict=True):
        axes.imshow(pixels)
        axes.set_title(label(title), fontsize=9, color=INK)
        axes.axis("off")
    return figure


def detections(image: np.ndarray, boxes: np.ndarray, names: Sequence[str], scores: np.ndarray) -> Figure:
    """The image with the boxes, their classes and scores."""
    height, width = image.shape[:2]
    figure = Figure(figsize=(6, max(1.5, 6 * height / width)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(image)
    axes.axis("off")
    for (left, top, right, bottom), name, score in zip(boxes, names, scores, strict=True):
        axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color=SECOND, linewidth=1.5)
        patch = {"facecolor": SECOND, "edgecolor": "none", "pad": 1}
        text = f"{label(name)} {100 * score:.0f} %"
        axes.text(left, top, text, fontsize=7, color="white", va="bottom", bbox=patch)
    axes.set(xlim=(0, width), ylim=(height, 0))
    return figure


def _probabilities(title: str, probabilities: dict[str, float]) -> Figure:
    bars = dict(list(probabilities.items())[:MAX_BARS])
    figure = Figure(figsize=(5, 0.3 * len(bars) + 1.2), layout="constrained")
    axes = figure.subplots()
    _bars(axes, bars)
    axes.set(title=label(title), xlim=(0, 1), xlabel="probability")
    return figure


def _bars(axes: Any, values: dict[str, float]) -> None:
    colors = [LINE if value >= 0 else SECOND for value in values.values()]
    positions = np.arange(len(values))
    axes.barh(positions, list(values.values()), color=colors)
    axes.set_yticks(positions, [label(name) for name in values])
    axes.invert_yaxis()
