"""The interface of a task, its `Spec` and the functions of its module; and the registry of all tasks.

Nothing here imports torch, so that the command line can answer `--help` at once.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from decathlon.errors import UsageError, nearest
from decathlon.tasks.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from decathlon.data.base import Data, DataInfo, EpochShard, Source, Split
    from decathlon.evaluation.onnx_graph import OnnxGraph
    from decathlon.evaluation.predictions import Prediction

# The order of the tasks in every table, from simple to complex. Other tasks follow, sorted by name.
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

RECIPES = ("fast", "best")  # the names for `--recipe`

PRETRAINING = ("roberta-mlm",)  # tasks that train an encoder for another task; listed apart


@dataclass(frozen=True)
class Spec:
    """The fixed facts of a task.

    Attributes:
        id: Name of the task, its module, docs page and results folder.
        dataset: Module of `decathlon.data` that loads its data.
        network: The required architecture, in a line; `check_architecture` of the task checks a network against it.
        metric: Name of the task's metric, a fraction from 0 to 1.
        bar: The value that the metric must reach on the test split, or None.
        tta: Test-time augmentation of `evaluate`, where the recipe has no choice of it.
    """

    id: str
    dataset: str
    network: str
    metric: str = "accuracy"
    bar: float | None = None
    tta: Literal["none", "flip"] = "none"


class Task(Protocol):
    """The functions of a module under `decathlon.tasks`. `docs/adding-a-task.md` walks through them.

    A module may have a `best_recipe`, too: the recipe with the highest known metric.
    """

    SPEC: Spec

    def recipe(self) -> Recipe:
        """The recipe that clears the bar on the official data."""

    def sample_recipe(self) -> Recipe:
        """The recipe for `--data sample`: the same method in seconds."""

    def load(self, source: Source, recipe: Recipe) -> Data:
        """Find or download the data, and read it."""

    def model(
        self, recipe: Recipe, info: DataInfo, train: Split | None = None, network: nn.Module | None = None
    ) -> nn.Module:
        """The network that is trained and evaluated.

        Args:
            recipe: The hyperparameters.
            info: Class names and other facts of the data.
            train: The training split, at the start of training: for initialisation from data.
            network: The user's own network (`--model`), used instead of the task's.
        """

    def check_architecture(self, model: nn.Module, info: DataInfo) -> list[str]:
        """The ways in which a network violates `SPEC.network`. Raises ValueError if its shapes are wrong."""

    def batches(self, split: Split, recipe: Recipe, epoch: EpochShard) -> Iterable[Any]:
        """The (remaining) batches of one epoch for this process, on the device of `split`.

        Their order depends on `epoch.generator()` only. Random augmentation in the workers of a DataLoader must depend
        on seed, epoch and example only, or a resumed run would see other examples.
        """

    def training_loss(self, model: nn.Module, batch: Any, recipe: Recipe) -> dict[str, Tensor]:
        """The `loss` of a batch, which is minimised, and other values to log, such as its terms."""

    def evaluate(self, model: nn.Module, data: Data, split: str, recipe: Recipe) -> dict[str, float]:
        """All metrics on the named split, `SPEC.metric` among them."""

    def predict(
        self, model: nn.Module, inputs: Sequence[Any], recipe: Recipe, info: DataInfo, batch_size: int = 32
    ) -> Sequence[Prediction | Exception]:
        """A prediction for each input, or the error of an input that cannot be read; nothing is written.

        `model` may be an `OnnxNetwork`, which computes the outputs of `onnx_graph`.
        """

    def onnx_graph(self, model: nn.Module, recipe: Recipe, info: DataInfo) -> OnnxGraph:
        """The graph that `export` writes, and metadata on its inputs and outputs."""

    def plot_validation(self, model: nn.Module, data: Data, recipe: Recipe, folder: Path) -> None:
        """Write plots of the network's predictions on the validation split: `folder`/*.png."""


def task_ids() -> list[str]:
    """The ids of all tasks: those of the curriculum first, in its order."""
    position = {name: number for number, name in enumerate(CURRICULUM)}
    names = (module.name.replace("_", "-") for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    ids = [name for name in names if name not in ("base", "recipe", *PRETRAINING)]
    return sorted(ids, key=lambda name: (position.get(name, len(position)), name))


def get_task(task_id: str) -> Task:
    """Import the task with this id, a pre-training included.

    Raises:
        UsageError: There is no such task; the message names the most similar.
    """
    all_ids = [*task_ids(), *PRETRAINING]
    if task_id not in all_ids:
        raise UsageError(f"unknown task {task_id!r}{nearest(task_id, all_ids)}")
    return cast(Task, importlib.import_module(f"decathlon.tasks.{task_id.replace('-', '_')}"))


def base_recipe(task: Task, data: str, name: str | None = None) -> Recipe:
    """The task's recipe before any flag: that of the sample, or the one with this name, by default `fast`."""
    if data == "sample":
        return task.sample_recipe()
    return cast(Recipe, getattr(task, "best_recipe", task.recipe)()) if name == "best" else task.recipe()


def tta_name(task: Task, recipe: Recipe) -> str:
    """Test-time augmentation of `evaluate`: of the recipe where it has a choice, else of the task."""
    return getattr(recipe, "tta", task.SPEC.tta)


def choose_recipe(task: Task, data: str, name: str | None = None) -> str:
    """The name of the recipe for a training: `sample`, `fast` or `best`.

    Args:
        task: The task.
        data: `official`, `sample`, or the path of the user's own data.
        name: The name that the user gives; default: `best` on a GPU if the task has it, else `fast`. Tasks without a
            bar, the detectors, keep `fast`: their `best` has another backbone than they promise.

    Raises:
        UsageError: The task has no recipe of this name.
    """
    has_best = hasattr(task, "best_recipe")
    if data == "sample":
        if name:
            raise UsageError("--recipe: the sample has a recipe of its own, so leave --recipe out")
        return "sample"
    if not name:
        import torch

        return "best" if has_best and task.SPEC.bar is not None and torch.cuda.is_available() else "fast"
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}{nearest(name, RECIPES)}")
    if name == "best" and not has_best:
        raise UsageError(f"{task.SPEC.id} has one recipe, so leave --recipe out")
    return name
