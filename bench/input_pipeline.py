"""The cost of the input pipeline: indexing and augmenting a batch, as a fraction of a training step.

Run: make bench. It needs no data but the sample, repeated to the size of MNIST. The bound for images in memory is 10 %.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in decathlon.__main__

import json
import statistics
import sys
import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from decathlon.data.base import EpochShard, Split, parse_source
from decathlon.data.transforms import augment
from decathlon.data.voc import DetectionSplit
from decathlon.tasks.base import get_task, task_ids
from decathlon.training.optim import make_optimizers

STEPS, WARMUP = 60, 10
DETECTION_STEPS = 4, 1  # steps and warm-up of the detectors, whose steps take seconds
# Functions of decathlon.data.transforms.augment that tasks call.
AUGMENTATIONS = ("color_jitter", "random_affine", "random_translate", "warp")


class Clock:
    """Adds up the seconds that calls of a function take."""

    def __init__(self, function: Any) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = self.function(*args, **kwargs)
        self.seconds += time.perf_counter() - start
        return result


def measure(task_id: str) -> dict[str, Any]:
    """Milliseconds per step, and the fraction spent on input, medians over the steps."""
    task = get_task(task_id)
    recipe = task.recipe()
    data = task.load(parse_source("sample"), recipe)
    count = 55_000 // len(data.train) + 1
    repeated = torch.arange(len(data.train)).repeat(count)
    split = data.train[repeated]
    model = task.model(recipe, data.info, split).train()
    optimizers = make_optimizers(model, recipe.optimizer)
    clocks = [Clock(getattr(augment, name)) for name in AUGMENTATIONS]
    for name, clock in zip(AUGMENTATIONS, clocks, strict=True):
        if name in vars(task):
            vars(task)[name] = clock
    batches = iter(task.batches(replace(data, train=split).train, recipe, EpochShard(0, 0)))
    steps, fractions = [], []
    count, warmup = DETECTION_STEPS if isinstance(split, DetectionSplit) else (STEPS, WARMUP)
    for number in range(count + warmup):
        before = sum(clock.seconds for clock in clocks)
        start = time.perf_counter()
        batch = next(batches)
        fetched = time.perf_counter() - start
        train_step(task, model, batch, recipe, optimizers)
        step_seconds = time.perf_counter() - start
        if number >= warmup:
            steps.append(step_seconds)
            fractions.append((fetched + sum(clock.seconds for clock in clocks) - before) / step_seconds)
    return {
        "task": task_id,
        "batch": recipe.batch_size,
        "milliseconds_a_step": round(1000 * statistics.median(steps), 2),
        "input_share": round(statistics.median(fractions), 4),
        "threads": torch.get_num_threads(),
    }


def train_step(
    task: Any, model: nn.Module, batch: Split, recipe: Any, optimizers: list[torch.optim.Optimizer]
) -> Tensor:
    loss: Tensor = task.training_loss(model, batch, recipe)["loss"]
    model.zero_grad()
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
    return loss


def main() -> int:
    rows = [measure(task_id) for task_id in task_ids()]
    for row in rows:
        print(json.dumps(row))
    return int(any(row["input_share"] > 0.1 for row in rows))


if __name__ == "__main__":
    sys.exit(main())
