"""Reading a finished run: its network, its recipe and its data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from decathlon.data.base import Data, DataInfo, derive_seed, parse_source
from decathlon.errors import UsageError
from decathlon.messages import say
from decathlon.runs import bundled, validate
from decathlon.runs.folder import load_weights, read_json
from decathlon.runs.records import RunConfig
from decathlon.runs.user_model import load_network, require_trusted
from decathlon.tasks.base import Task, base_recipe, get_task
from decathlon.tasks.recipe import Recipe, from_dict

REPORTED_FIELDS = ("metrics", "violations", "passed")  # what a summary must have to be shown


class WeightMismatch(ValueError):
    """The weights are of another network."""


@dataclass(frozen=True)
class Loaded:
    """A finished run: its task, network, recipe, config and data info."""

    task: Task
    model: nn.Module
    recipe: Recipe
    config: RunConfig
    info: DataInfo


def load_run(folder: Path) -> Loaded:
    """Read a finished run.

    Raises:
        FileNotFoundError: It is no run folder, or the run has not finished.
        ValueError: It is damaged.
    """
    config = validate.config(folder)
    task, recipe = read_recipe(config, folder)
    weights = load_weights(folder / "model.safetensors")
    network = None
    if config.options.model and (function := config.options.model.rpartition(":")[2]):
        with torch.random.fork_rng(devices=[]):  # what is in no state_dict, as in training
            torch.default_generator.manual_seed(derive_seed(recipe.seed))  # and not that of a GPU
            network = load_network(f"{require_trusted(folder / 'model.py')}:{function}")
    model = build_network(lambda: task.model(recipe, config.info, None, network), weights, folder, network is None)
    return Loaded(task, model.eval(), recipe, config, config.info)


def read_recipe(config: RunConfig, folder: Path) -> tuple[Task, Recipe]:
    """Task and recipe of a run's config. Raises ValueError, naming config.json, for an unknown task or a bad recipe."""
    try:
        task = get_task(config.task)
        return task, from_dict(base_recipe(task, config.options.data), config.recipe)
    except ValueError as error:
        raise ValueError(f"{folder / 'config.json'} is damaged: {error}") from None


def build_network(build: Callable[[], nn.Module], weights: dict[str, Tensor], folder: Path, is_ours: bool) -> nn.Module:
    """The network of a run folder, with its weights.

    The task's own network is first built on the meta device and its shapes compared with those of the weights, so that
    a forged config.json cannot take more memory than model.safetensors has bytes.

    Raises:
        ValueError: No network can be built, the weights do not fit it, or a weight is NaN or infinite.
    """
    path = folder / "model.safetensors"
    try:
        if is_ours:
            with torch.device("meta"):
                expected = {name: tuple(tensor.shape) for name, tensor in build().state_dict().items()}
            shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
            names = sorted(expected.keys() | shapes.keys())
            if wrong := next((name for name in names if expected.get(name) != shapes.get(name)), None):
                both = f"{expected.get(wrong, 'absent')}, and is {shapes.get(wrong, 'absent')}"
                raise WeightMismatch(f"{path} does not fit the network: {wrong} should be {both}")
        model = build()
    except WeightMismatch:
        raise
    except Exception as error:  # each network fails in its own way for impossible sizes
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{folder / 'config.json'} describes no network that can be built: {reason}") from None
    # A buffer of a user's network may hold infinities.
    checked = weights if is_ours else dict(model.named_parameters(remove_duplicate=False))
    if bad := next((n for n, t in weights.items() if n in checked and not bool(t.isfinite().all())), None):
        raise ValueError(f"{path} is damaged: {bad} has values that are NaN or infinite")
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the network: {error}") from None
    return model


def load_data(folder: Path, loaded: Loaded, data_dir: str | None) -> Data:
    """The data that a finished run was trained on, from `data_dir` or from where they were then.

    Raises:
        ValueError: The data there are others now.
        FileNotFoundError, ConnectionError: As the task's `load`.
    """
    options = loaded.config.options
    source = replace(parse_source(options.data, data_dir or options.data_dir), for_training=False)
    data = loaded.task.load(source, loaded.recipe)
    check_data_info(folder, data)
    if change := describe_data_change(folder, data):
        say(change)
    return data


def check_data_info(folder: Path, data: Data) -> None:
    """Raise ValueError where the data do not fit the run's network: other classes, another encoder."""
    trained_on = validate.config(folder).info.to_dict()
    for name, now in data.info.to_dict().items():
        if name in trained_on and trained_on[name] != now:
            pair = (trained_on[name], now)
            before, after = (", ".join(value) if isinstance(value, list) else value for value in pair)
            raise ValueError(f"{folder} was trained on other data ({name} {before!s:.60}, now {after!s:.60})")


def check_same_data(folder: Path, data: Data) -> None:
    """Raise ValueError where the data are not those that the training in `folder` began with: it cannot continue."""
    check_data_info(folder, data)
    if change := describe_data_change(folder, data):
        raise ValueError(f"{change}: restore the data that it began with, or train anew without --resume")


def describe_data_change(folder: Path, data: Data) -> str:
    """A sentence on how the data differ from those of the run (another copy, other sizes); empty if they do not."""
    config = validate.config(folder)
    before = {"data": config.data} | config.sizes
    now = {"data": data.name} | data.sizes
    changes = [f"{name} {before[name]}, now {now[name]}" for name in before if before[name] != now.get(name)]
    return f"the data are not those that {folder} was trained on ({'; '.join(changes)})" if changes else ""


def find_run(task_id: str, run_folder: str | None) -> Path:
    """The named run folder; for `latest` the newest finished run of the task; without a name the weights that ship.

    Raises:
        FileNotFoundError: There is no such run; the message says how to train one.
        UsageError: The run is of another task.
    """
    if run_folder is None and (weights := bundled.folder(task_id)):
        return weights
    if run_folder not in (None, "latest"):
        if (run_task := read_json(Path(run_folder) / "config.json").get("task")) != task_id:
            raise UsageError(f"{run_folder} is a run of {run_task}, not of {task_id}")
        return Path(run_folder)
    return latest_run(task_id)


def latest_run(task_id: str = "*") -> Path:
    """The newest finished run under runs/, of a task or of any: runs/TASK/RUN, or a folder runs/RUN that was named.

    Raises:
        FileNotFoundError: There is none; the message says how to train one.
    """
    named = [
        path.with_name("summary.json")
        for path in Path("runs").glob("*/config.json")
        if path.with_name("summary.json").exists() and task_id in ("*", read_json(path).get("task"))
    ]
    if finished := [*named, *Path("runs").glob(f"{task_id}/*/summary.json")]:
        return max(finished, key=lambda path: path.stat().st_mtime).parent
    folder, example = ("runs", "mnist-mlp") if task_id == "*" else (f"runs/{task_id}", task_id)
    raise FileNotFoundError(
        f"there is no finished run in {folder}: train one (decathlon train {example} --data sample takes seconds), "
        "or name a run folder"
    )
