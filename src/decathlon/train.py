"""From a recipe to a finished run folder."""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning_fabric import Fabric
from torch import nn

from decathlon import guard, plots, processes, report, run
from decathlon.checkpoint import State
from decathlon.data import Data, Epoch, say, source, steps_per_epoch, stream
from decathlon.finished import PRINTED, check_same, described
from decathlon.fit import fit, measure
from decathlon.own import load_network
from decathlon.recipe import PRETRAINING, Recipe, Task, UsageError, base_recipe, differences, get_task, to_dict
from decathlon.terminal import counted, duration

FEW = 100  # steps: fewer are said to be few, on data of the user's own
MANY = 20  # classes: of more, the plan names the first


@dataclass(frozen=True)
class Options:
    """What `train` is told besides the recipe."""

    data: str = "official"
    """official, sample (made on the spot), or the path of your own data"""
    data_dir: str | None = None
    """folder of the official data; default: $DECATHLON_DATA, else the cache folder"""
    out: str | None = None
    """make this the run folder; default: runs/TASK/TIME-seedN"""
    devices: int = 1
    """processes, a GPU or a share of the CPU each; leave it out under torchrun, which has started them"""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """of several processes: each has all weights, or (decathlon pretrain) a share of them, for what fits in none"""
    model: str | None = None
    """train your own network instead: FILE.py:function (no pre-training takes one)"""
    until_bar: bool = False
    """stop when validation reaches the bar (a pre-training has none)"""
    resume: str | None = None
    """go on with this run folder"""
    dry_run: bool = False
    """print the plan and stop"""


def train(task_id: str, recipe: Recipe, options: Options) -> dict[str, Any]:
    """Train, measure once on the test split, and leave a run folder.

    Returns:
        The summary, with `folder` added; with `dry_run` the plan.

    Raises:
        UsageError: The options contradict each other or the run to resume.
        ValueError: The data or the user's network are wrong: says how.
        FloatingPointError, Interrupted, OSError: The training broke off; its last checkpoint stays.
    """
    task = get_task(task_id)
    folder, network_file, told = None, options.model, options
    if options.resume:
        folder, recipe, options = resumed(task, options)
        if (folder / "summary.json").exists():
            say(f"{folder} is finished already: nothing to resume")
            return guard.summary(folder / "summary.json", PRINTED) | {"folder": str(folder)}
        network_file = f"{folder / 'model.py'}:{options.model.rpartition(':')[2]}" if options.model else None
    where = source(options.data, options.data_dir, not options.dry_run)
    bar = task.CARD.bar if where.kind != "own" else None  # the bar is for the task's own data
    if options.until_bar and bar is None:
        raise UsageError("--until-bar: there is no bar for this task on this data")
    pretraining, resuming = task_id.endswith(PRETRAINING), bool(options.resume)
    processes.check(options.strategy, options.devices, recipe, pretraining, resuming)
    if options.devices > 1 and not processes.started():
        return processes.together(options.devices, train, task_id, recipe, told)
    fabric = processes.fabric(recipe.precision, options.strategy)
    with fabric.rank_zero_first():
        data = task.load(where, recipe)
    if len(data.train) < fabric.world_size:
        raise UsageError(f"--devices must be at most {len(data.train)}, the number of training examples")
    if folder is not None:
        check_same(folder, data)
    torch.manual_seed(stream(recipe.seed))
    network = load_network(network_file) if network_file else None
    model = task.model(recipe, data.meta, data.train, network)
    processes.check_gradients(model, fabric)
    broken = task.rules(model, data.meta)
    data = data.to(fabric.device)
    plan = make_plan(task, model, data, recipe, fabric, broken)
    if fabric.is_global_zero:
        print_plan(plan)
    if options.dry_run:
        return plan
    if folder is None:
        folder = start_folder(task, recipe, options, data, fabric)
    elif fabric.is_global_zero:
        note_environment(folder, fabric)
    try:
        kept, state = fit(task, model, data, recipe, folder, fabric, bar, options.until_bar, resuming)
        summary = finish(task, kept, data, recipe, folder, fabric, state, bar, broken)
    except OSError as error:  # a full disk, for one
        raise OSError(f"{error}; then go on where the training was: --resume {folder}") from error
    return summary | {"folder": str(folder)}


