"""Common mistakes in a user's own network, said before it is trained."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from decathlon.data.base import Data, EpochShard
from decathlon.evaluation.architecture import MOVE_OPS
from decathlon.messages import pluralize, some
from decathlon.tasks.base import Task
from decathlon.tasks.recipe import Recipe

LAST_OPS = {"_softmax": "softmax", "softmax": "softmax", "sigmoid": "sigmoid", "relu": "ReLU", "hardsigmoid": "sigmoid"}
# The outputs of these are no sigmoid, whatever range they are in; a maximum or mean is one of logits over positions.
LOGIT_OPS = (
    *("convolution", "addmm", "mm", "bmm", "linear", "amax", "max", "mean", "max_pool2d_with_indices", "avg_pool2d"),
    *("adaptive_max_pool2d", "adaptive_max_pool1d", "_adaptive_avg_pool2d", "native_batch_norm", "native_layer_norm"),
)
SOFTMAX_LIKE = frozenset(("_softmax", "softmax", "exp", "div"))
SIGMOID_LIKE = frozenset(("sigmoid", "hardsigmoid", "exp", "tanh", "clamp", "clamp_min"))
TOLERANCE = 1e-3  # by which probabilities may miss a sum of 1, and two outputs for the same input may differ
RANDOM = (
    "in evaluation its outputs for the same input differ: F.dropout needs training=self.training, and forward() should "
    "draw no random numbers"
)
MIXED = (
    "in evaluation its output for an example depends on the others in the batch: batch norm needs its running "
    "statistics (track_running_stats), and forward() should take no mean over dimension 0"
)


def check_network(task: Task, model: nn.Module, network: nn.Module, data: Data, recipe: Recipe) -> list[str]:
    """Try a user's network on a training batch, on one example and on two. A copy of it is run.

    Args:
        task: In whose place it is trained.
        model: What the task makes of the network; the network itself, or around it.
        network: The user's own.
        data: Its training split.
        recipe: The hyperparameters.

    Returns:
        What is likely to be a mistake, a sentence each: frozen parameters, a softmax, sigmoid or ReLU at the end,
        outputs that are random in evaluation or depend on the rest of the batch.

    Raises:
        ValueError: It fails on one example or on two, or returns another number of outputs.
    """
    remarks = describe_frozen(network)
    name = next((name for name, module in model.named_modules() if module is network), None)
    if name is None:
        return remarks
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        inner = copy.deepcopy(model)
        trial = inner.get_submodule(name)
        inputs, error = capture_inputs(task, inner, trial, data, recipe)
        if inputs is None and error is not None:
            raise ValueError(f"a training batch fails: {first_line(error)}")
        if inputs is None:
            return remarks
        heads = _watch_heads(trial)
        alone, _ = _run(trial.eval(), inputs[:1], 1)
        output, ops = _run(trial, inputs[:2], 2)
        if error is not None:
            raise ValueError(f"the network fails on a training batch of {len(inputs):,} examples: {first_line(error)}")
        if isinstance(output, Tensor):
            remarks += describe_end(output, ops, task.SPEC.id)
        again, _ = _run(trial, inputs[:2], 2)
        if not _are_close(output, again, 2, TOLERANCE):
            remarks.append(RANDOM)
        elif not _are_close(output, alone, 1, 10 * TOLERANCE):  # rounding may differ with the batch size
            remarks.append(MIXED)
        for logits in heads:
            remarks += describe_end(logits, None, task.SPEC.id)
    return list(dict.fromkeys(remarks))


def _are_close(output: Any, other: Any, count: int, tolerance: float) -> bool:
    """Whether the first rows of the tensors of two outputs are the same, but for rounding; lists are not compared.

    Differences count by the largest value of a tensor.
    """
    pairs = zip(*(value if isinstance(value, tuple) else (value,) for value in (output, other)), strict=False)
    return all(
        torch.allclose(a[:count], b[:count], 0, tolerance * max(1.0, float(a.abs().max())), equal_nan=True)
        for a, b in pairs
        if isinstance(a, Tensor) and isinstance(b, Tensor) and a.ndim and b.ndim and a.numel()
    )


def describe_unregistered(network: nn.Module) -> str:
    """A sentence on layers and parameters in Python lists, tuples or dicts, which are not trained; else empty."""
    known = {id(parameter) for parameter in network.parameters()}
    for prefix, module in network.named_modules():
        for name, value in vars(module).items():
            if not isinstance(value, (list, tuple, dict)) or name == "_flat_weights":  # of torch's recurrent layers
                continue
            if lost := [part for part in _flatten(value, set()) if _is_lost(part, known)]:
                kind = "Module" if isinstance(lost[0], nn.Module) else "Parameter"
                better = f"nn.{kind}Dict" if isinstance(value, dict) else f"nn.{kind}List"
                what = pluralize(len(lost), "layer" if kind == "Module" else "parameter")
                where = f"{prefix}.{name}" if prefix else name
                return (
                    f"{where} is a Python {type(value).__name__}: the {what} in it are not registered, so they would "
                    f"not be trained; use {better}"
                )
    return ""


def _flatten(value: Any, seen: set[int]) -> Iterator[Any]:
    """What is in lists, tuples and dicts within each other."""
    if id(value) in seen:
        return
    seen.add(id(value))
    for part in value.values() if isinstance(value, dict) else value:
        if isinstance(part, (list, tuple, dict)):
            yield from _flatten(part, seen)
        else:
            yield part


def _is_lost(part: Any, known: set[int]) -> bool:
    """Whether this is a parameter to train, or a module with one, that is not among those of the network."""
    parameters = part.parameters() if isinstance(part, nn.Module) else [part] if isinstance(part, nn.Parameter) else []
    return any(parameter.requires_grad and id(parameter) not in known for parameter in parameters)


def describe_frozen(network: nn.Module) -> list[str]:
    """One sentence where some parameters are not trained."""
    frozen = {name: parameter for name, parameter in network.named_parameters() if not parameter.requires_grad}
    if not frozen:
        return []
    count = sum(parameter.numel() for parameter in frozen.values())
    whole = sum(parameter.numel() for parameter in network.parameters())
    return [f"{count:,} of its {whole:,} parameters are frozen and will not be trained ({some(frozen)})"]


def describe_end(output: Tensor, ops: list[str] | None, task_id: str) -> list[str]:
    """One sentence where outputs that should be logits are probabilities, or cut off at 0.

    Args:
        output: Of the network in evaluation mode, (N, classes) or any shape of binary logits.
        ops: The operations of the network, None where they are not known.
        task_id: Of the task, for the sentence.
    """
    last_op = ops[-1] if ops else ""
    end = LAST_OPS.get(last_op, "")
    values = output.float()
    if not end and values.numel() and bool(((values >= 0) & (values <= 1)).all()):
        sums_to_one = values.ndim > 1 and values.shape[1] > 1 and bool(((values.sum(1) - 1).abs() < TOLERANCE).all())
        may_be_softmax = ops is None or not SOFTMAX_LIKE.isdisjoint(ops)
        may_be_sigmoid = ops is None or (last_op not in LOGIT_OPS and not SIGMOID_LIKE.isdisjoint(ops))
        may_be_sigmoid = may_be_sigmoid and values.unique().numel() > 2
        end = "softmax" if sums_to_one and may_be_softmax else "sigmoid" if may_be_sigmoid else ""
    if not end:
        return []
    cost = "outputs below 0 are lost" if end == "ReLU" else "applied twice, it makes the gradients small"
    return [f"it ends in a {end}, but {task_id} takes its outputs as logits: {cost}; leave it out"]


def capture_inputs(
    task: Task, model: nn.Module, network: nn.Module, data: Data, recipe: Recipe
) -> tuple[Any, Exception | None]:
    """What the task gives to the network in its first training batch, None where it does not call it; and its error."""
    calls, failed = list[Any](), None
    handle = network.register_forward_pre_hook(lambda module, args: calls.append(args))
    batch = next(iter(task.batches(data.train, recipe, EpochShard(recipe.seed, 0))))
    try:
        task.training_loss(model.train(), batch, recipe)
    except Exception as error:  # networks fail in any way
        failed = error
    handle.remove()
    return calls[0][0] if calls and calls[0] else None, failed


def first_line(error: Exception) -> str:
    """The first line of an error."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _watch_heads(network: nn.Module) -> list[Tensor]:
    """A list that takes the class logits of torchvision's detectors when they run."""
    logits: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, Tensor):
            logits.append(first.reshape(-1, first.shape[-1]))

    for name, module in network.named_modules():
        if name.endswith(("roi_heads.box_predictor", "head.classification_head")):
            module.register_forward_hook(keep)
    return logits


