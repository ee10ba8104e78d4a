"""Which operations a network really computes, so that its card's promise can be checked."""

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
    "adaptive_max_pool2d": "maximum",
    "add": "addition",
    "add_": "addition",
    "cat": "concatenation",
    "upsample_nearest2d": "interpolation",
    "_upsample_nearest_exact2d": "interpolation",
    "upsample_bilinear2d": "interpolation",
    "_upsample_bilinear2d_aa": "interpolation",
    "upsample_bicubic2d": "interpolation",
    "_upsample_bicubic2d_aa": "interpolation",
    "native_dropout": "dropout",
    "bernoulli_": "dropout",
    "native_batch_norm": "batch norm",
    "_native_batch_norm_legit_no_training": "batch norm",
    "_native_batch_norm_legit": "batch norm",
    "cudnn_batch_norm": "batch norm",
}
# These move or copy values and compute nothing.
MOVES = frozenset(
    (
        *("view", "_unsafe_view", "reshape", "_reshape_alias", "t", "transpose", "permute", "flatten", "squeeze"),
        *("unsqueeze", "expand", "as_strided", "slice", "select", "split", "unbind", "alias", "detach", "lift_fresh"),
        *("clone", "copy_", "contiguous", "empty", "empty_like", "to", "_to_copy"),
    )
)


def _alike(args: Any) -> bool:
    """Whether what is added are two maps of one shape, and not a number or a vector: x + 0 joins nothing."""
    one, other = args[:2]
    return isinstance(one, Tensor) and isinstance(other, Tensor) and one.shape == other.shape


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name not in MOVES:
            kind = KINDS.get(name, name)
            if kind == "convolution" and len(args) > 6 and args[6] is True:
                kind = "transposed convolution"
            if kind == "addition" and not _alike(args):
                kind = "addition of a constant"
            if kind == "concatenation" and len(args[0]) < 2:
                kind = "concatenation of one"
            self.counts[kind] += 1
        return func(*args, **(kwargs or {}))


def operations(model: nn.Module, example: Tensor) -> tuple[Any, Counter[str]]:
    """Run a copy of the network once as in evaluation, and once as in training, which shows dropout.

    Returns:
        The output, and how often each kind of operation ran.

    Raises:
        ValueError: The network does not take such an input.
    """
    model = copy.deepcopy(model)
    try:
        with torch.no_grad(), _Recorder() as recorder:
            output = model.eval()(example)
        with torch.no_grad(), _Recorder() as training:
            model.train()(example)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"the network does not take an input of shape {tuple(example.shape)}: {reason}") from error
    recorder.counts["dropout"] = training.counts["dropout"]
    return output, +recorder.counts


def expect_shape(output: Any, shape: tuple[int, ...], example: Tensor, what: str = "network") -> None:
    """Raise ValueError unless `output` is a tensor of this shape."""
    given = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
    if given != f"shape {shape}":
        raise ValueError(f"the {what} gives {given} for an input of shape {tuple(example.shape)}; it must give {shape}")


def exactly(counts: Counter[str], **wanted: int) -> list[str]:
    """The kinds (underscores for spaces) whose number is not the wanted one, in words."""
    pairs = ((name.replace("_", " "), number) for name, number in wanted.items())
    return [f"it has {counts[kind]} {kind} layers, not {n}" for kind, n in pairs if counts[kind] != n]


def at_least_one(counts: Counter[str], *wanted: str) -> list[str]:
    """The kinds that are missing, in words."""
    return [f"it has no {kind}" for kind in wanted if not counts[kind]]


def nothing_but(counts: Counter[str], *allowed: str) -> list[str]:
    """The kinds that are not allowed, in words."""
    return [f"it uses {kind}, which is not allowed here" for kind in sorted(counts) if kind not in allowed]
