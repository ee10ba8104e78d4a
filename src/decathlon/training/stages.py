"""The stages of `decathlon grade` before the whole training, cheapest first: each finds one kind of mistake.

A stage is a function that returns what it measured, in a sentence, or raises `NeedsWork` with what is worth mending.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from decathlon.data.base import Data, derive_seed
from decathlon.data.io import files
from decathlon.errors import UsageError
from decathlon.evaluation.layers import find_layers, list_layers
from decathlon.messages import duration, pluralize, some
from decathlon.runs.user_model import load_network
from decathlon.tasks.base import Task
from decathlon.tasks.recipe import Recipe
from decathlon.training import gradients
from decathlon.training.own_network import (
    MIXED,
    RANDOM,
    capture_inputs,
    check_network,
    describe_unregistered,
    first_line,
)
from decathlon.training.plan import count_parameters
from decathlon.training.trials import PART_EPOCHS, ReferenceTrial, Trial, learn_part, one_batch, step_seconds

MAX_FIRST_LOSS = (2.0, 0.5)  # a first loss above 2 · chance + 0.5 is too large
OVERFIT_FRACTION = 0.6  # of the reference's fall of the loss on one batch that is enough
LEARN_FRACTION = 0.5  # of the reference's gain on the small part that is enough
SMALL_GAIN = 0.05  # a gain of the reference's metric below this says nothing: then the training losses are compared
MAX_PART_SECONDS, MAX_SLOWDOWN = 60.0, 3.0  # a network that is both slower than this skips the small part
SAME_OUTPUTS = 1e-3  # standard deviation over examples by the mean absolute value of all outputs
DRAWS = ("uniform_", "normal_")  # what initialises the weights of a new layer


class NeedsWork(ValueError):
    """The network has a mistake to fix before going on."""


@dataclass(frozen=True)
class Stage:
    """The result of one stage.

    Attributes:
        name: Of the stage.
        passed: Whether the check goes on.
        message: What was measured, or what to fix.
        seconds: How long it took.
    """

    name: str
    passed: bool
    message: str
    seconds: float = 0.0


@dataclass
class Candidate:
    """A user's network in a task's place, and what it takes to try it. The stages fill in the last fields.

    Attributes:
        task: The task.
        data: Its data, on the device.
        recipe: The hyperparameters.
        fabric: Device and precision.
        reference: `FILE.py:function`.
        measure_reference: Measures the reference network in the trials, or recalls what was measured before.
        network: The user's network.
        model: What the task makes of it.
        violations: Of the architecture.
    """

    task: Task
    data: Data
    recipe: Recipe
    fabric: Fabric
    reference: str
    measure_reference: Callable[[], ReferenceTrial]
    network: nn.Module = field(init=False)
    model: nn.Module = field(init=False)
    violations: list[str] = field(init=False)

    @property
    def file(self) -> Path:
        """The file of the network."""
        return Path(self.reference.rpartition(":")[0])

    def make_copy(self) -> tuple[nn.Module, nn.Module]:
        """A copy of `model`, and the user's network in it (or `model` itself, where the task took it apart)."""
        names = [name for name, module in self.model.named_modules() if module is self.network]
        model = copy.deepcopy(self.model)
        return model, model.get_submodule(names[0]) if names else model

    def first_inputs(self, network: nn.Module, model: nn.Module) -> Any:
        """What the task gives to the network in its first training batch."""
        inputs, _ = capture_inputs(self.task, model, network, self.data, self.recipe)
        return inputs


def run_stages(candidate: Candidate) -> Iterator[Stage]:
    """Run the stages in turn, up to the first that finds something to fix."""
    for name, check in STAGES.items():
        start = time.perf_counter()
        passed = True
        with torch.random.fork_rng(devices=[]):
            try:
                message = check(candidate)
            except NeedsWork as error:
                message, passed = " ".join(str(error).split()), False
            except Exception as error:  # networks fail in any way
                if not (where := source_line(error, candidate.file)):
                    raise
                message, passed = f"it fails: {' '.join(str(error).split())}{where}", False
        yield Stage(name, passed, message, round(time.perf_counter() - start, 2))
        if not passed:
            return


def source_line(error: BaseException | None, file: Path) -> str:
    """` (line 12)`: where in this file an error, or what caused it, was raised; empty if elsewhere."""
    name, line = str(file.absolute()), 0
    while error is not None:
        frame = error.__traceback__
        while frame is not None:
            line = frame.tb_lineno if frame.tb_frame.f_code.co_filename == name else line
            frame = frame.tb_next
        error = error.__cause__
    return f" (line {line})" if line else ""


