"""The public API: what the command line can do, from Python. `import decathlon` exports it lazily.

>>> import decathlon
>>> decathlon.tasks()[:3]
['mnist-mlp', 'mnist-cnn', 'mnist-autoencoder']
>>> model = decathlon.load("mnist-mlp")                    # the weights that ship
>>> model.classes
['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']
>>> import numpy as np
>>> image = np.zeros((28, 28), np.uint8)
>>> image[4:24, 13:15] = 255
>>> prediction = model.predict([image])[0]
>>> prediction.label
'1'
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from decathlon.data.read_options import ReadOptions, join_path
from decathlon.errors import UsageError, nearest, require
from decathlon.tasks.base import PRETRAINING, Task, base_recipe, choose_recipe, get_task, task_ids
from decathlon.tasks.recipe import Recipe, from_dict

if TYPE_CHECKING:
    from torch import nn

    from decathlon.data.base import Data, DataInfo
    from decathlon.evaluation.predictions import Prediction
    from decathlon.training.runner import RunOptions


def tasks() -> list[str]:
    """The ids of the ten tasks, in the order of the curriculum."""
    return task_ids()


def load_data(
    task: str,
    *,
    data: str | Path = "official",
    recipe: Literal["fast", "best"] | None = None,
    data_dir: str | Path | None = None,
    text_column: str = "",
    label_column: str = "",
    mask_suffix: str = "",
    transposed: bool = False,
) -> Data:
    """The data of a task, as `train` reads them: to look at, or to train on in your own way.

    Args:
        task: Its id; `tasks()` lists them.
        data: `official`, `sample` (made on the spot), or the path of your own data.
        recipe: As in `train`: the image size, for one, is the recipe's.
        data_dir: Folder of the official data; default: `$DECATHLON_DATA`, else the user's cache folder.
        text_column: As in `train`, like the following.
        label_column: Column of the labels.
        mask_suffix: Suffix of the masks' names.
        transposed: Whether IDX images are stored column by column.

    Returns:
        The splits `train`, `validation` and `test`, each with `inputs` and `targets` (N, …); `sizes`; and `info`, with
        the `classes`. Images are uint8 (N, C, H, W); a detector's splits give image and boxes by `example(index)`.

    Raises:
        UsageError: There is no such task or recipe, or an option does not apply to these data.
        FileNotFoundError, ConnectionError: The data are missing and could not be downloaded.
        ValueError: They are damaged.
    """
    from decathlon.data.base import parse_source

    module = get_task(task)
    name = choose_recipe(module, str(data), recipe)
    path = join_path(str(data), ReadOptions(text_column, label_column, mask_suffix, transposed), module.SPEC.dataset)
    source = parse_source(path, None if data_dir is None else str(data_dir))
    return module.load(source, base_recipe(module, str(data), name))


@dataclass(frozen=True)
class Run:
    """A finished training.

    Attributes:
        task: Id of the task.
        folder: The run folder, with weights, metrics, plots and report.
        value: The task's metric on the test split, from 0 to 1.
        metrics: All metrics on the test split.
        history: For each epoch `epoch`, `step`, and the metrics of `train` and `validation`.
        summary: The content of summary.json: data, seed, seconds, parameters, versions, …
    """

    task: str
    folder: Path
    value: float
    metrics: dict[str, float]
    history: list[dict[str, Any]]
    summary: dict[str, Any]

    @property
    def report(self) -> Path:
        """The page that shows the run: curves, plots, recipe."""
        return self.folder / "report.html"


def train(
    task: str,
    *,
    data: str | Path = "official",
    recipe: Literal["fast", "best"] | None = None,
    data_dir: str | Path | None = None,
    out: str | Path | None = None,
    devices: int = 1,
    strategy: Literal["ddp", "fsdp"] = "ddp",
    model: str | None = None,
    until_bar: bool = False,
    tensorboard: bool = False,
    resume: str | Path | None = None,
    text_column: str = "",
    label_column: str = "",
    mask_suffix: str = "",
    transposed: bool = False,
    **fields: Any,
) -> Run:
    """Train a task and measure it once on the test split.

    >>> import decathlon
    >>> run = decathlon.train("mnist-mlp", data="sample", epochs=1, optimizer={"lr": 0.01})   # doctest: +SKIP
    >>> run.value > 0.9                                                                       # doctest: +SKIP
    True

    Args:
        task: Its id; `tasks()` lists them.
        data: `official`, `sample` (made on the spot), or the path of your own data.
        recipe: `fast`, which clears the bar, or `best`, the highest known metric, which only some tasks have; default:
            `best` on a GPU (`fast` for detectors), else `fast`. The sample has a recipe of its own.
        data_dir: Folder of the official data; default: `$DECATHLON_DATA`, else the user's cache folder.
        out: The run folder; default: runs/TASK/TIME-seedN.
        devices: Number of processes, each with a GPU or a part of the CPU.
        strategy: With several processes: `ddp`, or `fsdp` (pre-training only).
        model: Train your own network instead: `FILE.py:function`.
        until_bar: Stop when validation reaches the bar.
        tensorboard: Log curves, predictions, plots and the recipe into the run folder (extra `[tensorboard]`).
        resume: A run folder to continue; its recipe and options are kept.
        text_column: Column of your own table that holds the texts; default: text.
        label_column: Column that holds the labels; default: label.
        mask_suffix: What your own masks' names have after their images': `_mask`.
        transposed: Whether the images of your own IDX files are stored column by column, as EMNIST's are.
        fields: Fields of the recipe to change, nested ones as a dict: `epochs=3, optimizer={"lr": 0.1}`.

    Raises:
        UsageError: An unknown task, recipe or field (the message names the most similar), or contradictory options.
        ValueError: The data or your network are invalid; the message says why.
        FileNotFoundError, ConnectionError: The data are missing and could not be downloaded.
        FloatingPointError: The loss became NaN or infinite.
        RuntimeError: The training was interrupted or a process of several failed (the last checkpoint stays); or an
            extra is not installed.
    """
    from decathlon.training.runner import RunOptions

    if resume is not None and (given := [*fields, *(["recipe"] if recipe else [])]):
        raise UsageError(f"a resumed run keeps its recipe and options: {given[0]} cannot be set with resume")
    module = get_task(task)
    name = choose_recipe(module, str(data), recipe)
    options = RunOptions(
        data=join_path(str(data), ReadOptions(text_column, label_column, mask_suffix, transposed), module.SPEC.dataset),
        data_dir=None if data_dir is None else str(data_dir),
        recipe=None if name == "sample" else name,
        out=None if out is None else str(out),
        devices=devices,
        strategy=strategy,
        model=model,
        until_bar=until_bar,
        tensorboard=tensorboard,
        resume=None if resume is None else str(resume),
    )
    changed = build_recipe(module, str(data), name, fields)
    return open_run(Path(train_and_report(task, changed, options)["folder"]))


def build_recipe(task: Task, data: str, name: str, fields: dict[str, Any]) -> Recipe:
    """A recipe of the task with some fields changed. Raises UsageError for an unknown field or bad value."""
    try:
        return from_dict(base_recipe(task, data, name), fields)
    except ValueError as error:
        raise UsageError(str(error)) from None


def train_and_report(task_id: str, recipe: Recipe, options: RunOptions) -> dict[str, Any]:
    """Train as `runner.train` does; write the report, and of a pre-training the encoder, into the run folder."""
    from decathlon.training import distributed, runner

    result = runner.train(task_id, recipe, options).to_dict()
    if options.dry_run or distributed.get_rank() != 0:
        return result
    from decathlon.reporting import html

    folder = Path(result["folder"])
    if not (folder / "report.html").exists():
        html.write(folder, {name: value for name, value in result.items() if name != "folder"})
    if task_id in PRETRAINING:
        from decathlon.runs import encoder

        encoder.export(folder)
    return result


def open_run(folder: str | Path) -> Run:
    """Read a finished run folder.

    Raises:
        FileNotFoundError: It is no run folder, or the run has not finished.
        ValueError: It is damaged.
    """
    from decathlon.runs import validate
    from decathlon.runs.folder import read_lines

    folder = Path(folder).expanduser()
    summary = validate.summary(folder / "summary.json", ("metrics",)).to_dict()
    history = read_lines(folder / "metrics.jsonl")
    return Run(summary["task"], folder, summary["value"], summary["metrics"], history, summary)


@dataclass(frozen=True)
class Model:
    """A trained network, ready to predict.

    Attributes:
        task: Id of the task.
        network: The torch module, in evaluation mode; of an ONNX file a module that calls onnxruntime.
        recipe: The recipe that it was trained with.
        info: Class names, vocabulary and other facts of the training data that predicting needs.
        source: The run folder or file that it was loaded from.
    """

    task: str
    network: nn.Module
    recipe: Recipe
    info: DataInfo
    source: Path

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of their labels; a detector's network counts them from 1."""
        return list(self.info.classes)

    def predict(self, inputs: Sequence[Any], *, device: str = "auto", batch_size: int = 32) -> list[Prediction]:
        """Predict for some inputs.

        Args:
            inputs: For images: paths, PIL images, NumPy arrays (H, W[, C]) uint8, or tensors (C, H, W), uint8 or
                float from 0 to 1. For texts: strings.
            device: `auto` (a GPU where there is one), `cpu`, `cuda`, …
            batch_size: Inputs that go through the network at once.

        Returns:
            One prediction for each input: `Classification`, `TextClassification`, `Segmentation` or `Detections`.

        Raises:
            UsageError: There is no such device.
            FileNotFoundError, ValueError: An input cannot be read. `predict_each` continues with the others.
        """
        predictions = self.predict_each(inputs, device=device, batch_size=batch_size)
        for prediction in predictions:
            if isinstance(prediction, Exception):
                raise prediction
        return [prediction for prediction in predictions if not isinstance(prediction, Exception)]

    def predict_each(
        self, inputs: Sequence[Any], *, device: str = "auto", batch_size: int = 32
    ) -> list[Prediction | Exception]:
        """As `predict`, but for an input that cannot be read, the list holds its error instead of a prediction."""
        import torch

        if is_one_input(inputs):
            raise TypeError("predict takes a list of inputs: put the one input into a list")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        if self.source.suffix == ".onnx":
            require("device", device in ("auto", "cpu"), "auto or cpu: an ONNX file runs on the CPU here")
        else:
            self.network.to(find_device(device))
        modes = [(module, module.training) for module in self.network.modules()]
        try:
            with torch.inference_mode():
                network = self.network.eval()
                return list(get_task(self.task).predict(network, inputs, self.recipe, self.info, batch_size))
        finally:
            for module, mode in modes:
                module.training = mode

    def evaluate(self, data_dir: str | Path | None = None) -> dict[str, float]:
        """All metrics of the network as it is now on the test split of the data that it was trained on.

        Args:
            data_dir: Folder of the official data; default: as in training.

        Raises:
            FileNotFoundError, ConnectionError: The data are missing.
            ValueError: They are not the data of the training, or the model is an ONNX file.
        """
        from decathlon.training import runner

        self._require_run("evaluate")
        network = copy.deepcopy(self.network)  # neither moved to a GPU nor put into evaluation mode
        return runner.evaluate(self.source, None if data_dir is None else str(data_dir), network).metrics

    def export(self, path: str | Path) -> dict[str, Any]:
        """Write the network as it is now as an ONNX file, checked against PyTorch. Needs the extra `[export]`.

        Returns:
            The files, the largest difference from PyTorch, and both latencies.
        """
        from decathlon.onnx.export import export

        self._require_run("export")
        return export(self.source, Path(path).expanduser(), [], copy.deepcopy(self.network).cpu())

    def _require_run(self, method: str) -> None:
        if self.source.suffix == ".onnx":
            raise ValueError(f"{self.source} is an ONNX file: {method} takes a run")


