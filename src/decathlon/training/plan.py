"""The plan of a training: data, sizes, steps, device, and an estimate of the time."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence

import torch
from lightning_fabric import Fabric
from torch import nn

from decathlon.data.base import Data, EpochShard, steps_per_epoch
from decathlon.messages import duration, pluralize, say
from decathlon.runs.records import Plan
from decathlon.tasks.base import Task
from decathlon.tasks.recipe import Recipe

MIN_STEPS = 100  # of training on the user's own data: fewer give a warning
MAX_LISTED_CLASSES = 20


def make_plan(
    task: Task, model: nn.Module, data: Data, recipe: Recipe, recipe_name: str, fabric: Fabric, violations: list[str]
) -> Plan:
    """Plan a training: sizes, steps, devices, and an estimate of the time."""
    return Plan(
        task=task.SPEC.id,
        data=data.name,
        sizes=data.sizes,
        classes=data.info.classes,
        recipe=recipe_name,
        parameters=count_parameters(model),
        epochs=recipe.epochs,
        steps=recipe.epochs * steps_per_epoch(data.train, recipe.batch_size),
        device=fabric.device.type,
        processes=fabric.world_size,
        threads=torch.get_num_threads(),
        estimated_seconds=estimate_seconds(task, model, data, recipe, fabric),
        violations=violations,
        from_scratch=getattr(recipe, "weights", "") == "none" and not data.info.is_sample,
    )


def count_parameters(model: nn.Module) -> int:
    """Trained parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def estimate_seconds(task: Task, model: nn.Module, data: Data, recipe: Recipe, fabric: Fabric) -> float:
    """Training time, extrapolated from steps of the first and last epoch (image sizes may differ) on a copy."""
    trial, steps = copy.deepcopy(model).to(fabric.device).train(), steps_per_epoch(data.train, recipe.batch_size)

    def step_seconds(number: int) -> float:
        """The faster of two steps of an epoch, since the first one allocates memory."""
        epoch = EpochShard(recipe.seed, number, 0, fabric.global_rank, fabric.world_size)
        seconds = list[float]()
        batches = iter(task.batches(data.train, recipe, epoch))
        for _ in range(min(2, steps)):
            start = time.perf_counter()
            with fabric.autocast():
                loss = task.training_loss(trial, next(batches), recipe)["loss"]
            loss.backward()
            if fabric.device.type == "cuda":  # which works asynchronously
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    return (step_seconds(0) + step_seconds(recipe.epochs - 1)) / 2 * recipe.epochs * steps


def print_plan(plan: Plan, remarks: Sequence[str]) -> None:
    """The plan in two lines, with warnings about few steps, architecture violations, and `remarks` on the network."""
    sizes = ", ".join(f"{number:,} {name}" for name, number in plan.sizes.items())
    say(f"{plan.task} on {plan.data} ({sizes})" + (", recipe best" if plan.recipe == "best" else ""))
    devices = f"{plan.device} ({plan.processes} × {pluralize(plan.threads, 'thread')})"
    length = f"{pluralize(plan.epochs, 'epoch')}, {pluralize(plan.steps, 'step')}"
    say(f"{plan.parameters:,} parameters, {length} on {devices}: about {duration(plan.estimated_seconds)} of training")
    is_own = plan.data.startswith("own:")
    if is_own and plan.classes:
        names = plan.classes[:MAX_LISTED_CLASSES] + (["…"] if len(plan.classes) > MAX_LISTED_CLASSES else [])
        say(f"classes ({len(plan.classes):,}): {', '.join(names)}")
    if plan.steps < MIN_STEPS and is_own:
        say(f"{pluralize(plan.steps, 'step')} may be too few to learn much: a smaller --batch-size makes more")
    if plan.from_scratch:
        say(
            "from scratch a detector learns little from fewer than tens of thousands of images: "
            f"--recipe best --weights {plan.task} begins with the weights that ship"
        )
    for violation in plan.violations:
        say(f"this is not the network of {plan.task}, so its result gets a row of its own, without a bar: {violation}")
    for remark in remarks:
        say(f"this network may be wrong: {remark}")
