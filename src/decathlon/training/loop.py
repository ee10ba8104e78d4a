"""The training loop of all tasks.

Every step seeds torch's global generator by (seed, step, rank), and the order of an epoch's examples depends only on
(seed, epoch). So a checkpoint needs no random state, and on a CPU a resumed run is bit-identical.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from shlex import quote

import torch
from lightning_fabric import Fabric
from torch import nn

from decathlon.data.base import Data, EpochShard, derive_seed, steps_per_epoch
from decathlon.runs import folder as run_folder
from decathlon.tasks.base import Task
from decathlon.tasks.recipe import Optimizer, Recipe
from decathlon.training import checkpoint, tensorboard
from decathlon.training.checkpoint import State
from decathlon.training.loss_sums import add_losses, check_finite, gather_sums, mean_over_processes
from decathlon.training.optim import set_lr, update_ema
from decathlon.training.prepare import Training, prepare
from decathlon.training.progress import ProgressBar, catch_interrupts

SAVE_EVERY = 600  # seconds between two checkpoints within an epoch
CHECK_EVERY = 50  # steps between two checks of the loss for NaN: reading it makes a GPU wait


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
    """Train `model` by `recipe` on `data.train`; with `until_bar` stop when the validation metric reaches `bar`.

    Returns:
        The network to keep (with `recipe.ema` the EMA of the weights), and the final state.

    Raises:
        FloatingPointError: The loss or a weight became NaN or infinite; the last good checkpoint stays.
        Interrupted: Ctrl-C or SIGTERM.
    """
    training = prepare(task.SPEC.id, model, recipe, folder, fabric, resume)
    state, clock, steps = training.state, training.clock, steps_per_epoch(data.train, recipe.batch_size)
    total_steps = recipe.epochs * steps
    with catch_interrupts() as interrupt, ProgressBar(task.SPEC.id, total_steps, fabric.is_global_zero) as progress:
        while state.epoch < recipe.epochs and not (until_bar and state.seconds_to_bar is not None):
            training.network.train()
            torch.manual_seed(derive_seed(recipe.seed, state.epoch, state.batch, fabric.global_rank))
            shard = EpochShard(recipe.seed, state.epoch, state.batch, fabric.global_rank, fabric.world_size)
            clock.start()
            batches = iter(task.batches(data.train, recipe, shard))
            while state.batch < steps:
                torch.manual_seed(derive_seed(recipe.seed, state.step, fabric.global_rank))
                set_lr(training.optimizers, recipe.optimizer, state.step / total_steps)
                losses = task.training_loss(training.network, next(batches), recipe)
                fabric.backward(losses["loss"])
                step_optimizers(training, recipe.optimizer)
                state.step, state.batch = state.step + 1, state.batch + 1
                if recipe.ema:
                    update_ema(training.ema_model, model, recipe.ema, state.step)
                add_losses(training.sums, losses, state.step)
                clock.skip_compilation()
                progress.update(state, training.sums)
                if state.batch < steps:  # the end of the epoch saves, and stops, too: one checkpoint for each step
                    save_if_due(training)
                    stop_if_interrupted(training, interrupt)
            clock.stop()
            check_finite(training.sums, state, folder)
            train_metrics = mean_over_processes(training.sums, state.batch, fabric)
            state.epoch, state.batch, training.sums = state.epoch + 1, 0, {}
            kept_model = model_to_keep(training)
            metrics = measure(task, kept_model, data, "validation", recipe, fabric)
            if bar is not None and metrics[task.SPEC.metric] >= bar and state.seconds_to_bar is None:
                state.seconds_to_bar = state.train_seconds
            log_epoch(training, train_metrics, metrics)
            tensorboard.log_predictions(fabric, task, kept_model, data, recipe, state)
            progress.show_metric(state, task.SPEC.metric, metrics[task.SPEC.metric])
            save(training)
            if any_process(interrupt.is_set(), fabric):  # during validation; after the last epoch no step would see it
                raise interrupted(training)
    return training.ema_model, state


def measure(task: Task, model: nn.Module, data: Data, split: str, recipe: Recipe, fabric: Fabric) -> dict[str, float]:
    """Evaluate in one process, so that every example counts once, and broadcast the metrics; the others wait.

    In float32, whatever the training's precision: sums in bfloat16 differ between processors.
    """
    metrics: dict[str, float] = {}
    with fabric.rank_zero_first():
        if fabric.is_global_zero:
            model.eval()
            with torch.no_grad():
                metrics = task.evaluate(model, data, split, recipe)
    return fabric.broadcast(metrics)


# --- Bookkeeping ------------------------------------------------------------------------------------------------------


def step_optimizers(training: Training, options: Optimizer) -> None:
    """Clip the gradients and step; sparse gradients are not clipped."""
    for optimizer, fabric_optimizer in zip(training.optimizers, training.fabric_optimizers, strict=True):
        if options.max_grad_norm and not isinstance(optimizer, torch.optim.SparseAdam):
            training.fabric.clip_gradients(
                training.network, fabric_optimizer, max_norm=options.max_grad_norm, error_if_nonfinite=False
            )
        fabric_optimizer.step()
        fabric_optimizer.zero_grad()


def model_to_keep(training: Training) -> nn.Module:
    """The network to measure and keep, with whole weights."""
    if training.is_sharded:
        training.ema_model.load_state_dict(checkpoint.gather_shards(training.model.state_dict()))
    return training.ema_model


def log_epoch(training: Training, train_metrics: dict[str, float], metrics: dict[str, float]) -> None:
    """Append a line to metrics.jsonl, and one to timing.jsonl; pass the metrics to Fabric's loggers."""
    if training.fabric.is_global_zero:
        position = {"epoch": training.state.epoch, "step": training.state.step}
        line = position | {"train": train_metrics, "validation": metrics}
        run_folder.append_line(training.folder / "metrics.jsonl", line)
        timing = position | {"train_seconds": training.state.train_seconds}
        run_folder.append_line(training.folder / "timing.jsonl", timing)
        for split, values in (("train", train_metrics), ("validation", metrics)):
            named = {f"{split}/{name}": value for name, value in values.items()}
            training.fabric.log_dict(named, training.state.step)  # to the loggers, of which --tensorboard adds one


