"""What a worker does to compare the gradient of its half of a batch, averaged over the halves, with the whole one's."""

from __future__ import annotations

from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from decathlon.data.base import Data, EpochShard, parse_source
from decathlon.tasks.base import Task, get_task
from decathlon.training import distributed
from decathlon.training.loop import measure


def gradients(task_id: str) -> dict[str, Any]:
    """The largest difference of a parameter's gradient, as a share of its length; and the losses.

    Batch norm uses its running statistics and nothing is dropped. Every example is distorted alike, wherever it stands
    in a batch: all that is drawn is a constant.
    """
    fabric = distributed.launch_fabric("32-true")
    task = get_task(task_id)
    recipe: Any = task.sample_recipe()
    with fabric.rank_zero_first():
        data = task.load(parse_source("sample"), recipe)
    torch.manual_seed(0)
    whole, half = (task.model(recipe, data.info, data.train) for _ in range(2))
    half.load_state_dict(whole.state_dict())
    for model in (whole, half):
        for module in model.train().modules():
            if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.Dropout)):
                module.eval()
    network = fabric.setup_module(half)
    network._forward_module.train()
    for module in network.modules():
        if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.Dropout)):
            module.eval()
    expected = backward(task, whole, data, recipe, EpochShard(0, 0))
    gradient = backward(task, network, data, recipe, EpochShard(0, 0, 0, fabric.global_rank, fabric.world_size))
    mean = torch.as_tensor(fabric.all_reduce(gradient.clone())).item()
    difference = 0.0
    for full_parameter, half_parameter in zip(whole.parameters(), half.parameters(), strict=True):
        assert (full_parameter.grad is None) == (half_parameter.grad is None)
        if full_parameter.grad is not None and half_parameter.grad is not None:
            apart = (
                half_parameter.grad.to_dense() - full_parameter.grad.to_dense()
            ).norm() / full_parameter.grad.to_dense().norm().clamp(min=1e-12)
            difference = max(difference, apart.item())
    return {"difference": difference, "whole": expected.item(), "halves": mean}


def backward(task: Task, model: Any, data: Data, recipe: Any, epoch: EpochShard) -> Tensor:
    """The loss of the first batch, or of this process's share of it, with gradients left in the parameters."""

    def constant(value: float) -> Any:
        return lambda *size, **options: torch.full(size[0] if isinstance(size[0], (tuple, torch.Size)) else size, value)

    def whole_number(top: int, size: tuple[int, ...], **options: Any) -> Tensor:
        return torch.full(size, top // 3)

    batch = next(iter(task.batches(data.train, recipe, epoch)))
    with (
        mock.patch("torch.rand", constant(0.7)),
        mock.patch("torch.randn", constant(0.1)),
        mock.patch("torch.randint", whole_number),
    ):
        loss = task.training_loss(model, batch, recipe)["loss"]
    loss.backward()
    return loss.detach()


def examples_seen(folder: str) -> dict[str, Any]:
    """How many pictures of a user's test split the networks of all processes have seen in one evaluation, and how well.

    The task looks at each picture twice: as it is, and mirrored.
    """
    fabric = distributed.launch_fabric("32-true")
    task, n_seen = get_task("cifar10-skip"), 0
    recipe = task.sample_recipe()
    with fabric.rank_zero_first():
        data = task.load(parse_source(folder), recipe)
    torch.manual_seed(0)
    model = task.model(recipe, data.info, data.train)

    def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal n_seen
        n_seen += len(inputs[0])

    model.register_forward_pre_hook(count)
    metrics = measure(task, model, data, "test", recipe, fabric)
    total = fabric.all_reduce(torch.tensor(float(n_seen)), reduce_op="sum")
    return {"seen": int(torch.as_tensor(total)), "metrics": metrics, "split": len(data.test)}
