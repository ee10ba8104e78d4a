"""The detectors' weights that ship, by the thresholds and proposals of evaluation: AP on the validation split.

Run: python bench/detection_thresholds.py [--out docs/tasks/comparisons/detection-thresholds.json]. The test split is
not read.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

import decathlon
from decathlon.data.base import Data, parse_source
from decathlon.evaluation import detection
from decathlon.tasks.base import get_task
from decathlon.training.memory import keep_freed_memory

ROOT = Path(__file__).parents[1]
# What differs from the network as it ships: see `set_thresholds`.
ROWS: dict[str, list[dict[str, float]]] = {
    "voc-faster-rcnn": [
        {},
        {"proposals": 150, "boxes_of_a_level": 150},
        {"proposals": 100, "boxes_of_a_level": 100},
        {"proposals": 50, "boxes_of_a_level": 200},
        {"score": 0.01},
        {"roi_iou": 0.4},
        {"roi_iou": 0.6},
        {"roi_iou": 0.7},
        {"rpn_iou": 0.8},
        {"rpn_iou": 0.8, "roi_iou": 0.6},
        {"rpn_iou": 0.9, "roi_iou": 0.6},
    ],
    "voc-retinanet": [{}, {"score": 0.01}, {"roi_iou": 0.4}, {"roi_iou": 0.6}],
}


def set_thresholds(network: Any, changes: dict[str, float]) -> None:
    """Set `proposals` and `boxes_of_a_level` kept by the RPN, `score` and the IoU of both suppressions."""
    for name, value in changes.items():
        if name == "proposals":
            network.rpn._post_nms_top_n["testing"] = value
        elif name == "boxes_of_a_level":
            network.rpn._pre_nms_top_n["testing"] = value
        elif name == "rpn_iou":
            network.rpn.nms_thresh = value
        else:
            part = getattr(network, "roi_heads", network)  # RetinaNet has no RoI head
            setattr(part, {"score": "score_thresh", "roi_iou": "nms_thresh"}[name], value)


def measure(task_id: str, data: Data, changes: dict[str, float]) -> dict[str, Any]:
    network = decathlon.load(task_id).network.eval()
    set_thresholds(network, changes)
    with torch.no_grad():
        metrics = detection.evaluate(network, data.validation, data.info.classes)  # type: ignore[arg-type]
    what = {"task": task_id, "data": data.name, "split": "validation", "changed": changes}
    averages = {name: round(metrics[name], 4) for name in ("map", "map_50", "map_75")}
    return what | averages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/tasks/comparisons/detection-thresholds.json")
    options = parser.parse_args()
    keep_freed_memory()
    rows = list[str]()
    for task_id, all_changes in ROWS.items():
        task: Any = get_task(task_id)
        data = task.load(parse_source("official", None, download=False), task.recipe())
        for changes in all_changes:
            rows.append(json.dumps(measure(task_id, data, changes)))
            print(rows[-1], flush=True)
    options.out.write_text("[\n" + ",\n".join(rows) + "\n]\n")


if __name__ == "__main__":
    main()