def save(training: Training) -> None:
    """Write a checkpoint. Raises FloatingPointError where a loss or weight is NaN or infinite."""
    training.saved_at = time.monotonic()
    check_finite(training.sums, training.state, training.folder, training.model)
    ema_model = training.ema_model if training.has_ema else training.model
    sums = gather_sums(training.sums, training.fabric)
    tensors = checkpoint.pack(training.model, ema_model, training.optimizers, sums)
    if training.fabric.is_global_zero:
        checkpoint.save(training.folder, tensors, training.state, training.task_id)
    training.fabric.barrier()


def save_if_due(training: Training) -> None:
    """Every `CHECK_EVERY` steps check the losses, and every `SAVE_EVERY` seconds write a checkpoint."""
    if training.state.step % CHECK_EVERY == 0:
        check_finite(training.sums, training.state, training.folder)
        if any_process(time.monotonic() - training.saved_at > SAVE_EVERY, training.fabric):
            training.clock.stop()
            save(training)
            training.clock.start()


def stop_if_interrupted(training: Training, interrupt: threading.Event) -> None:
    """Save and raise Interrupted after Ctrl-C or SIGTERM; several GPUs, which a vote stalls, vote less often."""
    fabric, step = training.fabric, training.state.step
    if fabric.world_size > 1 and fabric.device.type == "cuda" and step % CHECK_EVERY:
        return
    if any_process(interrupt.is_set(), fabric):
        training.clock.stop()
        save(training)
        raise interrupted(training)


def interrupted(training: Training) -> Interrupted:
    """The exception after Ctrl-C or SIGTERM, once a checkpoint is written."""
    return Interrupted(f"interrupted at step {training.state.step}; continue: --resume {quote(str(training.folder))}")


def any_process(flag: bool, fabric: Fabric) -> bool:
    """Whether the flag is set in any process: all must stop at the same step, or they would wait for each other."""
    if fabric.world_size == 1:
        return flag
    votes = fabric.all_reduce(torch.tensor(float(flag), device=fabric.device), reduce_op="sum")
    return bool(torch.as_tensor(votes) > 0)
