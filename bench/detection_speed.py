"""Images a second in training and evaluation: the two detectors' recipes beside torchvision's defaults.

Run: python bench/detection_speed.py [--size 320] [--steps 3] [--precision bf16-mixed] [--backbone timm/NAME].
It takes PASCAL VOC where the data folder has it, else the sample, which is scaled up; the first step of each is not
counted. A batch has the recipe's number of images, of a similar aspect ratio. torchvision's row has its defaults for
everything but the image size: all 512 sampled and 2,000 proposals in Faster R-CNN, no norm in RetinaNet's heads, images
padded to the largest.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in decathlon.__main__

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from torchvision.models import detection as zoo

from decathlon.data.base import Data, EpochShard, parse_source
from decathlon.data.transforms.detection import Batch
from decathlon.evaluation import detection
from decathlon.tasks.base import get_task
from decathlon.training.memory import keep_freed_memory
from decathlon.training.optim import make_optimizers

NAMES = {"voc-faster-rcnn": "fasterrcnn_mobilenet_v3_large_320_fpn", "voc-retinanet": "retinanet_resnet50_fpn"}


def data_for(task: Any, recipe: Any) -> Data:
    try:
        return task.load(parse_source("official", None, download=False), recipe)
    except FileNotFoundError:
        return task.load(parse_source("sample"), recipe)


def training(model: nn.Module, batches: list[Batch], recipe: Any, fabric: Fabric) -> float:
    """Images a second, forward, backward and step."""
    network, *optimizers = fabric.setup(model.train(), *make_optimizers(model, recipe.optimizer))
    seconds, images = 0.0, 0
    for number, batch in enumerate(batches):
        start = time.perf_counter()
        fabric.backward(detection.training_loss(network, batch)["loss"])
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if fabric.device.type == "cuda":
            torch.cuda.synchronize()
        if number:
            seconds, images = seconds + time.perf_counter() - start, images + len(batch[0])
    return images / seconds


def evaluation(model: nn.Module, data: Data, count: int) -> float:
    """Images a second, metrics included; in float32, as everywhere."""
    model.eval()
    with torch.no_grad():
        detection.evaluate(model, data.validation[:2], data.info.classes)  # type: ignore[arg-type]
        start = time.perf_counter()
        detection.evaluate(model, data.validation[:count], data.info.classes)  # type: ignore[arg-type]
    return count / (time.perf_counter() - start)


def measure(task_id: str, ours: bool, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    task: Any = get_task(task_id)
    recipe = replace(task.recipe(), min_size=options.size, max_size=2 * options.size)
    data = data_for(task, recipe)
    indices = range(options.steps + 1)
    batches = [batch for batch, _ in zip(task.batches(data.train, recipe, EpochShard(0, 0)), indices, strict=False)]
    sizes = {"min_size": options.size, "max_size": 2 * options.size}
    if ours:
        with_timm = replace(recipe, backbone=options.backbone)
        networks = {
            "decathlon": task.model(recipe, data.info),
            f"decathlon, {options.backbone}": task.model(with_timm, data.info),
        }
    else:
        classes = len(data.info.classes) + 1
        plain = getattr(zoo, NAMES[task_id])(weights=None, weights_backbone=None, num_classes=classes, **sizes)
        networks, batches = {"torchvision": plain}, padded(batches)
    precision: Any = options.precision if ours else "32-true"
    for who, model in networks.items():
        fabric = Fabric(accelerator="auto", devices=1, precision=precision)
        model.to(fabric.device)
        yield {
            "task": task_id,
            "of": who,
            "data": data.name,
            "size": options.size,
            "batch": recipe.batch_size,
            "precision": precision,
            "training_per_second": round(training(model, batches, recipe, fabric), 2),
            "evaluation_per_second": round(evaluation(model, data, options.count), 2),
            "device": fabric.device.type,
            "threads": torch.get_num_threads(),
        }


def padded(batches: list[Batch]) -> list[Batch]:
    """The same images, dealt round: each batch has several shapes, as torchvision's have, so that it is padded."""
    images = [image for batch in batches for image in batch[0]]
    targets = [target for batch in batches for target in batch[1]]
    many = len(batches)
    return [(images[number::many], targets[number::many]) for number in range(many)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=320, help="shorter side of an image, pixels")
    parser.add_argument("--steps", type=int, default=3, help="training steps that are timed")
    parser.add_argument("--count", type=int, default=16, help="images that are evaluated")
    parser.add_argument("--precision", default="32-true", help="of decathlon's rows")
    parser.add_argument("--backbone", default="timm/tf_efficientnet_lite0", help="of the rows with timm")
    parser.add_argument("--task", choices=list(NAMES), action="append", help="default: both")
    options = parser.parse_args()
    for ours in (False, True):  # torchvision first, since what follows cannot be taken back
        if ours:
            keep_freed_memory()  # as `train` and `evaluate` do
        for task_id in options.task or NAMES:
            for row in measure(task_id, ours, options):
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
