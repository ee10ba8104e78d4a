"""Sums of an epoch's losses, kept on the device: their means for the log, and the check for NaN and infinity."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from decathlon.training import checkpoint
from decathlon.training.checkpoint import State

BAD_STEP = "_bad_step"  # among the sums: the first step with a non-finite loss, 0 for none


def add_losses(sums: dict[str, Tensor], losses: dict[str, Tensor], step: int) -> None:
    """Add the losses of a step to `sums`, and note the first step with a non-finite loss, without a device sync."""
    for name, value in losses.items():
        value = value.detach().double()
        sums[name] = sums[name] + value if name in sums else value
    bad_step = torch.where(losses["loss"].detach().isfinite(), 0, step)
    sums[BAD_STEP] = torch.where(sums[BAD_STEP] > 0, sums[BAD_STEP], bad_step) if BAD_STEP in sums else bad_step


def gather_sums(sums: dict[str, Tensor], fabric: Fabric) -> dict[str, Tensor]:
    """The sums of all processes, each (processes,), for a checkpoint; `own_sums` is the inverse."""
    return {name: torch.as_tensor(fabric.all_gather(value)).reshape(-1) for name, value in sorted(sums.items())}


def own_sums(gathered: dict[str, Tensor], fabric: Fabric) -> dict[str, Tensor]:
    """This process's sums out of a checkpoint's, on its device; the mean where the number of processes has changed."""
    sums = dict[str, Tensor]()
    for name, values in gathered.items():
        same_world = values.numel() == fabric.world_size
        own = values.reshape(-1)[fabric.global_rank] if same_world else values.double().mean().to(values.dtype)
        sums[name] = own.to(fabric.device)
    return sums


def mean_over_processes(sums: dict[str, Tensor], batches: int, fabric: Fabric) -> dict[str, float]:
    """The mean losses of an epoch, for the log: each process has the sums over its shards of the batches."""
    names = sorted(name for name in sums if name != BAD_STEP)
    means = torch.stack([sums[name] for name in names]) / batches
    return dict(zip(names, torch.as_tensor(fabric.all_reduce(means)).tolist(), strict=True))


def check_finite(sums: dict[str, Tensor], state: State, folder: Path, model: nn.Module | None = None) -> None:
    """Raise FloatingPointError for a NaN or infinite loss since the epoch's start, or such a weight of `model`."""
    bad_step = int(sums[BAD_STEP]) if BAD_STEP in sums else 0
    if not bad_step and model is not None and not all(bool(p.isfinite().all()) for p in model.parameters()):
        bad_step = state.step
    if bad_step:
        path = checkpoint.latest_path(folder)
        raise FloatingPointError(
            f"the loss or a weight is NaN or infinite at step {bad_step} (epoch {state.epoch + 1}); "
            "try a lower --optimizer.lr; "
            + (f"the last good checkpoint is {path}" if path else "there is no earlier checkpoint")
        )
