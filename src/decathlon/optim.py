"""How the weights move: the optimiser, its schedule, and the average of the weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from decathlon.recipe import Optimizer

TINY = 1e-7  # what is divided by is at least this: a layer that does nothing has a gradient of 0
VECTORS = 0.05  # of Muon's learning rate is what Adam has beside it, for biases and norms


def make_optimizers(model: nn.Module, options: Optimizer) -> list[torch.optim.Optimizer]:
    """AdamW, SGD with Nesterov momentum, or Muon; and lazy Adam for embeddings with sparse gradients.

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
    elif groups and options.name == "muon":
        matrices, vectors = [[p for p in dense if (p.ndim > 1) == wanted] for wanted in (True, False)]
        made += [Muon(matrices, options.lr, options.momentum)] if matrices else []
        # Adam's steps have no relation to the weights' size, and biases and norms want small ones.
        small = {"params": vectors, "share": VECTORS}
        made += (
            [torch.optim.AdamW([small], betas=(0.9, options.beta2), weight_decay=0.0, fused=True)] if vectors else []
        )
    elif groups:
        made.append(torch.optim.AdamW(groups, lr=options.lr, betas=betas, fused=True))
    if sparse:
        made.append(torch.optim.SparseAdam(sparse, lr=options.lr, betas=betas))
    return made


class Muon(torch.optim.Optimizer):
    """Steps of which all directions are equally long, in proportion to the weights, whose length stays as it began.

    Weights that begin at 0, as the last ones of a block that is to add nothing at first, grow until they are as long as
    torch draws them where nobody says otherwise: each value has a variance of a third by the number of inputs.

    After Jordan et al. 2024, https://kellerjordan.github.io/posts/muon, and their CIFAR-10 speed runs. torch's own Muon
    takes no kernels of convolutions.

    Args:
        parameters: Matrices, and kernels (outputs, …), which count as matrices (outputs, rest).
        lr: Length of a step as a share of the weights' length.
        momentum: Of Nesterov's kind.
    """

    def __init__(self, parameters: list[nn.Parameter], lr: float, momentum: float) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move the weights by their gradients. No closure is called: the caller has computed the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    start, usual = parameter.norm(), math.sqrt(len(parameter) / 3)
                    state["momentum"], state["grows"] = torch.zeros_like(parameter), start == 0
                    state["length"] = torch.where(state["grows"], usual, start)
                state["momentum"].mul_(group["momentum"]).add_(parameter.grad)
                change = orthogonal(parameter.grad + group["momentum"] * state["momentum"])
                parameter.sub_(change * (group["lr"] * state["length"] / change.norm().clamp(min=TINY)))
                factor = state["length"] / parameter.norm().clamp(min=TINY)
                parameter.mul_(torch.where(state["grows"].bool(), factor.clamp(max=1), factor))


def orthogonal(gradient: Tensor) -> Tensor:
    """About the nearest matrix with orthogonal rows or columns, by five steps of Newton and Schulz; same shape."""
    matrix = gradient.flatten(1)  # (outputs, …) -> (outputs, rest)
    matrix = matrix.T if len(matrix) > matrix.shape[1] else matrix
    matrix = matrix / (matrix.norm() + TINY)
    for _ in range(5):
        square = matrix @ matrix.T
        matrix = 3.4445 * matrix + (-4.7750 * square + 2.0315 * square @ square) @ matrix
    return (matrix if matrix.shape == gradient.flatten(1).shape else matrix.T).reshape(gradient.shape)


def set_lr(optimizers: list[torch.optim.Optimizer], options: Optimizer, progress: float) -> None:
    """One-cycle (Smith 2018, arXiv:1803.09820), a pure function of the progress from 0 to 1."""
    if progress < options.warmup:
        factor = 0.04 + 0.96 * progress / options.warmup
    else:
        factor = 0.5 + 0.5 * math.cos(math.pi * (progress - options.warmup) / (1 - options.warmup))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = options.lr * factor * group.get("share", 1.0)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move the averaged weights (batch norm's statistics too) towards the current ones; faster in the first steps."""
    decay = min(decay, (1 + step) / (10 + step))
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)
