"""Plots of training and evaluation, written into a run's `plots` folder. Examples are from the validation split."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from torch import Tensor, nn

from decathlon.data.base import Split
from decathlon.evaluation import metrics
from decathlon.messages import printable

if "MPLBACKEND" not in os.environ:  # notebooks set it
    matplotlib.use("agg")  # no screen needed
MAX_LABELLED = 30  # classes: a larger confusion matrix has no labels, and its figure does not grow
INK, LINE, SECOND = "#1f2933", "#2563eb", "#d97706"


def label(name: str) -> str:
    """Escape a name for matplotlib, which would parse $…$ as a formula, and fail if it is not."""
    return printable(name).replace("$", r"\$")


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG and close it."""
    figure.savefig(path, dpi=110, bbox_inches="tight", facecolor="white")
    plt.close(figure)


def curves(lines: list[dict[str, Any]], path: Path, metric: str, bar: float | None) -> None:
    """The training and validation loss, and the metric with its bar, by epoch."""
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
    save(figure, path)


def confusion_matrix(logits: Tensor, targets: Tensor, classes: Sequence[str], path: Path) -> None:
    """The confusion matrix, coloured by the mistakes: the diagonal is left white."""
    table = metrics.confusion_matrix(logits, targets).cpu().numpy()
    errors = table.astype(float)
    np.fill_diagonal(errors, 0)
    size = max(4.0, 0.45 * min(len(classes), MAX_LABELLED) + 1)
    figure, axes = plt.subplots(figsize=(size, size))
    axes.imshow(errors, cmap="Oranges")
    if len(classes) <= MAX_LABELLED:
        classes = [label(name) for name in classes]
        dark = errors.max() / 2
        for row, column in np.ndindex(table.shape):
            if table[row, column]:
                color = "white" if errors[row, column] > dark else INK
                axes.text(column, row, str(table[row, column]), ha="center", va="center", color=color, fontsize=8)
        axes.set_xticks(range(len(classes)), classes, rotation=90 if len(max(classes, key=len)) > 3 else 0)
        axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted", ylabel="true", title=f"validation, {len(targets):,} examples")
    save(figure, path)


def mistakes(logits: Tensor, split: Split, classes: Sequence[str], path: Path, count: int = 24) -> None:
    """The misclassified images with the highest predicted probability; without any, those with the lowest."""
    classes = [label(name) for name in classes]
    if worst := metrics.most_confident_mistakes(logits, split, count):
        titles = [f"{classes[int(split.targets[i])]}, not {classes[p]} ({100 * q:.0f} %)" for i, p, q in worst]
        heading = "the most confident mistakes: true class, not predicted (its probability)"
    else:
        probability, predicted = logits.softmax(1).max(1)
        worst = [(int(i), int(predicted[i]), float(probability[i])) for i in probability.argsort()[:count]]
        titles = [f"{classes[p]} ({100 * q:.0f} %)" for _, p, q in worst]
        heading = "no mistake on the validation split; the least confident predictions"
    grid([split.inputs[index] for index, _, _ in worst], titles, path, 6, heading)


