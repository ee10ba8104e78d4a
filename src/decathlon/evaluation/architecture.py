"""The operations that a network computes, to check it against the architecture that its task requires."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

KINDS = {
    "addmm": "fully connected",
    "mm": "fully connected",
    "bmm": "fully connected",
    "linear": "fully connected",
    "convolution": "convolution",
    "mkldnn_convolution": "convolution",
    "relu": "ReLU",
    "relu_": "ReLU",
    "max_pool2d": "max pooling",
    "max_pool2d_with_indices": "max pooling",
    "mkldnn_max_pool2d": "max pooling",
    "max": "maximum",
    "amax": "maximum",
    "adaptive_max_pool1d": "maximum",
    "adaptive_max_pool2d": "max pooling",
    "add": "addition",
    "add_": "addition",
    "cat": "concatenation",
    "upsample_nearest2d": "interpolation",
    "_upsample_nearest_exact2d": "interpolation",
    "upsample_bilinear2d": "interpolation",
    "_upsample_bilinear2d_aa": "interpolation",
    "upsample_bicubic2d": "interpolation",
    "_upsample_bicubic2d_aa": "interpolation",
    "mean": "average pooling",
    "avg_pool2d": "average pooling",
    "_adaptive_avg_pool2d": "average pooling",
    "_softmax": "softmax",
    "_log_softmax": "log-softmax",
    "native_dropout": "dropout",
    "bernoulli_": "dropout",
    "native_batch_norm": "batch norm",
    "_native_batch_norm_legit_no_training": "batch norm",
    "_native_batch_norm_legit": "batch norm",
    "cudnn_batch_norm": "batch norm",
}
ACTIVE_DROPOUT = "dropout in evaluation, too (F.dropout needs training=self.training)"
# These only move or copy values.
MOVE_OPS = frozenset(
    (
        *("view", "_unsafe_view", "reshape", "_reshape_alias", "t", "transpose", "permute", "flatten", "squeeze"),
        *("unsqueeze", "expand", "as_strided", "slice", "select", "split", "unbind", "alias", "detach", "lift_fresh"),
        *("as_strided_", "clone", "copy_", "contiguous", "empty", "empty_like", "to", "_to_copy"),
    )
)


def _adds_equal_shapes(args: Any) -> bool:
    """Whether two tensors of the same shape are added: x + 0 is no skip connection."""
    left, right = args[:2]
    return isinstance(left, Tensor) and isinstance(right, Tensor) and left.shape == right.shape


def _adds_bias(args: Any) -> bool:
    """Whether a vector (H,) is added to each row of a matrix (N, H)."""
    left, right = args[:2]
    both = isinstance(left, Tensor) and isinstance(right, Tensor)
    return both and left.ndim == 2 and right.ndim == 1 and len(right) == left.shape[1]


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if kind := operation_kind(func.overloadpacket.__name__, args):
            self.counts[kind] += 1
        return func(*args, **(kwargs or {}))


def operation_kind(name: str, args: Any) -> str:
    """What an operation of torch is called here, "" for one that only moves or copies values."""
    if name in MOVE_OPS:
        return ""
    kind = KINDS.get(name, name)
    if kind == "convolution" and len(args) > 6 and args[6] is True:
        return "transposed convolution"
    if kind == "addition" and _adds_bias(args):
        return ""  # as nn.Linear does within its product
    if kind == "addition" and not _adds_equal_shapes(args):
        return "addition of a constant"
    if kind == "concatenation" and len(args[0]) < 2:
        return "concatenation of a single tensor"
    return kind


def operations(model: nn.Module, example: Tensor) -> tuple[Any, Counter[str]]:
    """Count the operations of a forward pass in evaluation mode, and its dropout in training mode.

    A copy of the network is run.

    Returns:
        The output in evaluation mode, and the number of operations by kind.

    Raises:
        ValueError: The network does not take such an input.
    """
    model = copy.deepcopy(model)
    try:
        with torch.no_grad(), _Recorder() as recorder:
            output = model.eval()(example)
        with torch.no_grad(), _Recorder() as training_recorder:
            model.train()(example)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"the network does not take an input of shape {tuple(example.shape)}: {reason}") from error
    if active := recorder.counts["dropout"]:
        recorder.counts[ACTIVE_DROPOUT] = active
        recorder.counts.subtract({"div_": active, "mul": active})  # what F.dropout consists of
    recorder.counts["dropout"] = training_recorder.counts["dropout"]
    return output, +recorder.counts


def expect_shape(output: Any, shape: tuple[int, ...], example: Tensor, part: str = "network") -> None:
    """Raise ValueError unless `output`, of a `part` of the network, is a tensor of this shape."""
    actual = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
    if actual != f"shape {shape}":
        hint = ": is return missing in forward()?" if output is None else ""
        if isinstance(output, Tensor) and tuple(output.shape) == shape[1:]:
            hint = ": the first dimension, that of the batch, is lost; flatten from dimension 1 on"
        wanted = shape if isinstance(output, Tensor) else f"one tensor of shape {shape}"
        raise ValueError(
            f"the {part} returns {actual} for an input of shape {tuple(example.shape)}; it must return {wanted}{hint}"
        )


def exactly(counts: Counter[str], **required: int) -> list[str]:
    """Violations: kinds (underscores for spaces) whose number is not the required number."""
    pairs = ((name.replace("_", " "), number) for name, number in required.items())
    return [
        f"it has {counts[kind]} {kind} layer{'' if counts[kind] == 1 else 's'}, not {n}"
        for kind, n in pairs
        if counts[kind] != n
    ]


def at_least_one(counts: Counter[str], *required: str) -> list[str]:
    """Violations: kinds that are missing."""
    return [f"it has no {kind}" for kind in required if not counts[kind]]


def nothing_but(counts: Counter[str], *allowed: str) -> list[str]:
    """Violations: kinds that are not allowed."""
    return [f"it uses {kind}, which is not allowed here" for kind in sorted(counts) if kind not in allowed]
