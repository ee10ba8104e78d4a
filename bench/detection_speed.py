"""Images a second in training and evaluation: the two detectors' recipes beside torchvision's defaults.

Run: python bench/detection_speed.py [--size 320] [--rounds 5] [--precision bf16-mixed] [--backbone timm/NAME].
It takes PASCAL VOC where the data folder has it, else the sample, which is scaled up. Each network has a process of its
own, and they take turns: in a round each makes one training step and evaluates 16 images. The rows have the medians;
a first round is not counted. A batch has the recipe's number of images, of a similar aspect ratio. torchvision's row
has its defaults for everything but the image size: all 512 sampled and 2,000 proposals in Faster R-CNN, no norm in
RetinaNet's heads, images padded to the largest.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in decathlon.__main__

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import detection as zoo

from decathlon.data.base import Data, EpochShard, parse_source
from decathlon.data.transforms.detection import Batch
from decathlon.evaluation import detection
from decathlon.tasks.base import base_recipe, get_task
from decathlon.training.memory import keep_freed_memory
from decathlon.training.optim import make_optimizers

NAMES = {"voc-faster-rcnn": "fasterrcnn_mobilenet_v3_large_320_fpn", "voc-retinanet": "retinanet_resnet50_fpn"}
EVALUATED = 16  # images of a round


def data_for(task: Any, recipe: Any) -> Data:
    try:
        return task.load(parse_source("official", None, download=False), recipe)
    except FileNotFoundError:
        return task.load(parse_source("sample"), recipe)


def rounds_of(task_id: str, of: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each round: images a second in a training step, forward and backward, and in evaluation with metrics.

    Args:
        task_id: The detector.
        of: `torchvision`, or the backbone of ours.
        options: Of the command line.
    """
    task: Any = get_task(task_id)
    recipe: Any = base_recipe(task, "official", "best" if of.startswith("timm/") else "fast")
    recipe = replace(recipe, min_size=options.size, max_size=2 * options.size)
    data = data_for(task, recipe)
    indices = range(options.rounds + 1)
    batches = [batch for batch, _ in zip(task.batches(data.train, recipe, EpochShard(0, 0)), indices, strict=False)]
    if of == "torchvision":
        sizes = {"min_size": options.size, "max_size": 2 * options.size}
        classes = len(data.info.classes) + 1
        model = getattr(zoo, NAMES[task_id])(weights=None, weights_backbone=None, num_classes=classes, **sizes)
        batches = padded(batches)
    else:
        keep_freed_memory()  # as `train` and `evaluate` do
        model = task.model(replace(recipe, backbone=of), data.info)
    precision: Any = "32-true" if of == "torchvision" else options.precision
    fabric = Fabric(accelerator="auto", devices=1, precision=precision)
    model.to(fabric.device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:  # of an image with sides like 3:4
        model.eval()([torch.rand(3, options.size, options.size * 4 // 3, device=fabric.device)])
    network, *optimizers = fabric.setup(model, *make_optimizers(model, recipe.optimizer))
    for batch in batches:
        model.train()
        start = time.perf_counter()
        fabric.backward(detection.training_loss(network, batch)["loss"])
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if fabric.device.type == "cuda":
            torch.cuda.synchronize()
        trained = len(batch[0]) / (time.perf_counter() - start)
        model.eval()
        start = time.perf_counter()
        with torch.no_grad():
            detection.evaluate(model, data.validation[:EVALUATED], data.info.classes)  # type: ignore[arg-type]
        yield {
            "task": task_id,
            "of": of,
            "data": data.name,
            "size": options.size,
            "batch": recipe.batch_size,
            "precision": precision,
            "training_per_second": trained,
            "evaluation_per_second": min(EVALUATED, len(data.validation)) / (time.perf_counter() - start),
            "multiplications": counter.get_total_flops() // 2,
            "device": fabric.device.type,
            "threads": torch.get_num_threads(),
        }


def padded(batches: list[Batch]) -> list[Batch]:
    """The same images, dealt round: each batch has several shapes, as torchvision's have, so that it is padded."""
    images = [image for batch in batches for image in batch[0]]
    targets = [target for batch in batches for target in batch[1]]
    many = len(batches)
    return [(images[number::many], targets[number::many]) for number in range(many)]


def take_turns(pipe: Connection, task_id: str, of: str, options: argparse.Namespace) -> None:
    """Send a row for each message that comes."""
    rows = rounds_of(task_id, of, options)
    while pipe.recv():
        pipe.send(next(rows))


def measure(task_id: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each network, with the medians of its rounds."""
    context = get_context("spawn")
    names = ["torchvision", get_task(task_id).recipe().backbone, options.backbone]  # type: ignore[attr-defined]
    pipes, processes = [], []
    for of in names:
        pipe, other = context.Pipe()
        pipes.append(pipe)
        processes.append(context.Process(target=take_turns, args=(other, task_id, of, options)))
        processes[-1].start()
        other.close()  # so that `recv` fails where the process has
    rounds = list[list[dict[str, Any]]]()
    for _ in range(options.rounds + 1):
        rounds.append([])
        for pipe in pipes:
            pipe.send(True)
            rounds[-1].append(pipe.recv())
    for number, (pipe, process) in enumerate(zip(pipes, processes, strict=True)):
        pipe.send(False)
        process.join()
        rows = [row[number] for row in rounds[1:]]
        speeds = ("training_per_second", "evaluation_per_second")
        yield rows[0] | {name: round(statistics.median(row[name] for row in rows), 2) for name in speeds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=320, help="shorter side of an image, pixels")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that are counted")
    parser.add_argument("--precision", default="32-true", help="of decathlon's rows")
    parser.add_argument("--backbone", default="timm/tf_efficientnet_lite0", help="of the rows with timm")
    parser.add_argument("--task", choices=list(NAMES), action="append", help="default: both")
    options = parser.parse_args()
    for task_id in options.task or NAMES:
        for row in measure(task_id, options):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
