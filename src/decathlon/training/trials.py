"""Short trials of a network before its training: single steps on one batch, and a training on a small part of the data.

They use the task's own loss, batches, optimizer and loop. What they measure is compared with the reference network, the
task's own, in the same trial.
"""

from __future__ import annotations

import copy
import dataclasses
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from decathlon.data.base import Data, EpochShard, derive_seed
from decathlon.runs.folder import read_lines
from decathlon.tasks.base import Task
from decathlon.tasks.recipe import Recipe
from decathlon.training.loop import Interrupted, fit, measure
from decathlon.training.optim import make_optimizers, set_lr

OVERFIT_EXAMPLES = (2, 32)  # of the batch to overfit: the fewest, for slow networks, and the most
OVERFIT_SECONDS, OVERFIT_STEPS = 8.0, (12, 60)  # for each network; and the fewest and most steps
PART_SECONDS, PART_EPOCHS, PART_STEPS = 25.0, 4, (3, 60)  # for each network; the steps of an epoch
VALIDATION_EXAMPLES = 20  # of the small part at least, unless that takes too long


class Trial:
    """A copy of a network, with the recipe's optimizer, that is trained for a few steps apart from any run.

    Args:
        task: Whose loss is minimised.
        model: What the task makes of the network.
        recipe: The hyperparameters.
        fabric: Device and precision.
    """

    def __init__(self, task: Task, model: nn.Module, recipe: Recipe, fabric: Fabric) -> None:
        self.task, self.recipe, self.fabric = task, recipe, fabric
        self.model = copy.deepcopy(model).to(fabric.device).train()
        self.optimizers = make_optimizers(self.model, recipe.optimizer)

    def backward(self, batch: Any, seed: int) -> float:
        """The loss of a batch, with gradients in the parameters; augmentation and dropout depend on `seed` only."""
        torch.manual_seed(derive_seed(self.recipe.seed, seed))
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        with self.fabric.autocast():
            loss = self.task.training_loss(self.model, batch, self.recipe)["loss"]
        loss.backward()
        return loss.item()

    def step(self, progress: float) -> None:
        """Update the parameters, at this point of the schedule from 0 to 1."""
        set_lr(self.optimizers, self.recipe.optimizer, progress)
        limit = self.recipe.optimizer.max_grad_norm
        for optimizer in self.optimizers:
            if limit and not isinstance(optimizer, torch.optim.SparseAdam):
                torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], limit)
            optimizer.step()

    def overfit(self, batch: Any, steps: int) -> list[float]:
        """The losses of some steps on one batch, always with the same augmentation, so that it can be overfitted.

        It ends early at a loss that is NaN or infinite.
        """
        losses = list[float]()
        for number in range(steps):
            losses.append(self.backward(batch, 0))
            if not torch.tensor(losses[-1]).isfinite():
                break
            self.step(number / steps)
        return losses


@dataclass(frozen=True)
class ReferenceTrial:
    """How the reference network does in the trials, and how long these are.

    Attributes:
        key: Of recipe, data and version: what the numbers are good for.
        examples: In the batch to overfit, at most.
        seconds: Of a step on it.
        steps: Of overfitting it.
        losses: Of each of these steps.
        train_size: Examples of the small part for training.
        validation_size: Examples of the small part for validation.
        batch_size: On the small part.
        untrained: The validation metric before training.
        curve: For each epoch `loss` (training) and `value` (validation metric).
    """

    key: str
    examples: int
    seconds: float
    steps: int
    losses: list[float]
    train_size: int
    validation_size: int
    batch_size: int
    untrained: float
    curve: list[dict[str, float]]


def one_batch(task: Task, data: Data, recipe: Recipe, examples: int = OVERFIT_EXAMPLES[1]) -> Any:
    """A training batch of at most so many examples, drawn with the seed."""
    part = draw(data.train, examples, recipe.seed)
    small = dataclasses.replace(recipe, batch_size=min(recipe.batch_size, len(part)))
    return next(iter(task.batches(part, small, EpochShard(recipe.seed, recipe.epochs - 1))))