def is_unwritten(error: BaseException | None) -> bool:
    """Whether NotImplementedError is among the causes of an error, as in a file that `decathlon start` wrote."""
    while error is not None:
        if isinstance(error, NotImplementedError):
            return True
        error = error.__cause__
    return False


def explain(error: ValueError, candidate: Candidate) -> NeedsWork:
    """An error in the user's file, with its line there."""
    where = source_line(error, candidate.file)
    if lacking := re.search(r'Module \[(\w+)\] is missing the required "forward"', str(error)):
        lists = lacking[1] in ("ModuleList", "ModuleDict")
        way = "call its layers one after the other" if lists else "is its name misspelt?"
        return NeedsWork(f"{lacking[1]} has no forward(){where}: {way}")
    if is_unwritten(error):
        return NeedsWork(f"{candidate.file.name} is not finished: NotImplementedError{where}")
    return NeedsWork(f"{str(error).removeprefix('--model ')}{where}")


# --- The stages -------------------------------------------------------------------------------------------------------


def check_file(candidate: Candidate) -> str:
    """The function of the file returns a network with parameters."""
    torch.manual_seed(derive_seed(candidate.recipe.seed))
    try:
        candidate.network = load_network(candidate.reference)
    except UsageError as error:
        functions = re.findall(r"^def (\w+)", files.read_text(candidate.file), re.MULTILINE)
        hint = f"; it has {some(functions)}: grade {candidate.file.name}:{functions[0]}" if functions else ""
        raise NeedsWork(f"{str(error).removeprefix('--model ')}{hint}") from None
    except ValueError as error:
        raise explain(error, candidate) from error
    if problem := describe_unregistered(candidate.network):
        raise NeedsWork(problem)
    return f"{type(candidate.network).__name__} with {count_parameters(candidate.network):,} parameters"


def check_shapes(candidate: Candidate) -> str:
    """Outputs of the right shape for one, two and many examples, not random, and no softmax, sigmoid or ReLU last."""
    task, data, recipe = candidate.task, candidate.data, candidate.recipe
    try:
        candidate.model = task.model(recipe, data.info, data.train, candidate.network).to(candidate.fabric.device)
        candidate.violations = task.check_architecture(candidate.model, data.info)
        remarks = check_network(task, candidate.model, candidate.network, data, recipe)
    except ValueError as error:
        raise explain(error, candidate) from error
    for remark in remarks:
        # Tasks that allow only some operations name the layer that is random: in the next stage, as a violation.
        if remark.startswith("it ends in") or (remark in (MIXED, RANDOM) and not candidate.violations):
            raise NeedsWork(remark)
    return "; ".join(["one example, two examples and a training batch", *remarks])


def check_layers(candidate: Candidate) -> str:
    """The architecture that the task requires; else which layer is too many or missing."""
    if not candidate.violations:
        return f"as the task requires: {candidate.task.SPEC.network}"
    model, network = candidate.make_copy()
    inputs = candidate.first_inputs(network, model)
    layers = find_layers(network, inputs[:2], candidate.file) if isinstance(inputs, Tensor) else {}
    described = "; ".join(describe_violation(violation, layers) for violation in candidate.violations)
    raise NeedsWork(f"{described}. The task requires: {candidate.task.SPEC.network}")


def describe_violation(violation: str, layers: dict[str, list[str]]) -> str:
    """A violation of the architecture with the layers that it is about."""
    named = [kind for kind in layers if re.search(rf"\b{re.escape(kind)}\b", violation)]
    kinds = [kind for kind in named if not any(kind != other and kind in other for other in named)]
    listed = list_layers(list(dict.fromkeys(name for kind in kinds for name in layers[kind])))
    if any(f" {kind}," in violation for kind in DRAWS):
        return f"forward() draws random weights ({listed}): it makes a layer anew at every call; make it in __init__"
    if (counts := re.match(r"it has (\d+) .+, not (\d+)$", violation)) is None:
        return f"{violation} ({listed})" if listed else violation
    surplus = int(counts[1]) - int(counts[2])
    if surplus > 0:
        return f"{violation}: {surplus} too many of {listed}"
    return f"{violation}: {-surplus} missing" + (f" beside {listed}" if listed else "")


