"""Do the gradients reach every parameter? Dead ReLUs, vanished and exploding gradients, named by their layers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from decathlon.data.base import Data, EpochShard
from decathlon.evaluation.layers import LayerRecorder, list_layers
from decathlon.tasks.base import Task
from decathlon.tasks.recipe import Recipe
from decathlon.training.trials import Trial

STEPS = 3  # a weight that starts at 0 gives the layers before it gradients from the second step
VANISHED = 1e-5  # gradient norm by weight norm of a layer, as a fraction of the largest of all layers
EXPLODED = 1e3  # gradient norm by weight norm
DEAD = 0.9  # fraction of a ReLU's units that are 0 for every example


@dataclass
class Gradients:
    """What reached the parameters in a few steps.

    Attributes:
        loss: Of the first step.
        ratios: For each weight matrix and kernel the largest ‖gradient‖ / ‖weight‖, 0 where every gradient was 0; in
            the order of the network. Embeddings are left out: few of their rows are in a batch; and weights that
            start at 0, if a gradient reached them.
        unused: Modules with parameters that no gradient reached.
        dead: For each ReLU the fraction of units that were 0 for every example.
    """

    loss: float = math.nan
    ratios: dict[str, float] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    dead: dict[str, float] = field(default_factory=dict)


def observe_gradients(trial: Trial, network: nn.Module, data: Data, file: Path | None = None) -> Gradients:
    """Train for a few steps, and look at the gradients.

    Args:
        trial: The copy that is trained.
        network: The user's network in it.
        data: Whose training split the batches are of.
        file: The source file of the network, to name its layers.
    """
    recorder, result = LayerRecorder(network, file), Gradients()
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    rows = {f"{name}.weight" for name, module in network.named_modules() if isinstance(module, nn.Embedding)}
    zero = {name for name, parameter in parameters.items() if parameter.ndim > 1 and not _norm(parameter)}
    reached = set[str]()
    for number, batch in enumerate(_some_batches(trial.task, data, trial.recipe)):
        with recorder:
            loss = trial.backward(batch, number)
        result.loss = loss if number == 0 else result.loss
        for name, parameter in parameters.items():
            if parameter.grad is None:
                continue
            reached.add(name)
            if parameter.ndim > 1 and name not in rows:
                weight, gradient = _norm(parameter), _norm(parameter.grad)
                ratio = gradient / weight if weight and name not in zero else float(gradient > 0)
                result.ratios[name] = max(ratio, result.ratios.get(name, 0.0))
        if not math.isfinite(loss):
            break
        trial.step(0.0)
    # A weight that starts at 0 has no size yet that its gradient could be compared with.
    result.ratios = {name: ratio for name, ratio in result.ratios.items() if not (ratio and name in zero)}
    unreached = [name for name in parameters if name not in reached]
    result.unused = list(dict.fromkeys(name.rpartition(".")[0] or name for name in unreached))
    result.dead = {name: units.float().mean().item() for name, units in recorder.dead.items()}
    return result


def _norm(values: torch.Tensor) -> float:
    values = values.detach()
    return (values.coalesce().values() if values.is_sparse else values).float().norm().item()


def _some_batches(task: Task, data: Data, recipe: Recipe) -> Iterator[Any]:
    """The first `STEPS` training batches, of as many epochs as that takes."""
    done = 0
    while done < STEPS:
        for batch in task.batches(data.train, recipe, EpochShard(recipe.seed, max(0, recipe.epochs - 1 - done))):
            yield batch
            done += 1
            if done == STEPS:
                return


def describe(gradients: Gradients) -> str:
    """The first thing that is wrong with the gradients, in a sentence; empty if nothing is."""
    ratios = gradients.ratios
    if not math.isfinite(gradients.loss) or any(not math.isfinite(ratio) for ratio in ratios.values()):
        return (
            "the loss or a gradient is NaN or infinite in the first steps: look for a division by 0, a log of 0, or "
            "weights that are much too large"
        )
    exploded = [f"{name} (‖gradient‖ / ‖weight‖ = {ratio:.1e})" for name, ratio in ratios.items() if ratio > EXPLODED]
    if exploded:
        return (
            f"exploding gradients in {list_layers(exploded)}: start with smaller weights (torch's default, or "
            "nn.init.kaiming_normal_), or normalise (batch norm)"
        )
    dead = [f"{name}: {100 * part:.0f} % of its units" for name, part in gradients.dead.items() if part >= DEAD]
    if dead:
        return (
            f"dead ReLU, 0 for every example of {STEPS} batches: {list_layers(dead)}. No gradient passes through it: "
            "look at the bias and scale of the layer before it (a large negative bias, a second ReLU after a minus, "
            "inputs far from mean 0)"
        )
    if gradients.unused:
        return (
            f"no gradient reaches {list_layers(gradients.unused)}: forward() does not use its output, or "
            "detach(), .data, no_grad() or argmax() cut it off from the loss"
        )
    return _describe_sizes(ratios)


def _describe_sizes(ratios: dict[str, float]) -> str:
    """A sentence on gradients that are 0 or vanish on their way back; empty if none do."""
    if zero := [name for name, ratio in ratios.items() if ratio == 0]:
        return (
            f"the gradient of {list_layers(zero)} is exactly 0 for {STEPS} batches: what follows it ignores its output"
        )
    largest = max(ratios, key=ratios.__getitem__, default="")
    vanished = [name for name, ratio in ratios.items() if ratio < VANISHED * ratios[largest]]
    if vanished:
        return (
            f"vanished gradients in {list_layers(vanished)}: ‖gradient‖ / ‖weight‖ is {ratios[vanished[0]]:.1e} in "
            f"{vanished[0]}, but {ratios[largest]:.1e} in {largest}. ReLU in place of sigmoid or tanh, batch norm, "
            "skip connections or fewer layers keep it alive"
        )
    return ""
