"""PASCAL VOC's matching of detections with objects, and its AP of 2007."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from decathlon.data.transforms.detection import Target

IOU_THRESHOLD = 0.5  # from which VOC counts a detection as a match
RECALLS = np.linspace(0, 1, 11)  # at which VOC reads the precision-recall curve


def match_difficult(detections: Target, target: Target) -> Tensor:
    """Which detections match an object marked difficult, bool (M,).

    A detection is matched, as in VOC's development kit, with the object of its class of the highest IoU, if that is
    `IOU_THRESHOLD` or more (Everingham et al. 2010, IJCV 88, section 4.2).
    """
    matches = torch.zeros(len(detections["labels"]), dtype=torch.bool)
    if not target["difficult"].any() or not len(matches):
        return matches
    iou = box_iou(detections["boxes"], target["boxes"])  # (M, objects)
    iou[detections["labels"][:, None] != target["labels"]] = -1
    best, nearest = iou.max(1)
    return (best >= IOU_THRESHOLD) & target["difficult"][nearest]


def precision_recall(
    detections: list[Target], targets: list[Target], label: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Precision and recall of a class at an IoU of 0.5, over its detections in the order of their scores.

    A detection is matched with the object of the highest IoU. A second detection of an object is a false positive; a
    detection of a difficult object is left out. (Everingham et al. 2010, IJCV 88, section 4.2)

    Returns:
        Two arrays, an entry for each detection; None where no image has an object of the class that counts.
    """
    scores, correct, total = list[float](), list[bool](), 0
    for detection, target in zip(detections, targets, strict=True):
        boxes, difficult = (target[name][target["labels"] == label] for name in ("boxes", "difficult"))
        total += int((~difficult).sum())
        of_class = detection["labels"] == label
        if not of_class.any():
            continue
        order = detection["scores"][of_class].argsort(descending=True, stable=True)
        sorted_scores = detection["scores"][of_class][order].tolist()
        if not len(boxes):
            scores += sorted_scores
            correct += [False] * len(sorted_scores)
            continue
        ious, nearest = box_iou(detection["boxes"][of_class][order], boxes).max(1)
        matched = set[int]()
        for score, iou, index in zip(sorted_scores, ious.tolist(), nearest.tolist(), strict=True):
            hit = iou >= IOU_THRESHOLD
            if hit and difficult[index]:
                continue
            scores.append(score)
            correct.append(hit and index not in matched)
            matched |= {index} if hit else set()
    if not total:
        return None
    by_score = np.argsort(-np.array(scores), kind="stable")
    true_positives = np.cumsum(np.array(correct, bool)[by_score])
    return true_positives / np.arange(1, len(true_positives) + 1), true_positives / total


def eleven_point_ap(precision: np.ndarray, recall: np.ndarray) -> float:
    """VOC's AP of 2007: the mean, over recalls 0, 0.1, … 1, of the best precision at that recall or a higher one."""
    return float(np.mean([max(precision[recall >= minimum - 1e-9], default=0.0) for minimum in RECALLS]))