class _Ops(TorchDispatchMode):
    """Remembers the operations that compute something, in place or not."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ not in MOVE_OPS:
            self.names.append(func.overloadpacket.__name__.removesuffix("_"))
        return func(*args, **(kwargs or {}))


def _run(network: nn.Module, inputs: Any, count: int) -> tuple[Any, list[str]]:
    """Outputs for so many examples, and the operations.

    Raises:
        ValueError: It fails, or does not return as many outputs.
    """
    batch = "a batch of one example" if count == 1 else "a batch of two examples"
    try:
        with _Ops() as recorder:
            output = network(inputs)
    except Exception as error:
        raise ValueError(
            f"the network fails on {batch}: {first_line(error)}; its layers must take any batch size (squeeze and "
            "view remove or fix the batch dimension)"
        ) from error
    first = output[0] if isinstance(output, tuple) and output else output
    number = len(first) if isinstance(first, (Tensor, list)) and (not isinstance(first, Tensor) or first.ndim) else 0
    if number != min(count, len(inputs)):
        shape = tuple(first.shape) if isinstance(first, Tensor) else f"{number} outputs"
        raise ValueError(
            f"the network returns {shape} for {batch}: the batch dimension is lost, perhaps by squeeze(); name the "
            "dimension to squeeze"
        )
    return output, recorder.names