def resumed(task: Task, options: Options) -> tuple[Path, Recipe, Options]:
    """Folder, recipe and options of the run to go on with: its own, but for where the data lies."""
    assert options.resume is not None
    folder = Path(options.resume)
    config = guard.config(folder)
    if config["task"] != task.CARD.id:
        raise UsageError(f"{folder} is a run of {config['task']}, not of {task.CARD.id}")
    kept = {name: value for name, value in config["options"].items() if name in vars(options)}
    if kept["model"]:
        guard.own_code(folder / "model.py")
    _, recipe = described(config, folder)
    if gpus := torch.cuda.device_count():  # perhaps fewer than before
        kept["devices"] = min(kept.get("devices", 1), gpus)
    told = {"resume": options.resume, "dry_run": options.dry_run, "data_dir": options.data_dir or kept["data_dir"]}
    return folder, recipe, Options(**(kept | told))


def note_environment(folder: Path, fabric: Fabric) -> None:
    """Write down on what a resumed run goes on, with what it ran on before."""
    before = run.read_json(folder / "environment.json")
    now = run.environment(fabric.device)
    if now != {name: value for name, value in before.items() if name != "before"}:
        run.write_json(folder / "environment.json", now | {"before": before})


def make_plan(
    task: Task, model: nn.Module, data: Data, recipe: Recipe, fabric: Fabric, broken: Iterable[str]
) -> dict[str, Any]:
    """What is about to be done, and about how long it will take."""
    return {
        "task": task.CARD.id,
        "data": data.name,
        "sizes": data.sizes,
        "classes": data.meta.get("classes"),
        "parameters": count(model),
        "epochs": recipe.epochs,
        "steps": recipe.epochs * steps_per_epoch(data.train, recipe.batch_size),
        "device": fabric.device.type,
        "processes": fabric.world_size,
        "threads": torch.get_num_threads(),
        "estimated_seconds": estimate(task, model, data, recipe, fabric),
        "broken_rules": list(broken),
    }


def count(model: nn.Module) -> int:
    """Trained parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def estimate(task: Task, model: nn.Module, data: Data, recipe: Recipe, fabric: Fabric) -> float:
    """Seconds the training will take, from steps of its first and last epoch (images grow) on a copy of the network."""
    trial, steps = copy.deepcopy(model).to(fabric.device).train(), steps_per_epoch(data.train, recipe.batch_size)

    def fastest(number: int) -> float:
        """Of two steps, since the first one allocates."""
        epoch, took = Epoch(recipe.seed, number, 0, fabric.global_rank, fabric.world_size), []
        batches = iter(task.batches(data.train, recipe, epoch))
        for _ in range(min(2, steps)):
            start = time.perf_counter()
            with fabric.autocast():
                loss = task.step(trial, next(batches), recipe)["loss"]
            loss.backward()
            if fabric.device.type == "cuda":  # a GPU works behind our back
                torch.cuda.synchronize()
            took.append(time.perf_counter() - start)
        return min(took)

    return (fastest(0) + fastest(recipe.epochs - 1)) / 2 * recipe.epochs * steps


def print_plan(plan: dict[str, Any]) -> None:
    """The plan in two lines, and a warning where the network breaks the task's rules."""
    sizes = ", ".join(f"{number:,} {name}" for name, number in plan["sizes"].items())
    say(f"{plan['task']} on {plan['data']} ({sizes})")
    where = f"{plan['device']} ({plan['processes']} × {counted(plan['threads'], 'thread')})"
    length = ", ".join(counted(plan[f"{what}s"], what) for what in ("epoch", "step"))
    took = duration(plan["estimated_seconds"])
    say(f"{plan['parameters']:,} parameters, {length} on {where}: about {took} of training")
    own = plan["data"].startswith("own:")
    if own and plan["classes"]:
        names = plan["classes"][:MANY] + (["…"] if len(plan["classes"]) > MANY else [])
        say(f"classes ({len(plan['classes']):,}): {', '.join(names)}")
    if plan["steps"] < FEW and own:
        say(f"{counted(plan['steps'], 'step')} may be too few to learn much: a smaller --batch-size makes more")
    for rule in plan["broken_rules"]:
        say(f"this network breaks a rule of {plan['task']}, so its result will not count: {rule}")


