"""Metrics of classifiers and of masks, in torchmetrics' definitions."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_confusion_matrix

from decathlon.data import Split

BATCH = 1000  # examples at once: more is no faster, and less fits anywhere


def outputs(network: Callable[[Tensor], Tensor], inputs: Tensor, batch: int = BATCH) -> Tensor:
    """What `network` gives for all inputs, computed a batch at a time: float32 (N, …)."""
    return torch.cat([network(part).float() for part in inputs.split(batch)])


def classification(logits: Tensor, targets: Tensor) -> dict[str, float]:
    """Accuracy and cross-entropy of logits (N, classes) against targets (N,)."""
    accuracy = multiclass_accuracy(logits, targets, num_classes=logits.shape[1], average="micro")
    return {"accuracy": round(accuracy.item(), 7), "loss": F.cross_entropy(logits, targets).item()}


def confusion(logits: Tensor, targets: Tensor) -> Tensor:
    """How often a class (row) was taken for which (column): int64 (classes, classes)."""
    return multiclass_confusion_matrix(logits, targets, num_classes=logits.shape[1])


def worst(logits: Tensor, split: Split, count: int) -> list[tuple[int, int, float]]:
    """The most confident mistakes: index, predicted class and its probability, the most confident first."""
    probability, predicted = logits.softmax(1).max(1)
    wrong = (predicted != split.targets).nonzero()[:, 0]
    order = wrong[probability[wrong].argsort(descending=True)][:count]
    return [(int(i), int(predicted[i]), float(probability[i])) for i in order]


def segmentation(pairs: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """How well masks fit, over all pixels together, and as the mean over images (`…_per_image`).

    Args:
        pairs: Of each image the mask found, bool (H, W), and its trimap, (H, W) of 1 pet, 2 background, 3 boundary.

    Returns:
        `accuracy`, `iou` and `dice` of the pet, to which the boundary counts; `accuracy_no_boundary` is that of the
        other pixels. An image without pet in which none is found has an IoU and a Dice of 1.
    """
    rows = []
    for found, trimap in pairs:
        pet, sure = trimap != 2, trimap != 3
        right = found == pet
        numbers = (right, found & pet, found | pet, right & sure, sure)
        rows.append(torch.stack([values.sum() for values in numbers] + [torch.tensor(found.numel())]))
    images = torch.stack(rows).double()  # (N, 6)
    measured: dict[str, float] = {}
    for ending, counts in (("", images.sum(0, keepdim=True)), ("_per_image", images)):
        right, both, either, sure_right, sure, all_pixels = counts.T
        values = {
            "accuracy": right / all_pixels,
            "accuracy_no_boundary": torch.where(sure > 0, sure_right / sure, 1.0),
            "iou": torch.where(either > 0, both / either, 1.0),
            "dice": torch.where(either > 0, 2 * both / (both + either), 1.0),
        }
        measured |= {name + ending: round(value.mean().item(), 7) for name, value in values.items()}
    return measured
