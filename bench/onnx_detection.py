"""What the fixed input size of an exported detector costs: metrics on validation, of the file and of PyTorch.

Run: python bench/onnx_detection.py [--images 300] [--out docs/tasks/comparisons/onnx-detection.json]
The weights are those that ship. The test split is not read.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any, cast

import torch
from torchvision.ops import box_iou

import decathlon
from decathlon.data.base import parse_source
from decathlon.data.transforms.detection import Target
from decathlon.data.voc import DetectionSplit
from decathlon.evaluation.detection import compute_metrics, detect, select_detections
from decathlon.onnx.session import open_file
from decathlon.tasks.base import get_task

ROOT = Path(__file__).parents[1]
TASKS = ("voc-faster-rcnn", "voc-retinanet")
LONG = 4 / 3 + 0.01  # aspect ratio above which the file scales an image down further than PyTorch does
IOU = 0.5  # of two detections of the same object


def count_found(shown: Target, others: Target) -> int:
    """How many detections have one of the same class and place among the others."""
    same = shown["labels"][:, None] == others["labels"][None]
    return int((same & (box_iou(shown["boxes"], others["boxes"]) >= IOU)).any(1).sum())


def compare(task_id: str, images: int) -> list[dict[str, Any]]:
    """A row for all images of the validation split, and one for the long ones."""
    loaded = decathlon.load(task_id)
    threshold, classes = cast(Any, loaded.recipe).score_threshold, loaded.info.classes
    data = get_task(task_id).load(parse_source("official", None, download=False), loaded.recipe)
    validation = cast(DetectionSplit, data.validation)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "detector.onnx")
        loaded.export(path)
        networks = {"pytorch": loaded.network, "onnx": open_file(path).network}
        detections: dict[str, list[Target]] = {name: [] for name in networks}
        targets, aspects = list[Target](), list[float]()
        for index in range(min(images, len(validation))):
            image, target = validation.example(index)
            aspects.append(max(image.shape[1:]) / min(image.shape[1:]))
            targets.append({name: target[name] for name in ("boxes", "labels", "difficult")})
            for name, network in networks.items():
                detections[name] += detect(network, [image])
    rows = []
    for which, chosen in (
        ("all images", list(range(len(targets)))),
        ("longer than 4:3", [index for index, aspect in enumerate(aspects) if aspect > LONG]),
    ):
        row: dict[str, Any] = {"task": task_id, "data": data.name, "split": "validation"}
        row |= {"which": which, "images": len(chosen)}
        shown: dict[str, list[Target]] = {}
        for name, found in detections.items():
            ours = [found[index] for index in chosen]
            metrics = compute_metrics(ours, [targets[index] for index in chosen], classes)
            row |= {f"{name}_{metric}": round(metrics[metric], 4) for metric in ("map", "map_50")}
            shown[name] = [select_detections(output, threshold) for output in ours]
        pairs = list(zip(shown["pytorch"], shown["onnx"], strict=True))
        row["shown_by_pytorch"] = sum(len(one["labels"]) for one, _ in pairs)
        row["of_these_by_onnx"] = sum(count_found(one, other) for one, other in pairs)
        rows.append(row)
    return rows


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/tasks/comparisons/onnx-detection.json")
    options = parser.parse_args()
    rows = list[str]()
    for task_id in TASKS:
        rows += [json.dumps(row) for row in compare(task_id, options.images)]
        print("\n".join(rows[-2:]), flush=True)
    options.out.write_text("[\n" + ",\n".join(rows) + "\n]\n")


if __name__ == "__main__":
    main()