def start_folder(task: Task, recipe: Recipe, options: Options, data: Data, fabric: Fabric) -> Path:
    """Make the run folder (one process does) and write down what is about to be done."""
    folder: Path | None = None
    if fabric.is_global_zero:
        folder = run.new_folder(task.CARD.id, recipe.seed, options.out)
        asked = {k: v for k, v in vars(options).items() if k not in ("resume", "dry_run", "out")}
        asked["devices"] = fabric.world_size
        if options.data not in ("official", "sample"):
            asked["data"] = str(Path(options.data).resolve())  # the run may be evaluated from elsewhere
        if options.data_dir:
            asked["data_dir"] = str(Path(options.data_dir).expanduser().resolve())
        config = {"task": task.CARD.id, "recipe": to_dict(recipe), "options": asked}
        if options.model:
            shutil.copyfile(options.model.rpartition(":")[0], folder / "model.py")
            guard.remember(folder / "model.py")
        run.write_json(folder / "environment.json", run.environment(fabric.device))
        # Last: a folder without it has not begun, and the same command may begin there.
        run.write_json(folder / "config.json", config | {"data": data.name, "meta": data.meta, "sizes": data.sizes})
    return cast(Path, fabric.broadcast(folder))


def finish(
    task: Task,
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    folder: Path,
    fabric: Fabric,
    state: State,
    bar: float | None,
    broken: list[str],
) -> dict[str, Any]:
    """Measure on the test split (here, and nowhere else), keep the weights, draw the plots, write the summary."""
    metrics = measure(task, model, data, "test", recipe, fabric)
    summary: dict[str, Any] = {}
    with fabric.rank_zero_first():  # the others wait, however long it takes
        if fabric.is_global_zero:  # another host need not see the folder
            summary = summarise(task, model, data, recipe, folder, fabric, state, bar, broken, metrics)
            run.save_weights(folder / "model.safetensors", model.state_dict())
            draw(task, model, data, recipe, folder, bar)
            report.write(folder, summary)
            run.write_json(folder / "summary.json", summary)
    return fabric.broadcast(summary)


def summarise(
    task: Task,
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    folder: Path,
    fabric: Fabric,
    state: State,
    bar: float | None,
    broken: list[str],
    metrics: dict[str, float],
) -> dict[str, Any]:
    """What summary.json says."""
    config, environment = run.read_json(folder / "config.json"), run.read_json(folder / "environment.json")
    card, kind = task.CARD, source(config["options"]["data"]).kind
    value, network = metrics[card.metric], config["options"]["model"]
    return {
        "task": card.id,
        "data": data.name,
        "split": "test",
        "metric": card.metric,
        "value": value,
        "bar": bar,
        "passed": None if bar is None else value >= bar,
        "counts": kind == "official" and not broken,
        "broken_rules": broken,
        "metrics": metrics,
        "seed": recipe.seed,
        "epochs": state.epoch,
        "steps": state.step,
        "train_seconds": round(state.train_seconds, 2),
        "seconds_to_bar": state.seconds_to_bar and round(state.seconds_to_bar, 2),
        "parameters": count(model),
        "overrides": differences(recipe, base_recipe(task, config["options"]["data"])),
        "until_bar": config["options"]["until_bar"],
        "model": network and Path(network).name,
        "encoder": data.meta.get("encoder"),  # whose vectors the task builds on
        "devices": fabric.world_size,
        "peak_memory_mib": run.peak_memory(fabric.device),
        **{name: environment[name] for name in ("device", "hardware", "threads", "commit", "versions")},
    }


def draw(task: Task, model: nn.Module, data: Data, recipe: Recipe, folder: Path, bar: float | None) -> None:
    """Draw the plots. One that fails is told, and takes nothing with it: the result was hours of work."""
    try:
        (folder / "plots").mkdir(exist_ok=True)
        plots.curves(folder, task.CARD.metric, bar)
        with torch.no_grad():
            task.show(model, data, recipe, folder / "plots")
    except Exception as error:
        say(f"the plots could not be drawn: {type(error).__name__}: {error}")
