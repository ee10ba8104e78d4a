"""Which layer of a network computes what: its operations with the names of their layers, and its dead ReLUs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from decathlon.evaluation.architecture import operation_kind

MAX_LAYERS = 8  # that a message names


class LayerRecorder(TorchDispatchMode):
    """Records the operations of a network's forward passes by layer. The network gets hooks: give it a copy.

    Args:
        network: The network.
        file: The source file of its class: an operation outside of torch's own modules is named by its line there.

    Attributes:
        layers: For each kind of operation the layers that compute it, in their order.
        dead: For each ReLU which of its units were 0 for every example so far, bool (units,).
    """

    def __init__(self, network: nn.Module, file: Path | None = None) -> None:
        super().__init__()
        self.file = "" if file is None else str(file.absolute())
        self.layers: dict[str, list[str]] = {}
        self.dead: dict[str, Tensor] = {}
        self._modules = dict(network.named_modules())
        self._stack = list[str]()  # of the modules that are running, the innermost last
        for name, module in self._modules.items():
            module.register_forward_pre_hook(lambda module, args, name=name: self._stack.append(name))
            module.register_forward_hook(self._leave)

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._stack.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        kind = operation_kind(func.overloadpacket.__name__, args) if self._stack else ""
        if kind:
            name = self._name()
            self.layers.setdefault(kind, []).append(name)
            if kind == "ReLU":
                self._note_relu(name, output)
        return output

    def _name(self) -> str:
        """The layer that is running: its path and class, or the line of the file for a function call."""
        path = self._stack[-1]
        module = self._modules[path]
        if path and type(module).__module__.startswith("torch"):
            return f"{path} ({type(module).__name__})"
        frame, line = sys._getframe(), 0
        while frame is not None and not line:
            line = frame.f_lineno if frame.f_code.co_filename == self.file else 0
            frame = frame.f_back  # type: ignore[assignment]
        return f"line {line}" if line else f"{path or 'forward'} ({type(module).__name__})"

    def _note_relu(self, name: str, output: Tensor) -> None:
        """Which units of an output (N, units, …) are 0 for every example, at every position."""
        if output.ndim < 2:
            return
        units = output.detach().transpose(0, 1).flatten(1).amax(1) <= 0
        before = self.dead.get(name)
        self.dead[name] = units if before is None or before.shape != units.shape else before & units


def list_layers(names: list[str]) -> str:
    """`conv1 (Conv2d), conv2 (Conv2d), …`: the first of many layers."""
    return ", ".join(names[:MAX_LAYERS]) + (", …" if len(names) > MAX_LAYERS else "")


@torch.no_grad()
def find_layers(network: nn.Module, inputs: Any, file: Path | None = None) -> dict[str, list[str]]:
    """The layers of a network by the kind of their operation, as they run on some inputs in evaluation mode.

    Args:
        network: Is given hooks: pass a copy.
        inputs: What its forward takes.
        file: As in `LayerRecorder`.
    """
    with LayerRecorder(network.eval(), file) as recorder:
        network(inputs)
    return recorder.layers
