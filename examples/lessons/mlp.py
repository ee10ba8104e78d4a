"""Networks for the experiments of docs/tasks/mnist-mlp.md."""

from __future__ import annotations

from torch import nn


def linear() -> nn.Module:
    """Two fully connected layers with no nonlinearity between them: (N, 1, 28, 28) -> logits (N, 10)."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 1536), nn.Linear(1536, 10))


def zeros() -> nn.Module:
    """The network of the task, with all weights and biases 0 at the start."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 1536), nn.ReLU(), nn.Linear(1536, 10))
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    return network
