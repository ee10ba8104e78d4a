"""What a task is: its card, its recipe and the functions its file holds; and the registry that finds the files.

Nothing here imports torch, so that the command line can answer `--help` at once.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import math
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    Protocol,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import decathlon.pretraining
import decathlon.tasks

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from torch import Tensor, nn

    from decathlon.data import Data, Epoch, Source, Split
    from decathlon.portable import Graph

# The order in which a course teaches them, and in which every table lists them. Further tasks follow by name.
CURRICULUM = (
    "mnist-mlp",
    "mnist-cnn",
    "mnist-autoencoder",
    "cifar10-cnn",
    "cifar10-skip",
    "imdb-textcnn",
    "imdb-roberta",
    "pets-unet",
    "voc-faster-rcnn",
    "voc-retinanet",
)

PRETRAINING = "-pretraining"  # ends the id of what trains a task's encoder


class UsageError(ValueError):
    """The command was wrong (exit status 2): an unknown task, flag or file name, or options that contradict."""


def require(flag: str, holds: bool, what: str) -> None:
    """Raise UsageError where a value makes no sense."""
    if not holds:
        raise UsageError(f"{flag} must be {what}")


@dataclass(frozen=True)
class Card:
    """What a task promises, in the words of every table.

    Attributes:
        id: Name of the task: also of its file, docs page and results folder.
        dataset: Module of `decathlon.data` that loads its data.
        network: The architecture, in one line. A promise: `rules` of the task checks it.
        metric: Key of the metric that the bar is for, a fraction from 0 to 1.
        bar: What the metric must reach on the test split, or None.
    """

    id: str
    dataset: str
    network: str
    metric: str = "accuracy"
    bar: float | None = None


@dataclass(frozen=True)
class Optimizer:
    """How the weights move: one-cycle, that is the learning rate climbs linearly, then falls to zero along a cosine."""

    name: Literal["adamw", "sgd", "muon"] = "adamw"
    """Rule of the update; sgd and muon are with Nesterov momentum."""
    lr: float = 1e-3
    """Peak learning rate; of muon the length of a step as a share of the weights' own."""
    weight_decay: float = 0.0
    """Decay of matrices and kernels by adamw and sgd, muon keeps their length; biases and norms never decay."""
    momentum: float = 0.9
    """Momentum of sgd and muon, first beta of adamw."""
    beta2: float = 0.98
    """Second beta of adamw."""
    warmup: float = 0.2
    """Fraction of all steps in which the learning rate climbs."""
    clip: float = 0.0
    """Largest norm of the gradients of an optimiser (muon has adamw beside it), sparse ones aside; 0 for any norm."""

    def __post_init__(self) -> None:
        require("--optimizer.lr", 0 < self.lr < math.inf, "a number above 0")
        require("--optimizer.warmup", 0 <= self.warmup < 1, "from 0 to below 1")
        require("--optimizer.momentum", 0 <= self.momentum < 1, "from 0 to below 1")
        require("--optimizer.beta2", 0 <= self.beta2 < 1, "from 0 to below 1")
        require("--optimizer.weight-decay", 0 <= self.weight_decay < math.inf, "0 or more")
        require("--optimizer.weight-decay", not self.weight_decay or self.name != "muon", "0 with muon")
        require("--optimizer.clip", 0 <= self.clip < math.inf, "0 or more")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The hyperparameters every task has. A task's own recipe adds its fields to these."""

    may_be_zero: ClassVar[tuple[str, ...]] = ("seed",)  # whole numbers of which there need not be one

    seed: int = 0
    """Seed of everything that is drawn."""
    epochs: int = 10
    """Passes over the training data."""
    batch_size: int = 128
    """Examples a step, over all processes together."""
    optimizer: Optimizer = field(default_factory=Optimizer)
    ema: float = 0.0
    """Decay a step of the average of the weights that is measured and kept; 0 keeps the last weights."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Arithmetic of the training; bf16-mixed pays off on GPUs, and on CPUs with avx512_bf16 or AMX."""
    compile: bool = False
    """Compile the network first (torch.compile): pays off on GPUs and long runs."""

    def __post_init__(self) -> None:
        for one in dataclasses.fields(self):
            value, flag = getattr(self, one.name), f"--{one.name.replace('_', '-')}"
            for number in value if isinstance(value, tuple) else (value,):
                if type(number) is int and one.name not in self.may_be_zero:
                    require(flag, number >= 1, "at least 1")
                elif isinstance(number, (int, float)):
                    require(flag, 0 <= number < math.inf, "0 or more")
        require("--ema", self.ema < 1, "from 0 to below 1")


