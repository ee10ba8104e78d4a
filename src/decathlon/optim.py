"""How the weights move: the optimiser, its schedule, and the average of the weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from decathlon.recipe import Optimizer


def make_optimizers(model: nn.Module, options: Optimizer) -> list[torch.optim.Optimizer]:
    """AdamW or SGD with Nesterov momentum, and lazy Adam for embeddings with sparse gradients.

    Only matrices and kernels decay; biases and norms, which have one dimension, do not; nor do sparse embeddings, since
    most of their rows are not in the batch.
    """
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding) and m.sparse}
    parameters = [p for p in model.parameters() if p.requires_grad]
    sparse = [p for p in parameters if id(p) in embeddings]
    dense = [p for p in parameters if id(p) not in embeddings]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in dense if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in dense if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    betas = (options.momentum, options.beta2)
    made: list[torch.optim.Optimizer] = []
    if groups and options.name == "sgd":
        made.append(torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum, nesterov=options.momentum > 0))
    elif groups:
        made.append(torch.optim.AdamW(groups, lr=options.lr, betas=betas, fused=True))
    if sparse:
        made.append(torch.optim.SparseAdam(sparse, lr=options.lr, betas=betas))
    return made


def set_lr(optimizers: list[torch.optim.Optimizer], options: Optimizer, progress: float) -> None:
    """One-cycle (Smith 2018, arXiv:1803.09820), a pure function of the progress from 0 to 1."""
    if progress < options.warmup:
        factor = 0.04 + 0.96 * progress / options.warmup
    else:
        factor = 0.5 + 0.5 * math.cos(math.pi * (progress - options.warmup) / (1 - options.warmup))
    for optimizer in optimizers:
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