def check_first_loss(candidate: Candidate) -> str:
    """The loss at the start is about what guessing gives."""
    model, network = candidate.make_copy()
    outputs = list[Any]()
    network.register_forward_hook(lambda module, args, output: outputs.append(output))
    batch = one_batch(candidate.task, candidate.data, candidate.recipe)
    with torch.no_grad(), candidate.fabric.autocast():
        losses = candidate.task.training_loss(model.train(), batch, candidate.recipe)
    chance = chance_loss(outputs[-1] if outputs else None, len(candidate.data.info.classes))
    value = losses.get("entropy", losses["loss"]).item() if chance else losses["loss"].item()
    if not math.isfinite(value):
        raise NeedsWork(f"the loss of the untrained network is {value}: look for a division by 0 or a log of 0")
    if chance is None:
        return f"{value:.3g} (guessing has no known loss here)"
    words, level = chance
    if value > MAX_FIRST_LOSS[0] * level + MAX_FIRST_LOSS[1]:
        spread = outputs[-1].float().std().item()
        raise NeedsWork(
            f"the loss at the start is {value:.3g}, but guessing gives {words} = {level:.2f}: the untrained network is "
            f"confident and wrong. Its logits are too large (standard deviation {spread:.3g}): start with smaller "
            "weights (torch's default), or normalise before the last layer"
        )
    return f"{value:.2f}, guessing gives {words} = {level:.2f}"


def chance_loss(output: Any, num_classes: int) -> tuple[str, float] | None:
    """The cross-entropy of guessing, in words and as a number; None for outputs that are no logits of classes."""
    if isinstance(output, Tensor) and output.ndim == 2 and output.shape[1] == num_classes:
        return f"log({num_classes})", math.log(num_classes)
    if isinstance(output, Tensor) and output.ndim == 4 and output.shape[1] == 1:
        return "log(2)", math.log(2)
    return None


def check_gradients(candidate: Candidate) -> str:
    """Every parameter gets a gradient that is neither vanished nor exploding, and no ReLU is dead."""
    trial = Trial(candidate.task, candidate.model, candidate.recipe, candidate.fabric)
    names = [name for name, module in candidate.model.named_modules() if module is candidate.network]
    network = trial.model.get_submodule(names[0]) if names else trial.model
    batch = one_batch(candidate.task, candidate.data, candidate.recipe)
    with candidate.fabric.autocast():
        loss = candidate.task.training_loss(candidate.make_copy()[0].train(), batch, candidate.recipe)["loss"]
    if not loss.requires_grad:
        raise NeedsWork(
            "no gradient reaches any layer: detach(), .data, .numpy(), no_grad(), argmax() or torch.tensor() cut the "
            "output off from the loss"
        )
    try:
        observed = gradients.observe_gradients(trial, network, candidate.data, candidate.file)
    except RuntimeError as error:  # of autograd, which names no line of the user's file
        where = source_line(error, candidate.file)
        raise NeedsWork(f"the gradients cannot be computed: {_explain_autograd(error)}{where}") from error
    if problem := gradients.describe(observed):
        raise NeedsWork(problem)
    half_dead = [f"{name} ({100 * part:.0f} %)" for name, part in observed.dead.items() if part > 0.5]
    note = f"; many units are 0 for every example in {list_layers(half_dead)}" if half_dead else ""
    return f"{pluralize(len(observed.ratios), 'layer')}, each with a gradient{note}"


def _explain_autograd(error: RuntimeError) -> str:
    """What causes an error of `backward()`, or its first line."""
    if "inplace operation" in str(error):
        return "a value that they need was changed in place; x = x + y in place of x += y, and no inplace=True"
    if "second time" in str(error):
        return "something is kept from one batch to the next; detach() it, or make it anew in forward()"
    return first_line(error)


def check_overfitting(candidate: Candidate) -> str:
    """The network can overfit one batch, as the reference network does in as many steps."""
    expected = candidate.measure_reference()
    batch = one_batch(candidate.task, candidate.data, candidate.recipe, expected.examples)
    losses = Trial(candidate.task, candidate.model, candidate.recipe, candidate.fabric).overfit(batch, expected.steps)
    if not math.isfinite(losses[-1]):
        raise NeedsWork(
            f"on one batch the loss becomes {losses[-1]} at step {len(losses)}: the steps are too large for this "
            "network. Normalise (batch norm), start with smaller weights, or lower --optimizer.lr"
        )
    first, best = expected.losses[0], min(expected.losses[-3:])
    ours = min(losses[-3:])
    compared = f"{losses[0]:.3g} to {ours:.3g} in {expected.steps} steps, the reference {first:.3g} to {best:.3g}"
    if ours > best + (1 - OVERFIT_FRACTION) * (first - best):
        raise NeedsWork(
            f"it cannot overfit one batch: loss {compared}. {same_outputs(candidate)}A network that cannot "
            "fit a few examples will not learn the task: look for too few units, a missing nonlinearity, or a layer "
            "that loses the information"
        )
    return f"loss {compared}"


