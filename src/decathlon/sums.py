"""The losses of an epoch, summed up on the device: what is logged of them, and whether one of them is no number."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from decathlon import checkpoint
from decathlon.checkpoint import State


def add(sums: dict[str, Tensor], losses: dict[str, Tensor], step: int) -> None:
    """Sum what is logged, on the device; note there, without making it wait, the first step whose loss is no number."""
    for name, value in losses.items():
        value = value.detach().double()
        sums[name] = sums[name] + value if name in sums else value
    bad = torch.where(losses["loss"].detach().isfinite(), 0, step)
    sums["_bad"] = torch.where(sums["_bad"] > 0, sums["_bad"], bad) if "_bad" in sums else bad


def of_all(sums: dict[str, Tensor], fabric: Fabric) -> dict[str, Tensor]:
    """The sums of all processes side by side, each (processes,), for a checkpoint: each is to find its own again."""
    return {name: torch.as_tensor(fabric.all_gather(value)).reshape(-1) for name, value in sorted(sums.items())}


def own(known: dict[str, Tensor], fabric: Fabric) -> dict[str, Tensor]:
    """This process's sums, of those in a checkpoint; the mean of all, where so many processes are no longer."""
    sums = dict[str, Tensor]()
    for name, values in known.items():
        alike = values.numel() == fabric.world_size
        sums[name] = values.reshape(-1)[fabric.global_rank] if alike else values.double().mean().to(values.dtype)
    return sums


def mean_over_processes(sums: dict[str, Tensor], batches: int, fabric: Fabric) -> dict[str, float]:
    """What is logged of an epoch: each process has summed up the losses of its shares of the batches."""
    names = sorted(name for name in sums if name[0] != "_")
    means = torch.stack([sums[name] for name in names]) / batches
    return dict(zip(names, torch.as_tensor(fabric.all_reduce(means)).tolist(), strict=True))


def check_finite(sums: dict[str, Tensor], state: State, folder: Path, model: nn.Module | None = None) -> None:
    """Raise FloatingPointError where a loss since the epoch's start was no number, or a weight of `model` is none."""
    bad = int(sums["_bad"]) if "_bad" in sums else 0
    if not bad and model is not None and not all(bool(p.isfinite().all()) for p in model.parameters()):
        bad = state.step
    if bad:
        kept = checkpoint.last(folder)
        raise FloatingPointError(
            f"the loss or a weight is no number any more at step {bad} (epoch {state.epoch + 1}); "
            "try a lower --optimizer.lr; "
            + (f"the last good checkpoint is {kept}" if kept else "there is no earlier checkpoint")
        )
