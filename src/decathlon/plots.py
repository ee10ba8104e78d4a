"""Pictures of what happened, drawn into a run's `plots` folder. The examples in them are from the validation split."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from torch import Tensor, nn

from decathlon import run
from decathlon.data import Split
from decathlon.metrics import confusion, worst
from decathlon.terminal import shown

if "MPLBACKEND" not in os.environ:  # notebooks set it, to show figures in the page
    matplotlib.use("agg")  # no screen needed
NAMED = 30  # classes whose names stand beside a confusion matrix, and up to which it grows: so does its memory
INK, LINE, SECOND = "#1f2933", "#2563eb", "#d97706"


def label(name: str) -> str:
    """A class's name as it may stand in a plot: matplotlib takes $…$ for a formula, and fails where it is none."""
    return shown(name).replace("$", r"\$")


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG and let go of it."""
    figure.savefig(path, dpi=110, bbox_inches="tight", facecolor="white")
    plt.close(figure)


def curves(folder: Path, metric: str, bar: float | None) -> None:
    """curves.png: the training and validation loss, and the metric with its bar, by epoch."""
    lines = run.read_lines(folder / "metrics.jsonl")
    epochs = [line["epoch"] for line in lines]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
    for name, color in (("train", LINE), ("validation", SECOND)):
        if lines and "loss" in lines[0][name]:
            left.plot(epochs, [line[name]["loss"] for line in lines], color=color, marker=".", label=name)
    left.set(title="loss", xlabel="epoch", yscale="log")
    low, high = left.get_ylim()
    left.yaxis.set_major_locator(MaxNLocator(6) if high < 4 * low else LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter("{x:.3g}")
    left.yaxis.set_minor_formatter("")
    left.legend()
    right.plot(epochs, [line["validation"][metric] for line in lines], color=SECOND, marker=".", label="validation")
    if bar is not None:
        right.axhline(bar, color=INK, linestyle=":", label=f"bar {bar:.3g}")
    right.set(title=metric, xlabel="epoch")
    right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if len(epochs) == 1:
            axes.set_xticks(epochs)
    save(figure, folder / "plots" / "curves.png")


def confusion_matrix(logits: Tensor, targets: Tensor, classes: Sequence[str], path: Path) -> None:
    """How often which class was taken for which; the diagonal is left pale, since mistakes are what one looks for."""
    table = confusion(logits, targets).cpu().numpy()
    mistakes = table.astype(float)
    np.fill_diagonal(mistakes, 0)
    size = max(4.0, 0.45 * min(len(classes), NAMED) + 1)
    figure, axes = plt.subplots(figsize=(size, size))
    axes.imshow(mistakes, cmap="Oranges")
    if len(classes) <= NAMED:
        classes = [label(name) for name in classes]
        dark = mistakes.max() / 2
        for row, column in np.ndindex(table.shape):
            if table[row, column]:
                color = "white" if mistakes[row, column] > dark else INK
                axes.text(column, row, str(table[row, column]), ha="center", va="center", color=color, fontsize=8)
        axes.set_xticks(range(len(classes)), classes, rotation=90 if len(max(classes, key=len)) > 3 else 0)
        axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted", ylabel="true", title=f"validation, {len(targets):,} examples")
    save(figure, path)


def mistakes(logits: Tensor, split: Split, classes: Sequence[str], path: Path, count: int = 24) -> None:
    """The pictures the network was surest about and wrong."""
    found = worst(logits, split, count)
    pictures = [split.inputs[index] for index, _, _ in found]
    classes = [label(name) for name in classes]
    titles = [f"{classes[int(split.targets[i])]}, not {classes[p]} ({100 * q:.0f} %)" for i, p, q in found]
    heading = "the most confident mistakes: true class, not predicted (its probability)"
    grid(pictures, titles, path, 6, heading if found else "no mistake on the validation split")


def grid(pictures: Sequence[Tensor], titles: Sequence[str], path: Path, columns: int, heading: str = "") -> None:
    """Pictures (C, H, W), uint8 or float from 0 to 1, in rows, a title above each."""
    rows = max(1, -(-len(pictures) // columns))
    figure, table = plt.subplots(rows, columns, figsize=(1.5 * columns, 1.65 * rows + 0.4), squeeze=False)
    for axes in table.flat:
        axes.axis("off")
    for axes, picture, title in zip(table.flat, pictures, titles, strict=False):
        values = picture.detach().cpu().float().numpy() / (1 if picture.is_floating_point() else 255)
        # (C, H, W) -> (H, W, C), or (H, W) for grey
        axes.imshow(values.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1)
        axes.set_title(title, fontsize=7.5, color=INK)
    figure.suptitle(heading, fontsize=9)
    figure.tight_layout()
    save(figure, path)


def plane(points: np.ndarray, labels: np.ndarray, classes: Sequence[str], path: Path, title: str) -> None:
    """Points (N, 2), each drawn as a dot in the colour of its class."""
    figure, axes = plt.subplots(figsize=(6, 5.2))
    colors = plt.get_cmap("tab10" if len(classes) <= 10 else "tab20")
    for number, name in enumerate(classes):
        of_class = points[labels == number]
        axes.scatter(of_class[:, 0], of_class[:, 1], s=7, color=colors(number % colors.N), label=label(name))
    axes.legend(markerscale=2.5, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set(title=title, xticks=[], yticks=[])
    save(figure, path)


def filters(model: nn.Module, path: Path) -> None:
    """The kernels of a network's first convolution on colour pictures; nothing where it has none."""
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if first is not None and first.in_channels == 3:
        kernels = first.weight.detach().cpu()  # (filters, 3, k, k)
        size = kernels.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-9)
        grid(list(kernels / size / 2 + 0.5), [""] * len(kernels), path, 8, "the first layer's filters; grey is zero")