class Task(Protocol):
    """The functions of a task's file, a module under `decathlon.tasks`. `docs/adding-a-task.md` walks through."""

    CARD: Card

    def recipe(self) -> Recipe:
        """The recipe that clears the bar on the official data."""

    def sample_recipe(self) -> Recipe:
        """The recipe for `--data sample`: the same idea in seconds."""

    def load(self, source: Source, recipe: Recipe) -> Data:
        """Find, or download, and read the data."""

    def model(
        self, recipe: Recipe, meta: dict[str, Any], train: Split | None = None, network: nn.Module | None = None
    ) -> nn.Module:
        """What is trained and measured.

        `train` is there when training starts, for start values that look at data; `network` is the user's own, to take
        the place of ours.
        """

    def rules(self, model: nn.Module, meta: dict[str, Any]) -> list[str]:
        """The ways in which a network breaks the card's promise. Raises ValueError where its shapes are wrong."""

    def batches(self, split: Split, recipe: Recipe, epoch: Epoch) -> Iterable[Any]:
        """The batches of (the rest of) one epoch for this process, on the device of `split`.

        Their order is drawn from `epoch.generator()` and nothing else. What workers of a DataLoader draw has to depend
        on seed, epoch and example alone, or a resumed run would see other examples.
        """

    def step(self, model: nn.Module, batch: Any, recipe: Recipe) -> dict[str, Tensor]:
        """One forward pass in training: `loss`, which goes down, and whatever else is worth logging."""

    def evaluate(self, model: nn.Module, data: Data, split: str, recipe: Recipe) -> dict[str, float]:
        """All metrics of the named split, the card's among them."""

    def predict(
        self, model: nn.Module, inputs: list[str], recipe: Recipe, meta: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """One answer an input. `model` may be a `portable.Session`: what `graph` gives, run by something else."""

    def graph(self, model: nn.Module, recipe: Recipe, meta: dict[str, Any]) -> Graph:
        """What `export` writes of a trained network, and what `predict` does around it, for the metadata."""

    def show(self, model: nn.Module, data: Data, recipe: Recipe, folder: Path) -> None:
        """Draw what the network does on the validation split into `folder`/*.png."""


def task_ids() -> list[str]:
    """The ids of all tasks: those of the curriculum first, in its order."""
    place = {name: number for number, name in enumerate(CURRICULUM)}
    return sorted(_ids(decathlon.tasks), key=lambda name: (place.get(name, len(place)), name))


def pretraining_ids() -> list[str]:
    """The ids of the tasks that build on an encoder which `decathlon pretrain` makes."""
    return sorted(_ids(decathlon.pretraining))


def _ids(package: ModuleType) -> list[str]:
    return [module.name.replace("_", "-") for module in pkgutil.iter_modules(package.__path__)]


def get_task(task_id: str) -> Task:
    """Import the task with this id, or the pre-training `<task>-pretraining`, which the loop takes for one.

    Raises:
        UsageError: There is none; names the nearest.
    """
    name = task_id.removesuffix(PRETRAINING)
    if name != task_id and name in pretraining_ids():
        return cast(Task, importlib.import_module(f"decathlon.pretraining.{name.replace('-', '_')}"))
    if task_id not in task_ids():
        raise UsageError(f"unknown task {task_id!r}{nearest(task_id, task_ids())}")
    return cast(Task, importlib.import_module(f"decathlon.tasks.{task_id.replace('-', '_')}"))


def base_recipe(task: Task, data: str) -> Recipe:
    """The task's recipe for this kind of data, before any flag."""
    return task.sample_recipe() if data == "sample" else task.recipe()


def nearest(word: str, words: Iterable[str]) -> str:
    """`; did you mean 'X'?`, or the whole list where nothing is near."""
    words = list(words)
    ends = [one for one in words if "." in one and one.rpartition(".")[2] == word.lstrip("-")]  # --lr: --optimizer.lr
    near = ends[:1] or difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(words)}"


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain JSON data."""
    return dataclasses.asdict(recipe)


def from_dict(default: Recipe, values: dict[str, Any]) -> Recipe:
    """The inverse of `to_dict`: `default` (which fixes the type) with these values in it.

    Raises:
        ValueError: A field is unknown, or its value is of another type than the default's.
    """
    return cast(Recipe, _filled(default, values, ""))


def _filled(default: Any, values: Any, path: str) -> Any:
    if not isinstance(values, dict):
        raise ValueError(f"recipe field {path or 'recipe'!r} must hold an object, not {str(values)[:60]}")
    known = {f.name: getattr(default, f.name) for f in dataclasses.fields(default)}
    hints = get_type_hints(type(default))
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"unknown recipe field {path + name!r}{nearest(name, known)}")
        old = known[name]
        if dataclasses.is_dataclass(old):
            changes[name] = _filled(old, value, f"{path}{name}.")
        else:
            changes[name] = new = _as_written(value, isinstance(old, float))
            if not _fits(new, hints[name]):
                raise ValueError(f"recipe field {path + name!r} must be like {old!r}, not {str(value)[:60]}")
    return dataclasses.replace(default, **changes)


def _as_written(value: Any, number: bool) -> Any:
    """A value as a recipe has it: JSON knows neither tuples nor, of a whole number, whether it is meant as a float."""
    if isinstance(value, list):
        return tuple(_as_written(one, number) for one in value)
    return float(value) if number and type(value) is int and abs(value) < 2**53 else value


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a field's type."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in inside)
    if origin is tuple:
        each = inside[:1] * len(value) if isinstance(value, tuple) and inside[-1] is ... else inside
        return isinstance(value, tuple) and len(value) == len(each) and all(map(_fits, value, each))
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inside)
    return type(value) is hint or (hint is float and type(value) is int)


def differences(recipe: Recipe, default: Recipe, ignore: tuple[str, ...] = ("seed",)) -> dict[str, Any]:
    """The fields, dotted, in which `recipe` differs from `default`."""
    ours, theirs = _flat(to_dict(recipe)), _flat(to_dict(default))
    return {name: value for name, value in ours.items() if theirs[name] != value and name not in ignore}


def _flat(tree: dict[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat.update(_flat(value, f"{path}{name}.") if isinstance(value, dict) else {f"{path}{name}": value})
    return flat