@torch.no_grad()
def same_outputs(candidate: Candidate) -> str:
    """A sentence if the outputs hardly depend on the input; else empty."""
    model, network = candidate.make_copy()
    inputs = candidate.first_inputs(network, model)
    output = network.eval()(inputs) if isinstance(inputs, Tensor) else None
    output = output[1] if isinstance(output, tuple) and len(output) == 2 else output
    if not isinstance(output, Tensor) or len(output) < 2:
        return ""
    rows = output.float().flatten(1)
    between = rows.std(0).mean() / rows.abs().mean().clamp(min=1e-12)
    return "Its outputs are nearly the same for every example. " if between < SAME_OUTPUTS else ""


def check_learning(candidate: Candidate) -> str:
    """On a small part of the data it learns about as fast as the reference network."""
    expected, spec = candidate.measure_reference(), candidate.task.SPEC
    if slow := describe_slowness(candidate, expected):
        return slow
    sizes = expected.train_size, expected.validation_size, expected.batch_size
    arguments = candidate.task, candidate.model, candidate.data, candidate.recipe, candidate.fabric
    try:
        curve = learn_part(*arguments, *sizes)
    except FloatingPointError as error:
        raise NeedsWork(f"on a small part of the data {error}") from error
    examples = f"{pluralize(len(curve), 'epoch')} on {pluralize(expected.train_size, 'example')}"
    ours, theirs = (" ".join(f"{100 * point['value']:.0f}" for point in points) for points in (curve, expected.curve))
    compared = f"after {examples}, validation {spec.metric} by epoch in %: {ours}; the reference: {theirs}"
    if falls_behind(curve, expected):
        raise NeedsWork(f"it learns too slowly: {compared}. {describe_fit(curve)}")
    return compared


def describe_slowness(candidate: Candidate, expected: ReferenceTrial) -> str:
    """A sentence if the small part would take too long, else empty."""
    batch = one_batch(candidate.task, candidate.data, candidate.recipe, expected.examples)
    seconds = step_seconds(candidate.task, candidate.model, batch, candidate.recipe, candidate.fabric)
    total = 1.5 * PART_EPOCHS * seconds * expected.train_size / expected.batch_size
    if total < MAX_PART_SECONDS or seconds < MAX_SLOWDOWN * expected.seconds:
        return ""
    return (
        f"not tried: a step takes {seconds / expected.seconds:.0f} times as long as the reference network's, and the "
        f"small part would take {duration(total)}"
    )


def falls_behind(curve: list[dict[str, float]], expected: ReferenceTrial) -> bool:
    """Whether a curve has less than `LEARN_FRACTION` of the reference's gain, or is below the untrained reference."""
    best, goal = (max(point["value"] for point in points) for points in (curve, expected.curve))
    if best < expected.untrained - SMALL_GAIN:  # a forest on the codes of an untrained encoder is good already
        return True
    if goal - expected.untrained > SMALL_GAIN:
        return best < expected.untrained + LEARN_FRACTION * (goal - expected.untrained)
    fall = expected.curve[0]["loss"] - expected.curve[-1]["loss"]
    return curve[-1]["loss"] > expected.curve[-1]["loss"] + max(fall, 0.25 * abs(expected.curve[-1]["loss"]))


def describe_fit(curve: list[dict[str, float]]) -> str:
    """A sentence on the training loss."""
    first, last = curve[0]["loss"], curve[-1]["loss"]
    if last < 0.5 * first:
        return f"The training loss falls, {first:.3g} to {last:.3g}: it overfits; fewer units, dropout or pooling help"
    return (
        f"The training loss hardly falls, {first:.3g} to {last:.3g}: it underfits; more units, batch norm, or another "
        "--optimizer.lr help"
    )


STAGES: dict[str, Callable[[Candidate], str]] = {
    "file": check_file,
    "shapes": check_shapes,
    "architecture": check_layers,
    "first loss": check_first_loss,
    "gradients": check_gradients,
    "one batch": check_overfitting,
    "small part": check_learning,
}


def checks_of(task: Task, recipe: Recipe, data: Data) -> dict[str, Any]:
    """What the reference's trial depends on, as JSON data."""
    names = {"data": data.name, "sizes": data.sizes, "classes": data.info.classes}
    return {"task": task.SPEC.id, "recipe": dataclasses.asdict(recipe), **names, "threads": torch.get_num_threads()}
