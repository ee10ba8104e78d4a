"""What the input pipeline costs: indexing and augmenting a batch, as a share of a whole training step.

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

from decathlon import augment
from decathlon.data import Epoch, Split, source
from decathlon.data.voc import Scenes
from decathlon.optim import make_optimizers
from decathlon.recipe import get_task, task_ids

STEPS, WARMUP = 60, 10
FEW = 4, 1  # for pictures of full size, whose steps take seconds
DISTORTIONS = ("warp", "shifted")  # functions of decathlon.augment that tasks call


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
    """Milliseconds a step and the share of it that goes into input, medians over the steps."""
    task = get_task(task_id)
    recipe = task.recipe()
    small = task.load(source("sample"), recipe)
    count = 55_000 // len(small.train) + 1
    many = torch.arange(len(small.train)).repeat(count)
    split = small.train[many]
    model = task.model(recipe, small.meta, split).train()
    optimizers = make_optimizers(model, recipe.optimizer)
    clocks = [Clock(getattr(augment, name)) for name in DISTORTIONS]
    for name, clock in zip(DISTORTIONS, clocks, strict=True):
        if name in vars(task):
            vars(task)[name] = clock
    batches = iter(task.batches(replace(small, train=split).train, recipe, Epoch(0, 0)))
    steps, shares = [], []
    count, warmup = FEW if isinstance(split, Scenes) else (STEPS, WARMUP)
    for number in range(count + warmup):
        before = sum(clock.seconds for clock in clocks)
        start = time.perf_counter()
        batch = next(batches)
        fetched = time.perf_counter() - start
        one_step(task, model, batch, recipe, optimizers)
        whole = time.perf_counter() - start
        if number >= warmup:
            steps.append(whole)
            shares.append((fetched + sum(clock.seconds for clock in clocks) - before) / whole)
    return {
        "task": task_id,
        "batch": recipe.batch_size,
        "milliseconds_a_step": round(1000 * statistics.median(steps), 2),
        "input_share": round(statistics.median(shares), 4),
        "threads": torch.get_num_threads(),
    }


def one_step(task: Any, model: nn.Module, batch: Split, recipe: Any, optimizers: list[torch.optim.Optimizer]) -> Tensor:
    loss: Tensor = task.step(model, batch, recipe)["loss"]
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
