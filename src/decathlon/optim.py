"""How the weights move: the optimiser, its schedule, and the average of the weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from decathlon.recipe import Optimizer


def make_optimizer(model: nn.Module, options: Optimizer) -> torch.optim.Optimizer:
    """AdamW or SGD with Nesterov momentum; only matrices and kernels decay (biases and norms have one dimension)."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if options.name == "sgd":
        return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum, nesterov=options.momentum > 0)
    return torch.optim.AdamW(groups, lr=options.lr, betas=(options.momentum, options.beta2), fused=True)


def set_lr(optimizer: torch.optim.Optimizer, options: Optimizer, progress: float) -> None:
    """One-cycle (Smith 2018, arXiv:1803.09820), a pure function of the progress from 0 to 1."""
    if progress < options.warmup:
        factor = 0.04 + 0.96 * progress / options.warmup
    else:
        factor = 0.5 + 0.5 * math.cos(math.pi * (progress - options.warmup) / (1 - options.warmup))
    for group in optimizer.param_groups:
        group["lr"] = options.lr * factor


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move the averaged weights (batch norm's statistics too) towards the current ones; faster in the first steps."""
    decay = min(decay, (1 + step) / (10 + step))
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)
