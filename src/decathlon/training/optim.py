"""Optimisers, the learning-rate schedule, and the EMA of the weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from decathlon.tasks.recipe import Optimizer

EPSILON = 1e-7  # lower bound of norms that are divided by: an unused layer has a gradient of 0
VECTOR_LR_SCALE = 0.05  # Adam's learning rate beside Muon, as a fraction of Muon's


def make_optimizers(model: nn.Module, options: Optimizer) -> list[torch.optim.Optimizer]:
    """AdamW, SGD with Nesterov momentum, or Muon; and lazy Adam for embeddings with sparse gradients.

    Weight decay acts on matrices and kernels; not on vectors (biases, norms, scales), sparse embeddings (most of whose
    rows are not in the batch), or the parameters of a module with an attribute `lr_scale`, which scales their learning
    rate. Beside Muon, which ignores `lr_scale`, Adam's learning rate is `VECTOR_LR_SCALE` of Muon's, since its steps do
    not scale with the weights.
    """
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding) and m.sparse}
    parameters = [p for p in model.parameters() if p.requires_grad]
    sparse = [p for p in parameters if id(p) in embeddings]
    dense = [p for p in parameters if id(p) not in embeddings]
    scales = {id(p): m.lr_scale for m in model.modules() if hasattr(m, "lr_scale") for p in m.parameters(recurse=False)}
    matrices, vectors = divide_parameters(model, dense)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in matrices if id(p) not in scales], "weight_decay": options.weight_decay},
        {"params": [p for p in vectors if id(p) not in scales], "weight_decay": 0.0},
        *({"params": [p], "weight_decay": 0.0, "lr_scale": scales[id(p)]} for p in dense if id(p) in scales),
    ]
    groups = [group for group in groups if group["params"]]
    betas = (options.momentum, options.beta2)
    optimizers: list[torch.optim.Optimizer] = []
    if groups and options.name == "sgd":
        optimizers.append(
            torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum, nesterov=options.momentum > 0)
        )
    elif groups and options.name == "muon":
        optimizers += [Muon(matrices, options.lr, options.momentum)] if matrices else []
        group = {"params": vectors, "lr_scale": VECTOR_LR_SCALE}
        optimizers += (
            [torch.optim.AdamW([group], betas=(0.9, options.beta2), weight_decay=0.0, fused=True)] if vectors else []
        )
    elif groups:
        optimizers.append(torch.optim.AdamW(groups, lr=options.lr, betas=betas, fused=True))
    if sparse:
        muon = options.name == "muon"
        group = {"params": sparse, "lr_scale": VECTOR_LR_SCALE if muon else 1.0}
        optimizers.append(torch.optim.SparseAdam([group], betas=(0.9 if muon else options.momentum, options.beta2)))
    return optimizers


def divide_parameters(
    model: nn.Module, parameters: list[nn.Parameter]
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Matrices and kernels, and vectors; a scale of shape (C, 1, 1) is a vector, the weight of a layer is not."""
    layers = (nn.Linear, nn.Embedding, nn.RNNBase, nn.modules.conv._ConvNd)
    # By name: reading the weight of a parametrized layer may change it (spectral norm), and resuming would repeat that.
    weights = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, layers)
        for name, parameter in module.named_parameters()
        if "weight" in name and not name.endswith(("weight_g", "original0"))  # the norms of a weight norm
    }
    is_vector = [p.ndim <= 1 or (p.numel() == max(p.shape) and id(p) not in weights) for p in parameters]
    pairs = list(zip(parameters, is_vector, strict=True))
    return [p for p, vector in pairs if not vector], [p for p, vector in pairs if vector]


class Muon(torch.optim.Optimizer):
    """Orthogonalised updates scaled to the weight norm, which keeps its initial value.

    Weights initialised to 0 (the last ones of a residual branch) grow until they reach the norm of torch's default
    initialisation: a variance of 1 / (3 · inputs) for each value.

    Jordan et al. 2024, https://kellerjordan.github.io/posts/muon, and their CIFAR-10 speed runs. torch's own Muon does
    not take convolution kernels.

    Args:
        parameters: Matrices, and kernels (outputs, …), which are flattened to (outputs, rest).
        lr: Norm of an update as a fraction of the weight norm.
        momentum: Nesterov momentum.
    """

    def __init__(self, parameters: list[nn.Parameter], lr: float, momentum: float) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update the weights. `closure` is not called: the gradients are there already."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    norm, default_norm = parameter.norm(), math.sqrt(len(parameter) / 3)
                    state["momentum"], state["grows"] = torch.zeros_like(parameter), norm == 0
                    state["norm"] = torch.where(state["grows"], default_norm, norm)
                state["momentum"].mul_(group["momentum"]).add_(parameter.grad)
                update = orthogonal(parameter.grad + group["momentum"] * state["momentum"])
                parameter.sub_(update * (group["lr"] * state["norm"] / update.norm().clamp(min=EPSILON)))
                factor = state["norm"] / parameter.norm().clamp(min=EPSILON)
                parameter.mul_(torch.where(state["grows"].bool(), factor.clamp(max=1), factor))


def orthogonal(gradient: Tensor) -> Tensor:
    """Roughly the nearest semi-orthogonal matrix, by five Newton-Schulz iterations; same shape."""
    matrix = gradient.flatten(1)  # (outputs, …) -> (outputs, rest)
    matrix = matrix.T if len(matrix) > matrix.shape[1] else matrix
    matrix = matrix / (matrix.norm() + EPSILON)
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
            group["lr"] = options.lr * factor * group.get("lr_scale", 1.0)


@torch.no_grad()
def update_ema(ema_model: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Update the EMA of the weights and of batch norm's statistics, with a smaller decay in the first steps.

    Other buffers are copied: counters of batches, and constants, whose average would be NaN where they are infinite.
    """
    decay = min(decay, (1 + step) / (10 + step))
    averaged, copied = dict[int, tuple[Tensor, Tensor]](), dict[int, tuple[Tensor, Tensor]]()  # a shared weight once
    current = model.state_dict(keep_vars=True)
    for name, mean in ema_model.state_dict(keep_vars=True).items():
        is_averaged = isinstance(mean, nn.Parameter) or name.endswith(("running_mean", "running_var"))
        (averaged if is_averaged else copied)[id(mean)] = mean, current[name]
    # All tensors of a kind at once: a kernel launch for each would cost a GPU as much time as a small network's step.
    pairs = averaged.values()
    get_ema_multi_avg_fn(decay)([mean for mean, _ in pairs], [value for _, value in pairs], step)
    if pairs := copied.values():
        torch._foreach_copy_([mean for mean, _ in pairs], [value for _, value in pairs])
