"""Metrics of classifiers, in torchmetrics' definitions."""

from __future__ import annotations

from collections.abc import Callable

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
