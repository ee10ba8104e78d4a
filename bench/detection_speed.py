"""Pictures a second in training and evaluation: the two detectors' recipes beside torchvision's defaults.

Run: python bench/detection_speed.py [--size 320] [--steps 3] [--precision bf16-mixed]. It takes PASCAL VOC where the
data folder has it, else the sample, which is scaled up; the first step of each is not counted. A batch has the recipe's
number of pictures, of about one shape. torchvision's row has its defaults for everything but the picture's size: all
512 regions and 2,000 proposals in Faster R-CNN, no norm in RetinaNet's heads, pictures that are padded to the largest.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in decathlon.__main__

import argparse
import json
import time
from dataclasses import replace
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from torchvision.models import detection as zoo

from decathlon import detection
from decathlon.boxes import Batch
from decathlon.data import Data, Epoch, source
from decathlon.optim import make_optimizers
from decathlon.recipe import get_task

NAMES = {"voc-faster-rcnn": "fasterrcnn_mobilenet_v3_large_320_fpn", "voc-retinanet": "retinanet_resnet50_fpn"}


def data_for(task: Any, recipe: Any) -> Data:
    try:
        return task.load(source("official", None, download=False), recipe)
    except FileNotFoundError:
        return task.load(source("sample"), recipe)


def training(model: nn.Module, batches: list[Batch], recipe: Any, fabric: Fabric) -> float:
    """Pictures a second, forward, backward and step."""
    network, *optimizers = fabric.setup(model.train(), *make_optimizers(model, recipe.optimizer))
    seconds, pictures = 0.0, 0
    for number, batch in enumerate(batches):
        start = time.perf_counter()
        fabric.backward(detection.step(network, batch)["loss"])
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if fabric.device.type == "cuda":
            torch.cuda.synchronize()
        if number:
            seconds, pictures = seconds + time.perf_counter() - start, pictures + len(batch[0])
    return pictures / seconds


def evaluation(model: nn.Module, data: Data, count: int, fabric: Fabric) -> float:
    """Pictures a second, metrics and all."""
    model.eval()
    with torch.no_grad(), fabric.autocast():
        detection.evaluate(model, data.validation[:2], data.meta["classes"])  # type: ignore[arg-type]
        start = time.perf_counter()
        detection.evaluate(model, data.validation[:count], data.meta["classes"])  # type: ignore[arg-type]
    return count / (time.perf_counter() - start)


def measure(task_id: str, size: int, steps: int, count: int, precision: str) -> list[dict[str, Any]]:
    task: Any = get_task(task_id)
    recipe = replace(task.recipe(), min_size=size, max_size=2 * size)
    data = data_for(task, recipe)
    batches = [batch for batch, _ in zip(task.batches(data.train, recipe, Epoch(0, 0)), range(steps + 1), strict=False)]
    plain = getattr(zoo, NAMES[task_id])(
        weights=None, weights_backbone=None, num_classes=len(data.meta["classes"]) + 1, min_size=size, max_size=2 * size
    )
    found = []
    for who, model in (("decathlon", task.model(recipe, data.meta)), ("torchvision", plain)):
        # torchvision's batches are drawn from all shapes, so they are padded.
        mixed = batches if who == "decathlon" else padded(batches)
        fabric = Fabric(accelerator="auto", devices=1, precision=precision if who == "decathlon" else "32-true")  # type: ignore[arg-type]
        model.to(fabric.device)
        found.append(
            {
                "task": task_id,
                "of": who,
                "data": data.name,
                "size": size,
                "batch": recipe.batch_size,
                "precision": precision if who == "decathlon" else "32-true",
                "training_per_second": round(training(model, mixed, recipe, fabric), 2),
                "evaluation_per_second": round(evaluation(model, data, count, fabric), 2),
                "device": fabric.device.type,
                "threads": torch.get_num_threads(),
            }
        )
    return found


def padded(batches: list[Batch]) -> list[Batch]:
    """The same pictures, dealt round: each batch has several shapes."""
    pictures = [picture for batch in batches for picture in batch[0]]
    targets = [target for batch in batches for target in batch[1]]
    many = len(batches)
    return [(pictures[number::many], targets[number::many]) for number in range(many)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=320, help="shorter side of a picture, pixels")
    parser.add_argument("--steps", type=int, default=3, help="training steps that are timed")
    parser.add_argument("--count", type=int, default=16, help="pictures that are evaluated")
    parser.add_argument("--precision", default="32-true", help="of decathlon's rows")
    parser.add_argument("--task", choices=list(NAMES), action="append", help="default: both")
    options = parser.parse_args()
    for task_id in options.task or NAMES:
        for row in measure(task_id, options.size, options.steps, options.count, options.precision):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
