"""The one training loop.

Everything random in a step is drawn from a stream of its own (seed, step, process), and the order of an epoch from
(seed, epoch). So nothing random is stored: a resumed run goes on bit for bit as if it had not been interrupted.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from torch import Tensor, nn

from decathlon import checkpoint, run
from decathlon.checkpoint import State
from decathlon.data import Data, Epoch, say, steps_per_epoch, stream
from decathlon.optim import make_optimizers, set_lr, update_average
from decathlon.progress import Rows, interruptible
from decathlon.recipe import Recipe, Task
from decathlon.sums import add, check_finite, mean_over_processes, of_all, own

SAVE_EVERY = 600  # seconds between two checkpoints within an epoch
CHECK_EVERY = 50  # steps between two looks at whether the loss is still a number: a look makes a GPU wait


class Interrupted(RuntimeError):
    """Ctrl-C or SIGTERM: the training stopped between two steps and left a checkpoint."""


def fit(
    task: Task,
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    folder: Path,
    fabric: Fabric,
    bar: float | None = None,
    until_bar: bool = False,
    resume: bool = False,
) -> tuple[nn.Module, State]:
    """Train `model` by `recipe` on `data.train`, watching `data.validation`, with `until_bar` until that reaches `bar`.

    Returns:
        The network to keep (with `recipe.ema`, the average of the weights), and how it went.

    Raises:
        FloatingPointError: The loss or a weight is no number any more; the last good checkpoint stays.
        Interrupted: Ctrl-C or SIGTERM.
    """
    card, steps = task.CARD, steps_per_epoch(data.train, recipe.batch_size)
    state, sums = State(), dict[str, Tensor]()
    model = model.to(fabric.device)
    divided = isinstance(fabric.strategy, ModelParallelStrategy)  # each process has a share of the weights
    average = copy.deepcopy(model) if recipe.ema or divided else model
    found = checkpoint.load(folder, card.id) if resume else None
    if found:
        state, known = checkpoint.restore(found, model, average if recipe.ema else model)
        sums = own(known, fabric)
        if divided:  # else a run of which only the end is missing would keep what it began with
            average.load_state_dict(model.state_dict())
    elif resume:
        say(f"{folder} has no checkpoint that can be used: starting from the beginning")
    if resume:
        fabric.barrier()  # all have read it
        if fabric.is_global_zero:
            checkpoint.forget(folder, state.step)
            for name in ("metrics.jsonl", "timing.jsonl"):  # what was written after the checkpoint comes again
                run.keep_lines(folder / name, state.epoch)
    compiling = recipe.compile
    if compiling:
        model.compile()
    network = fabric.setup_module(model)
    optimizers = make_optimizers(model, recipe.optimizer)
    steppers: list[Any] = [fabric.setup_optimizers(optimizer) for optimizer in optimizers]
    if found:
        checkpoint.restore_optimizers(found, optimizers)
    waiting = fabric.world_size > 1 and fabric.device.type == "cuda"  # GPUs stand still while processes vote
    rows = Rows(card.id, recipe.epochs * steps, fabric.is_global_zero)

    saved = time.monotonic()

    def save() -> None:
        nonlocal saved
        saved = time.monotonic()
        check_finite(sums, state, folder, model)
        tensors = checkpoint.pack(model, average if recipe.ema else model, optimizers, of_all(sums, fabric))
        if fabric.is_global_zero:
            checkpoint.save(folder, tensors, state, card.id)
        fabric.barrier()

    with interruptible() as interrupt, rows:
        while state.epoch < recipe.epochs and not (until_bar and state.seconds_to_bar is not None):
            network.train()
            torch.manual_seed(stream(recipe.seed, state.epoch, state.batch, fabric.global_rank))
            share = Epoch(recipe.seed, state.epoch, state.batch, fabric.global_rank, fabric.world_size)
            clock = time.perf_counter() - state.train_seconds
            batches = iter(task.batches(data.train, recipe, share))
            while state.batch < steps:
                torch.manual_seed(stream(recipe.seed, state.step, fabric.global_rank))
                set_lr(optimizers, recipe.optimizer, state.step / (recipe.epochs * steps))
                losses = task.step(network, next(batches), recipe)
                fabric.backward(losses["loss"])
                for optimizer, stepper in zip(optimizers, steppers, strict=True):
                    if recipe.optimizer.clip and not isinstance(optimizer, torch.optim.SparseAdam):
                        fabric.clip_gradients(
                            network, stepper, max_norm=recipe.optimizer.clip, error_if_nonfinite=False
                        )
                    stepper.step()
                    stepper.zero_grad()
                state.step, state.batch = state.step + 1, state.batch + 1
                if recipe.ema:
                    update_average(average, model, recipe.ema, state.step)
                add(sums, losses, state.step)
                if compiling:  # which the first step did: no training time
                    clock, compiling = time.perf_counter() - state.train_seconds, False
                rows.update(state, sums)
                if state.step % CHECK_EVERY == 0:
                    check_finite(sums, state, folder)
                    if any_process(time.monotonic() - saved > SAVE_EVERY, fabric):
                        state.train_seconds = time.perf_counter() - clock
                        save()
                        clock = time.perf_counter() - state.train_seconds
                if not (waiting and state.step % CHECK_EVERY) and any_process(interrupt.is_set(), fabric):
                    state.train_seconds = time.perf_counter() - clock
                    save()
                    raise Interrupted(f"interrupted at step {state.step}; continue: --resume {folder}")
            if fabric.device.type == "cuda":
                torch.cuda.synchronize()
            state.train_seconds = time.perf_counter() - clock
            check_finite(sums, state, folder)
            losses_of_epoch = mean_over_processes(sums, state.batch, fabric)
            state.epoch, state.batch, sums = state.epoch + 1, 0, {}
            if divided:
                average.load_state_dict(checkpoint.entire(model.state_dict()))
            metrics = measure(task, average, data, "validation", recipe, fabric)
            if bar is not None and metrics[card.metric] >= bar and state.seconds_to_bar is None:
                state.seconds_to_bar = state.train_seconds
            if fabric.is_global_zero:
                place = {"epoch": state.epoch, "step": state.step}
                run.append_line(folder / "metrics.jsonl", place | {"train": losses_of_epoch, "validation": metrics})
                run.append_line(folder / "timing.jsonl", place | {"train_seconds": state.train_seconds})
            rows.measured(state, card.metric, metrics[card.metric])
            save()
    return average, state


def measure(task: Task, model: nn.Module, data: Data, split: str, recipe: Recipe, fabric: Fabric) -> dict[str, float]:
    """Evaluate on one process, so that every example counts once, and tell the others, however long it takes."""
    metrics: dict[str, float] = {}
    with fabric.rank_zero_first():
        if fabric.is_global_zero:
            model.eval()
            with torch.no_grad(), fabric.autocast():
                metrics = task.evaluate(model, data, split, recipe)
    return fabric.broadcast(metrics)


def any_process(asked: bool, fabric: Fabric) -> bool:
    """Whether any process was interrupted: all must stop at the same step, or they would wait for each other."""
    if fabric.world_size == 1:
        return asked
    votes = fabric.all_reduce(torch.tensor(float(asked), device=fabric.device), reduce_op="sum")
    return bool(torch.as_tensor(votes) > 0)
