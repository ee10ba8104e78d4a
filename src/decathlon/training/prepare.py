"""Set-up of a training: network, optimisers and their state, new or restored from a checkpoint."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from torch import Tensor, nn

from decathlon.messages import say
from decathlon.runs import folder as run_folder
from decathlon.tasks.recipe import Recipe
from decathlon.training import checkpoint
from decathlon.training.checkpoint import State
from decathlon.training.loss_sums import own_sums
from decathlon.training.optim import make_optimizers
from decathlon.training.progress import Clock


@dataclass
class Training:
    """The network, optimisers and counters that the loop updates.

    Attributes:
        model: The network whose parameters are trained.
        ema_model: The EMA of its weights; without EMA `model` itself, or under FSDP a copy with all weights.
        is_sharded: Whether each process holds only a part of each weight (FSDP).
        network: `model` as Fabric wraps it for precision and gradient averaging.
        optimizers: torch's own optimisers.
        fabric_optimizers: The same as Fabric wraps them.
        sums: Sums of the losses of the epoch so far, on the device.
        saved_at: When the last checkpoint was written, by `time.monotonic`.
    """

    task_id: str
    folder: Path
    fabric: Fabric
    model: nn.Module
    ema_model: nn.Module
    has_ema: bool
    is_sharded: bool
    network: Any
    optimizers: list[torch.optim.Optimizer]
    fabric_optimizers: list[Any]
    state: State
    sums: dict[str, Tensor]
    clock: Clock
    saved_at: float = field(default_factory=time.monotonic)


def prepare(task_id: str, model: nn.Module, recipe: Recipe, folder: Path, fabric: Fabric, resume: bool) -> Training:
    """Set up network and optimisers, and with `resume` restore the last good checkpoint of `folder`."""
    state, sums = State(), dict[str, Tensor]()
    model = model.to(fabric.device)
    is_sharded = isinstance(fabric.strategy, ModelParallelStrategy)  # FSDP: each process holds a part of each weight
    ema_model = copy.deepcopy(model) if recipe.ema or is_sharded else model
    saved = checkpoint.load(folder, task_id) if resume else None
    if saved:
        state, saved_sums = checkpoint.restore(saved, model, ema_model if recipe.ema else model)
        sums = own_sums(saved_sums, fabric)
        if is_sharded:  # else a run that only lacks its end would keep its initial weights
            ema_model.load_state_dict(model.state_dict())
    elif resume:
        say(f"{folder} has no usable checkpoint: starting from the beginning")
    if resume:
        fabric.barrier()  # every process has read the checkpoint
        if fabric.is_global_zero:
            checkpoint.delete_after(folder, state.step)
            for name in ("metrics.jsonl", "timing.jsonl"):  # lines after the checkpoint will be written again
                run_folder.keep_lines(folder / name, state.epoch)
    if recipe.compile:
        model.compile()
    network = fabric.setup_module(model)
    optimizers = make_optimizers(model, recipe.optimizer)
    fabric_optimizers = [fabric.setup_optimizers(optimizer) for optimizer in optimizers]
    if saved:
        checkpoint.restore_optimizers(saved, optimizers)
    return Training(
        task_id=task_id,
        folder=folder,
        fabric=fabric,
        model=model,
        ema_model=ema_model,
        has_ema=bool(recipe.ema),
        is_sharded=is_sharded,
        network=network,
        optimizers=optimizers,
        fabric_optimizers=fabric_optimizers,
        state=state,
        sums=sums,
        clock=Clock(state, fabric.device, recipe.compile),
    )