def draw(split: Any, count: int, seed: int) -> Any:
    """A random part of a split."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(derive_seed(seed)))
    return split[order[:count].to(split.targets.device)]


def try_reference(task: Task, data: Data, recipe: Recipe, fabric: Fabric, key: str) -> ReferenceTrial:
    """Put the reference network through the trials, which it sets the length of."""
    torch.manual_seed(derive_seed(recipe.seed))
    model = task.model(recipe, data.info, data.train).to(fabric.device)
    examples = min(OVERFIT_EXAMPLES[1], recipe.batch_size)
    seconds = step_seconds(task, model, one_batch(task, data, recipe, examples), recipe, fabric)
    while seconds * OVERFIT_STEPS[0] > OVERFIT_SECONDS and examples > OVERFIT_EXAMPLES[0]:
        examples = max(OVERFIT_EXAMPLES[0], examples // 4)
        seconds = step_seconds(task, model, one_batch(task, data, recipe, examples), recipe, fabric)
    steps = _clamp(OVERFIT_SECONDS / seconds, OVERFIT_STEPS)
    losses = Trial(task, model, recipe, fabric).overfit(one_batch(task, data, recipe, examples), steps)
    epoch_steps = _clamp(PART_SECONDS / (1.5 * PART_EPOCHS * seconds), PART_STEPS)  # half as long to evaluate
    train_size = min(len(data.train), epoch_steps * examples)
    few = min(VALIDATION_EXAMPLES, int(PART_SECONDS * examples / (PART_EPOCHS * seconds)))
    sizes = train_size, min(len(data.validation), max(few, train_size // 2)), examples
    part, _ = small_part(data, recipe, *sizes)
    untrained = measure(task, copy.deepcopy(model), part, "validation", recipe, fabric)[task.SPEC.metric]
    curve = learn_part(task, model, data, recipe, fabric, *sizes)
    return ReferenceTrial(key, examples, seconds, steps, losses, *sizes, untrained, curve)


def step_seconds(task: Task, model: nn.Module, batch: Any, recipe: Recipe, fabric: Fabric) -> float:
    """Time of a training step: the faster of two, since the first one allocates memory."""
    trial, seconds = Trial(task, model, recipe, fabric), list[float]()
    for _ in range(2):
        start = time.perf_counter()
        trial.backward(batch, 0)
        trial.step(0.0)
        seconds.append(time.perf_counter() - start)
    return max(1e-4, min(seconds))


def _clamp(value: float, limits: tuple[int, int]) -> int:
    return min(max(int(value), limits[0]), limits[1])


def small_part(
    data: Data, recipe: Recipe, train_size: int, validation_size: int, batch_size: int
) -> tuple[Data, Recipe]:
    """A random part of the data, without a test split, and the recipe for it."""
    train, validation = draw(data.train, train_size, recipe.seed), draw(data.validation, validation_size, recipe.seed)
    part = dataclasses.replace(data, train=train, validation=validation, test=validation)
    return part, dataclasses.replace(recipe, epochs=PART_EPOCHS, batch_size=batch_size, ema=0.0, compile=False)


def learn_part(
    task: Task,
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    fabric: Fabric,
    train_size: int,
    validation_size: int,
    batch_size: int,
) -> list[dict[str, float]]:
    """Train a copy of a network on a small part: for each epoch the training `loss` and the validation `value`.

    Raises:
        FloatingPointError: The loss became NaN or infinite.
    """
    part, short = small_part(data, recipe, train_size, validation_size, batch_size)
    with tempfile.TemporaryDirectory(prefix="decathlon-") as folder:
        try:
            fit(task, copy.deepcopy(model), part, short, Path(folder), fabric)
        except (Interrupted, FloatingPointError) as error:  # their last clause names a checkpoint in this folder
            raise type(error)(str(error).rpartition("; ")[0]) from None
        lines = read_lines(Path(folder, "metrics.jsonl"))
    return [{"loss": line["train"]["loss"], "value": line["validation"][task.SPEC.metric]} for line in lines]
