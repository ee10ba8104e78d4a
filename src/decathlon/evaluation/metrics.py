"""Metrics of classification and segmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from decathlon.data.base import Split
from decathlon.evaluation.examples import record_classes

BATCH_SIZE = 1000  # larger batches are no faster, and take more memory


def outputs(network: Callable[[Tensor], Tensor], inputs: Tensor, batch_size: int = BATCH_SIZE) -> Tensor:
    """The outputs of `network` for all inputs, computed in batches: float32 (N, …)."""
    return torch.cat([network(batch).float() for batch in inputs.split(batch_size)])


def classification(logits: Tensor, targets: Tensor) -> dict[str, float]:
    """Accuracy and cross-entropy of logits (N, num_classes) against targets (N,)."""
    record_classes(logits, targets)
    accuracy = (logits.argmax(1) == targets).double().mean()
    return {"accuracy": round(accuracy.item(), 7), "loss": F.cross_entropy(logits, targets).item()}


def confusion_matrix(logits: Tensor, targets: Tensor) -> Tensor:
    """Confusion matrix, true classes in rows, predicted classes in columns: int64 (num_classes, num_classes)."""
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    return multiclass_confusion_matrix(logits, targets, num_classes=logits.shape[1])


def most_confident_mistakes(logits: Tensor, split: Split, count: int) -> list[tuple[int, int, float]]:
    """Index, predicted class and its probability of the wrong predictions, the most confident first."""
    probability, predicted = logits.softmax(1).max(1)
    wrong = (predicted != split.targets).nonzero()[:, 0]
    order = wrong[probability[wrong].argsort(descending=True)][:count]
    return [(int(i), int(predicted[i]), float(probability[i])) for i in order]


def segmentation(pairs: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Metrics of masks, over all pixels together, and as the mean over images (`…_per_image`).

    Args:
        pairs: For each image the predicted mask, bool (H, W), and its trimap, (H, W) of 1 pet, 2 background,
            3 boundary.

    Returns:
        `accuracy`, `iou` and `dice` of the pet, which includes the boundary; `accuracy_no_boundary` ignores the
        boundary. An image without a pet in which none is predicted has an IoU and a Dice of 1.
    """
    rows = []
    for predicted, trimap in pairs:
        pet, inside = trimap != 2, trimap != 3  # inside: not on the boundary
        correct = predicted == pet
        masks = (correct, predicted & pet, predicted | pet, correct & inside, inside)
        rows.append(torch.stack([mask.sum() for mask in masks] + [torch.tensor(predicted.numel())]))
    images = torch.stack(rows).double()  # (N, 6)
    results: dict[str, float] = {}
    for suffix, counts in (("", images.sum(0, keepdim=True)), ("_per_image", images)):
        correct, intersection, union, inside_correct, inside, pixels = counts.T
        values = {
            "accuracy": correct / pixels,
            "accuracy_no_boundary": torch.where(inside > 0, inside_correct / inside, 1.0),
            "iou": torch.where(union > 0, intersection / union, 1.0),
            "dice": torch.where(union > 0, 2 * intersection / (intersection + union), 1.0),
        }
        results |= {name + suffix: round(value.mean().item(), 7) for name, value in values.items()}
    return results
