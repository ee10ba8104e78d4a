"""A finished run, read back: its network, its recipe and its data, and its number measured again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from torch import nn

from decathlon import guard, run, shipped
from decathlon.data import Data, say, source
from decathlon.fit import measure
from decathlon.own import load_network
from decathlon.recipe import Recipe, Task, UsageError, base_recipe, from_dict, get_task

PRINTED = ("metrics", "broken_rules", "passed")  # what a summary must have to be shown


@dataclass(frozen=True)
class Loaded:
    """A finished run: its task, network, recipe and what it knows of its data."""

    task: Task
    model: nn.Module
    recipe: Recipe
    config: dict[str, Any]


def described(config: dict[str, Any], folder: Path) -> tuple[Task, Recipe]:
    """Task and recipe that a run's config.json tells. Raises ValueError, naming it, for what no training writes."""
    try:
        task = get_task(config["task"])
        return task, from_dict(base_recipe(task, config["options"]["data"]), config["recipe"])
    except ValueError as error:
        raise ValueError(f"{folder / 'config.json'} is damaged: {error}") from None


def load_run(folder: Path) -> Loaded:
    """Read a finished run.

    Raises:
        FileNotFoundError: It is no run folder, or one that has not finished.
        ValueError: It is damaged.
    """
    config = guard.config(folder)
    (task, recipe), options = described(config, folder), config["options"]
    weights = run.load_weights(folder / "model.safetensors")
    function = options["model"] and options["model"].rpartition(":")[2]
    network = load_network(f"{guard.own_code(folder / 'model.py')}:{function}") if function else None
    model = guard.built(lambda: task.model(recipe, config["meta"], None, network), weights, folder, network is None)
    return Loaded(task, model.eval(), recipe, config)


def load_data(folder: Path, loaded: Loaded, data_dir: str | None) -> Data:
    """The data that a finished run was trained on, from `data_dir` or from where they were then.

    Raises:
        ValueError: What lies there now is something else.
        FileNotFoundError, ConnectionError: As the task's `load`.
    """
    options = loaded.config["options"]
    data = loaded.task.load(source(options["data"], data_dir or options["data_dir"]), loaded.recipe)
    check_meta(folder, data)
    if change := changed(folder, data):
        say(change)
    return data


def check_meta(folder: Path, data: Data) -> None:
    """Raise ValueError where the data are not what the run in `folder` knows: other classes, another encoder."""
    known = guard.config(folder)["meta"]
    for name, now in data.meta.items():
        if name in known and known[name] != now:
            before, after = (", ".join(value) if isinstance(value, list) else value for value in (known[name], now))
            raise ValueError(f"{folder} was trained on other data ({name} {before!s:.60}, now {after!s:.60})")


def check_same(folder: Path, data: Data) -> None:
    """Raise ValueError where the data are not what the training in `folder` began with: it could not go on so."""
    check_meta(folder, data)
    if change := changed(folder, data):
        raise ValueError(f"{change}: put back what it began with, or train anew without --resume")


def changed(folder: Path, data: Data) -> str:
    """In words, how the data differ from those of the run in `folder`: in their copy, or the number of examples."""
    config = guard.config(folder)
    before = {"data": config["data"]} | config.get("sizes", {})  # what ships does not tell its sizes
    now = {"data": data.name} | data.sizes
    found = [f"{name} {before[name]}, now {now[name]}" for name in before if before[name] != now.get(name)]
    return f"the data are not those that {folder} was trained on ({'; '.join(found)})" if found else ""


def find_run(task_id: str, run_folder: str | None) -> Path:
    """The named run folder; for `latest` the newest finished run of the task; without a name the shipped weights.

    Raises:
        FileNotFoundError: There is none; says how to get one.
        UsageError: The named one is of another task.
    """
    if run_folder is None and (place := shipped.folder(task_id)):
        return place
    if run_folder not in (None, "latest"):
        if (found := run.read_json(Path(run_folder) / "config.json").get("task")) != task_id:
            raise UsageError(f"{run_folder} is a run of {found}, not of {task_id}")
        return Path(run_folder)
    finished = list(Path("runs", task_id).glob("*/summary.json"))
    if not finished:
        raise FileNotFoundError(
            f"there is no finished run in runs/{task_id}: train one (decathlon train {task_id} --data sample takes "
            "seconds), or name a run folder with --run"
        )
    return max(finished, key=lambda path: path.stat().st_mtime).parent


def evaluate(folder: Path, data_dir: str | None) -> dict[str, Any]:
    """Measure a finished run's network again, on the data it was trained for.

    Returns:
        The run's summary with `value`, `passed` and `metrics` measured now.
    """
    loaded = load_run(folder)
    card = loaded.task.CARD
    fabric = Fabric(accelerator="auto", devices=1, precision=loaded.recipe.precision)
    data = load_data(folder, loaded, data_dir).to(fabric.device)
    metrics = measure(loaded.task, loaded.model.to(fabric.device), data, "test", loaded.recipe, fabric)
    summary = guard.summary(folder / "summary.json", PRINTED)
    value, bar = metrics[card.metric], summary["bar"]
    return summary | {
        "data": data.name,
        "value": value,
        "passed": None if bar is None else value >= bar,
        "metrics": metrics,
    }