def overlays(images: Tensor, heat: Tensor, titles: Sequence[str], path: Path, heading: str) -> None:
    """Images uint8 (N, 3, H, W), each beside itself under a heat map (N, H, W) from 0 to 1."""
    colors = plt.get_cmap("inferno")
    pictures, names = [], []
    for image, values, title in zip(images.cpu(), heat.cpu(), titles, strict=True):
        shade = torch.from_numpy(colors(values.numpy())[..., :3]).permute(2, 0, 1).float()  # (H, W, 3) -> (3, H, W)
        pictures += [image, 0.45 * image.float() / 255 + 0.55 * shade]
        names += [title, ""]
    grid(pictures, names, path, 6, heading)


def lines(rows: Sequence[tuple[str, str]], heading: str, path: Path) -> None:
    """Rows of a name and a text."""
    figure, axes = plt.subplots(figsize=(8, 0.3 * max(2, len(rows)) + 0.4))
    axes.axis("off")
    for number, (name, text) in enumerate(rows):
        axes.text(0.18, -number, name, ha="right", color=LINE, fontsize=9)
        axes.text(0.21, -number, text, color=INK, fontsize=9)
    axes.set(xlim=(0, 1), ylim=(-len(rows), 1), title=heading)
    save(figure, path)


def outlines(
    images: Tensor, truth: Tensor, found: Tensor, titles: Sequence[str], path: Path, heading: str, columns: int = 4
) -> None:
    """Images uint8 (N, 3, H, W) with outlines of the true masks, blue, and of those found, orange: bool (N, H, W)."""
    rows = max(1, -(-len(images) // columns))
    figure, table = plt.subplots(rows, columns, figsize=(2.3 * columns, 2.45 * rows + 0.4), squeeze=False)
    for axes in table.flat:
        axes.axis("off")
    for axes, image, true, mask, title in zip(table.flat, images.cpu(), truth.cpu(), found.cpu(), titles, strict=False):
        axes.imshow(image.permute(1, 2, 0).numpy())  # (3, H, W) -> (H, W, 3)
        for values, color in ((true, LINE), (mask, SECOND)):
            if values.any() and not values.all():  # else there is no outline
                axes.contour(values.float().numpy(), levels=[0.5], colors=[color], linewidths=1.6)
        axes.set_title(title, fontsize=8, color=INK)
    figure.suptitle(heading, fontsize=10)
    figure.tight_layout()
    save(figure, path)


def boxed(picture: Tensor, boxes: Sequence[Sequence[float]], names: Sequence[str], path: Path) -> None:
    """A picture uint8 (3, H, W) at its own size, with boxes (left, top, right, bottom) and a name on each."""
    high, wide = picture.shape[1:]
    figure = plt.figure(figsize=(wide / 100, high / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(picture.permute(1, 2, 0).numpy())  # (3, H, W) -> (H, W, 3)
    axes.axis("off")
    for place, (box, name) in enumerate(zip(boxes, names, strict=True)):
        _box(axes, box, plt.get_cmap("tab10")(place % 10), name, 1.5)
    axes.set(xlim=(0, wide), ylim=(high, 0))
    figure.savefig(path, dpi=100)
    plt.close(figure)


def scenes(
    pictures: Sequence[Tensor],
    truths: Sequence[Tensor],
    found: Sequence[dict[str, Tensor]],
    classes: Sequence[str],
    path: Path,
) -> None:
    """Pictures uint8 (3, H, W) with what is there, dotted white, and what was found, in its class's colour.

    Args:
        pictures: Of any sizes.
        truths: Boxes (M, 4) that are there, in pixels.
        found: `boxes` (M, 4) and `labels` (M,) from 1, of each picture.
        classes: Their names.
        path: Where to.
    """
    columns = 4
    rows = max(1, -(-len(pictures) // columns))
    figure, table = plt.subplots(rows, columns, figsize=(3 * columns, 2.3 * rows), squeeze=False)
    colors = plt.get_cmap("tab10" if len(classes) <= 10 else "tab20")
    for axes in table.flat:
        axes.axis("off")
    for axes, picture, true, seen in zip(table.flat, pictures, truths, found, strict=False):
        axes.imshow(picture.permute(1, 2, 0).numpy())  # (3, H, W) -> (H, W, 3)
        for box in true.tolist():
            _box(axes, box, "white", "", 1.0, ":")
        for box, label in zip(seen["boxes"].tolist(), seen["labels"].tolist(), strict=True):
            _box(axes, box, colors((label - 1) % colors.N), classes[label - 1], 1.5)
        axes.set(xlim=(0, picture.shape[2]), ylim=(picture.shape[1], 0))
    figure.suptitle("validation: dotted what is there, coloured what was found", fontsize=9)
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
    """Precision by recall of each class, two arrays; empty ones are of a class of which nothing was found."""
    figure, axes = plt.subplots(figsize=(6, 4.2))
    colors = plt.get_cmap("tab10" if len(curves) <= 10 else "tab20")
    for number, (name, (precision, recall)) in enumerate(curves.items()):
        axes.plot(recall, precision, color=colors(number % colors.N), label=label(name), linewidth=1.3)
    if not any(len(precision) for precision, _ in curves.values()):
        axes.text(0.5, 0.5, "nothing was found", ha="center", color=INK)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.03), title="overlap of 0.50, validation")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.grid(alpha=0.3)
    save(figure, path)


def bars(values: dict[str, float], path: Path, title: str) -> None:
    """A bar for each name, with values from 0 to 1."""
    figure, axes = plt.subplots(figsize=(6, 0.26 * len(values) + 1))
    axes.barh([label(name) for name in values], list(values.values()), color=LINE)
    for place, value in enumerate(values.values()):
        axes.text(value + 0.01, place, f"{value:.2f}", va="center", fontsize=8, color=INK)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.08), title=title)
    save(figure, path)
