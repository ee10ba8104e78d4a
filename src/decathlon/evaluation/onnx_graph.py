"""A task's network as an ONNX graph, and a network that onnxruntime runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class OnnxGraph:
    """What `export` writes of a task's network.

    Attributes:
        network: From one tensor to one or several.
        example: An input to trace the network with; none of its dynamic dimensions is 0 or 1.
        input: Name of the input.
        outputs: Names of the outputs. `boxes, labels, scores` stand for detections, whose number varies.
        axes: The dynamic dimensions of the input, with their names.
        metadata: Of the file: `preprocessing`, `postprocessing`, `labels`, and `input` on the input tensor.
        forest: A scikit-learn random forest on the output, written to a file of its own.
    """

    network: nn.Module
    example: Tensor
    input: str
    outputs: tuple[str, ...]
    axes: dict[int, str]
    metadata: dict[str, Any]
    forest: Any = None


class OnnxNetwork(nn.Module):
    """A network outside PyTorch, as a torch module that `predict` takes.

    Args:
        run: From the input array to the arrays of all outputs.
        metadata: As in `OnnxGraph`.
        predict_proba: Of the random forest, if there is one: codes (N, latent_dim) -> probabilities (N, num_classes).
    """

    def __init__(
        self,
        run: Callable[[np.ndarray], list[np.ndarray]],
        metadata: dict[str, Any],
        predict_proba: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        super().__init__()
        self.run, self.metadata, self.predict_proba = run, metadata, predict_proba

    def input_entry(self, name: str) -> Any:
        """A value of the metadata's entry `input`. Raises ValueError where it is missing."""
        if name not in self.metadata["input"]:
            raise ValueError(f"the file is damaged: its entry 'input' does not say {name!r}")
        return self.metadata["input"][name]

    def forward(self, inputs: Tensor) -> Any:
        """The only output, or a tuple of all."""
        outputs = tuple(torch.from_numpy(np.array(value)) for value in self.run(inputs.contiguous().numpy()))
        return outputs[0] if len(outputs) == 1 else outputs