def grid(images: Sequence[Tensor], titles: Sequence[str], path: Path, columns: int, heading: str = "") -> None:
    """Images (C, H, W), uint8 or float from 0 to 1, in rows, a title above each."""
    rows = max(1, -(-len(images) // columns))
    figure, table = plt.subplots(rows, columns, figsize=(1.5 * columns, 1.65 * rows + 0.4), squeeze=False)
    for axes in table.flat:
        axes.axis("off")
    for axes, image, title in zip(table.flat, images, titles, strict=False):
        values = image.detach().cpu().float().numpy() / (1 if image.is_floating_point() else 255)
        # (C, H, W) -> (H, W, C), or (H, W) for grey
        axes.imshow(values.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1)
        axes.set_title(title, fontsize=7.5, color=INK)
    figure.suptitle(heading, fontsize=9, x=0.01, horizontalalignment="left")
    figure.tight_layout()
    save(figure, path)


def scatter(points: np.ndarray, labels: np.ndarray, classes: Sequence[str], path: Path, title: str) -> None:
    """A scatter plot of points (N, 2), coloured by class."""
    figure, axes = plt.subplots(figsize=(6, 5.2))
    colors = plt.get_cmap("tab10" if len(classes) <= 10 else "tab20")
    for number, name in enumerate(classes):
        of_class = points[labels == number]
        axes.scatter(of_class[:, 0], of_class[:, 1], s=7, color=colors(number % colors.N), label=label(name))
    axes.legend(markerscale=2.5, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set(title=title, xticks=[], yticks=[])
    save(figure, path)


def filters(model: nn.Module, path: Path) -> None:
    """The kernels of a network's first convolution on RGB images; nothing if it has none."""
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if first is not None and first.in_channels == 3:
        kernels = first.weight.detach().cpu()  # (filters, 3, k, k)
        scale = kernels.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-9)
        grid(list(kernels / scale / 2 + 0.5), [""] * len(kernels), path, 8, "the first layer's filters; grey is zero")


def overlays(images: Tensor, heat: Tensor, titles: Sequence[str], path: Path, heading: str) -> None:
    """Images uint8 (N, 3, H, W), each beside itself under a heat map (N, H, W) from 0 to 1."""
    colors = plt.get_cmap("inferno")
    panels, names = [], []
    for image, values, title in zip(images.cpu(), heat.cpu(), titles, strict=True):
        shade = torch.from_numpy(colors(values.numpy())[..., :3]).permute(2, 0, 1).float()  # (H, W, 3) -> (3, H, W)
        panels += [image, 0.45 * image.float() / 255 + 0.55 * shade]
        names += [title, ""]
    grid(panels, names, path, 6, heading)


def nearest_tokens(embeddings: Tensor, tokenizer: Any, words: Sequence[str], path: Path) -> None:
    """A table of words that are tokens, each with the tokens of the most similar embeddings (vocab_size, hidden)."""
    embeddings = F.normalize(embeddings.float(), dim=1)
    rows = []
    for word in words:
        token_id = tokenizer.token_to_id(f"Ġ{word}")
        if token_id is not None:
            nearest = (embeddings @ embeddings[token_id]).topk(20).indices[1:].tolist()
            names = (tokenizer.decode([index]).strip() for index in nearest)
            rows.append((word, ", ".join([name for name in names if name.isalnum()][:8])))
    figure, axes = plt.subplots(figsize=(8, 0.3 * max(2, len(rows)) + 0.4))
    axes.axis("off")
    for number, (name, text) in enumerate(rows):
        axes.text(0.18, -number, name, ha="right", color=LINE, fontsize=9)
        axes.text(0.21, -number, text, color=INK, fontsize=9)
    axes.set(xlim=(0, 1), ylim=(-len(rows), 1), title="tokens and their nearest neighbours")
    save(figure, path)


def outlines(
    images: Tensor, truth: Tensor, predicted: Tensor, titles: Sequence[str], path: Path, heading: str, columns: int = 4
) -> None:
    """Images uint8 (N, 3, H, W) with outlines of the true masks, blue, and the predicted, orange: bool (N, H, W)."""
    rows = max(1, -(-len(images) // columns))
    figure, table = plt.subplots(rows, columns, figsize=(2.3 * columns, 2.45 * rows + 0.4), squeeze=False)
    for axes in table.flat:
        axes.axis("off")
    masks = zip(truth.cpu(), predicted.cpu(), strict=True)
    for axes, image, (true, mask), title in zip(table.flat, images.cpu(), masks, titles, strict=False):
        axes.imshow(image.permute(1, 2, 0).numpy())  # (3, H, W) -> (H, W, 3)
        for values, color in ((true, LINE), (mask, SECOND)):
            if values.any() and not values.all():  # else there is no outline
                axes.contour(values.float().numpy(), levels=[0.5], colors=[color], linewidths=1.6)
        axes.set_title(title, fontsize=8, color=INK)
    figure.suptitle(heading, fontsize=10, x=0.01, horizontalalignment="left")
    figure.tight_layout()
    save(figure, path)