def is_one_input(inputs: Any) -> bool:
    """Whether this is no sequence of inputs: a path, a text, an image, or an array or tensor of one image."""
    shape = tuple(getattr(inputs, "shape", ()))
    channels = shape[-1:] if type(inputs).__module__ == "numpy" else shape[:1]  # (H, W, C); a tensor has (C, H, W)
    is_image = len(shape) == 2 or (len(shape) == 3 and channels[0] in (1, 3, 4))
    return isinstance(inputs, (str, Path)) or hasattr(inputs, "getbands") or is_image


def find_device(name: str) -> str:
    """The device of this name, with `auto` a GPU where there is one. Raises UsageError where there is none such."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise UsageError(f"device {name!r}: there is none such here; give auto, cpu, cuda or cuda:N") from None
    return name


def load(source: str | Path | Run, task: str | None = None) -> Model:
    """Load a trained network.

    Args:
        source: The id of a task (the weights that ship), a `Run`, a run folder, or an ONNX file of `Model.export`.
        task: The task that an ONNX file or a folder must be of; default: any.

    Raises:
        UsageError: `source` is none of these, or of another task, or a pre-training.
        FileNotFoundError: The package has no weights of this task, or the run has not finished.
        ValueError: The files are damaged.
    """
    if isinstance(source, Run):
        source = source.folder
    path = Path(source).expanduser()
    if path.suffix == ".onnx" and path.is_file():
        from decathlon.onnx.session import open_file

        opened = open_file(path, get_task(task) if task else None)
        return Model(opened.task.SPEC.id, opened.network, opened.recipe, opened.info, path)
    from decathlon.runs import bundled
    from decathlon.runs.load import load_run

    if isinstance(source, str) and source in task_ids():
        folder = bundled.folder(source)
        if folder is None:
            raise FileNotFoundError(f"the package has no weights of {source}: train it, or name a run folder")
    elif path.is_dir():
        folder = path
    else:
        raise UsageError(f"{str(source)!r} is no task, run folder or ONNX file{nearest(str(source), task_ids())}")
    loaded = load_run(folder)
    if task not in (None, loaded.task.SPEC.id):
        raise UsageError(f"{folder} is a run of {loaded.task.SPEC.id}, not of {task}")
    if loaded.task.SPEC.id in PRETRAINING:
        raise UsageError(f"{folder} is a pre-training: train imdb-roberta with its encoder, {folder / 'encoder'}")
    return Model(loaded.task.SPEC.id, loaded.model, loaded.recipe, loaded.info, folder)


__all__ = ["Model", "Run", "Task", "load", "load_data", "open_run", "tasks", "train"]
