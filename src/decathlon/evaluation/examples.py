"""Every example by itself: whether the prediction was right and how confident, so that two networks can be compared.

The metrics of all kinds pass what they are computed from to the `record_…` functions here; inside `recording()` it is
kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

MAX_PIXELS = 2000  # of an image whose probabilities are kept for the calibration
SCORE_THRESHOLD = 0.4  # from which a detection counts in an image's F1 score
IOU_THRESHOLD = 0.5  # from which a detection matches an object


@dataclass
class Examples:
    """What was predicted for the examples of a split, in its order.

    Attributes:
        scores: Of each example: 1 or 0 for a right or wrong class, else pixel accuracy, or F1 of the detections.
        labels: Predicted classes, of a classifier.
        targets: True classes, of a classifier.
        confidences: Probabilities of single predictions: classes, pixels, boxes. (M,)
        correct: Whether these predictions were right, bool (M,).
    """

    scores: list[float] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    confidences: list[Tensor] = field(default_factory=list)
    correct: list[Tensor] = field(default_factory=list)

    def calibration_error(self) -> float | None:
        """Expected calibration error with 15 bins (Guo et al. 2017, arXiv:1706.04599); None without predictions."""
        from torchmetrics.functional.classification import binary_calibration_error

        confidences, correct = (
            torch.cat(part) if part else torch.zeros(0) for part in (self.confidences, self.correct)
        )
        return binary_calibration_error(confidences, correct.int(), n_bins=15).item() if len(confidences) else None

    def standard_error(self) -> float | None:
        """Standard error of the mean score, from the spread over the examples; None for fewer than two."""
        scores = torch.tensor(self.scores)
        return (scores.std() / len(scores) ** 0.5).item() if len(scores) > 1 else None


_recorders: list[Examples] = []


@contextmanager
def recording() -> Iterator[Examples]:
    """Keep what the metrics inside are computed from."""
    recorder = Examples()
    _recorders.append(recorder)
    try:
        yield recorder
    finally:
        _recorders.pop()


def record_classes(logits: Tensor, targets: Tensor) -> None:
    """Note the logits (N, num_classes), and the true classes (N,)."""
    for recorder in _recorders:
        confidences, labels = logits.detach().float().softmax(1).cpu().max(1)
        correct = labels == targets.cpu()
        recorder.scores += correct.float().tolist()
        recorder.labels += labels.tolist()
        recorder.targets += targets.tolist()
        recorder.confidences.append(confidences)
        recorder.correct.append(correct)


def record_mask(logits: Tensor, foreground: Tensor) -> None:
    """Note the logits (H, W) of one image, and where the foreground is, bool (H, W)."""
    for recorder in _recorders:
        probability, truth = logits.detach().float().sigmoid().flatten(), foreground.flatten()
        correct = (probability > 0.5) == truth
        recorder.scores.append(correct.float().mean().item())
        drawn = torch.randperm(len(truth), generator=torch.Generator().manual_seed(0))[:MAX_PIXELS]
        recorder.confidences.append(torch.maximum(probability, 1 - probability)[drawn])
        recorder.correct.append(correct[drawn])


def record_detections(detections: Sequence[dict[str, Tensor]], targets: Sequence[dict[str, Tensor]]) -> None:
    """Note the detections in each image, `boxes`, `labels` and `scores`, and its objects, `boxes` and `labels`."""
    for recorder in _recorders:
        for detection, target in zip(detections, targets, strict=True):
            order = detection["scores"].argsort(descending=True, stable=True)
            scores, correct = detection["scores"][order], match(detection, target)[order]
            recorder.confidences.append(scores)
            recorder.correct.append(correct)
            reported = scores >= SCORE_THRESHOLD
            total = int(reported.sum()) + len(target["labels"])
            recorder.scores.append(2 * int(correct[reported].sum()) / total if total else 1.0)


def match(detection: dict[str, Tensor], target: dict[str, Tensor]) -> Tensor:
    """Which detections are right, bool (M,): each object is matched once, by the best score with enough overlap."""
    from torchvision.ops import box_iou

    correct = torch.zeros(len(detection["labels"]), dtype=torch.bool)
    if not len(target["labels"]) or not len(correct):
        return correct
    iou = box_iou(detection["boxes"], target["boxes"])  # (M, objects)
    iou[detection["labels"][:, None] != target["labels"]] = 0
    for index in detection["scores"].argsort(descending=True, stable=True).tolist():
        value, nearest = iou[index].max(0)
        if value >= IOU_THRESHOLD:
            correct[index] = True
            iou[:, nearest] = 0  # an object is found once
    return correct
