"""One run, from a recipe to a finished run folder."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import nn

from decathlon.data.base import Data, Source, derive_seed, parse_source
from decathlon.data.io import atomic
from decathlon.errors import UsageError
from decathlon.messages import say
from decathlon.runs import folder as run_folder
from decathlon.runs import validate
from decathlon.runs.code_hash import code_hash
from decathlon.runs.load import REPORTED_FIELDS, check_same_data, load_data, load_run, read_recipe
from decathlon.runs.records import Plan, RunConfig, RunOptions, Summary
from decathlon.runs.user_model import load_network, require_trusted, trust_file
from decathlon.tasks.base import PRETRAINING, Task, base_recipe, get_task, tta_name
from decathlon.tasks.recipe import Recipe, differences, to_dict
from decathlon.training import distributed, tensorboard
from decathlon.training.checkpoint import State
from decathlon.training.loop import fit, measure
from decathlon.training.memory import MemoryMeter, keep_freed_memory
from decathlon.training.own_network import check_network
from decathlon.training.plan import count_parameters, make_plan, print_plan

__all__ = ["RunOptions", "evaluate", "train"]


@dataclass(frozen=True)
class Run:
    """The fixed parts of a run."""

    task: Task
    source: Source
    data: Data
    recipe: Recipe
    folder: Path
    fabric: Fabric
    bar: float | None
    violations: list[str]


def train(task_id: str, recipe: Recipe, options: RunOptions) -> Summary | Plan:
    """Train, measure once on the test split, and leave a run folder.

    Returns:
        The summary with its `folder`; with `dry_run` the plan.

    Raises:
        UsageError: The options contradict each other or the run to resume.
        ValueError: The data or the user's network are invalid; the message says why.
        FloatingPointError, Interrupted, OSError: The training failed; its last checkpoint stays.
    """
    validate.options(options)
    task, resuming, options = get_task(task_id), bool(options.resume), expand_home(options)
    folder, network_file, given_options = None, options.model, options
    if resuming:
        folder, recipe, options = read_resumed_run(task, options)
        if (folder / "summary.json").exists():
            say(f"{folder} is finished already: nothing to resume")
            return dataclasses.replace(validate.summary(folder / "summary.json", REPORTED_FIELDS), folder=str(folder))
        network_file = f"{folder / 'model.py'}:{options.model.rpartition(':')[2]}" if options.model else None
    elif options.out:
        run_folder.check_free(Path(options.out), _file_of(options.model))  # before reading the data, maybe an hour
    data_source = parse_source(options.data, options.data_dir, not options.dry_run)
    data_source = dataclasses.replace(data_source, for_training=not options.dry_run)
    bar = task.SPEC.bar if data_source.kind != "own" else None  # the bar is for the task's own data
    if options.until_bar and bar is None:
        raise UsageError("--until-bar: there is no bar for this task on this data")
    if options.tensorboard:
        tensorboard.require()
    distributed.check_options(options.strategy, options.devices, recipe, task_id in PRETRAINING, resuming)
    if options.devices > 1 and not distributed.is_worker():
        result = distributed.spawn_workers(options.devices, train_in_worker, task_id, recipe, given_options)
        return Plan(**result) if options.dry_run else Summary(**result)
    fabric = distributed.launch_fabric(recipe.precision, options.strategy)
    data = load_to_train(task, data_source, recipe, fabric, folder)
    model, violations, remarks = build_model(task, recipe, data, network_file)
    distributed.check_gradients(model, fabric)
    data = data.to(fabric.device)
    if fabric.device.type == "cpu":
        keep_freed_memory()
    plan = make_plan(task, model, data, recipe, recipe_name(options), fabric, violations)
    if fabric.is_global_zero:
        print_plan(plan, remarks)
    if options.dry_run:
        return plan
    if folder is None:
        folder = start_folder(task, recipe, options, data, fabric)
    elif fabric.is_global_zero:
        update_environment(task, folder, fabric)
    if options.tensorboard:
        tensorboard.start(fabric, folder, to_dict(recipe))
    run = Run(task, data_source, data, recipe, folder, fabric, bar, violations)
    try:
        memory = MemoryMeter(fabric.device)
        kept_model, state = fit(task, model, data, recipe, folder, fabric, bar, options.until_bar, resuming)
        return dataclasses.replace(finish(run, kept_model, state, memory.peak_mib()), folder=str(folder))
    except OSError as error:  # a full disk, for example
        raise OSError(f"{error}; then continue the training: --resume {quote(str(folder))}") from error
    finally:
        tensorboard.close(fabric)


def expand_home(options: RunOptions) -> RunOptions:
    """The options with `~` in paths replaced: a shell leaves it where it follows a `=`, and Python always does."""
    names = ("data", "data_dir", "out", "model", "resume")
    paths: dict[str, Any] = {name: str(Path(path).expanduser()) for name in names if (path := getattr(options, name))}
    return dataclasses.replace(options, **paths)


def load_to_train(task: Task, source: Source, recipe: Recipe, fabric: Fabric, folder: Path | None) -> Data:
    """The data: enough for all processes, and those of the run in `folder`, if one is resumed.

    Raises:
        UsageError: There are fewer training examples than processes.
        ValueError: The run was on other data, or the data are damaged.
    """
    with fabric.rank_zero_first():
        data = task.load(source, recipe)
    if len(data.train) < fabric.world_size:
        raise UsageError(f"--devices must be at most {len(data.train)}, the number of training examples")
    if folder is not None:
        check_same_data(folder, data)
    return data


def build_model(
    task: Task, recipe: Recipe, data: Data, network_file: str | None
) -> tuple[nn.Module, list[str], list[str]]:
    """Build the network, the user's where there is a file, from the recipe's seed.

    Returns:
        The network, how it violates the task's architecture, and what may be wrong with it if it is the user's.
    """
    torch.manual_seed(derive_seed(recipe.seed))
    network = load_network(network_file) if network_file else None
    model = task.model(recipe, data.info, data.train, network)
    violations = task.check_architecture(model, data.info)
    return model, violations, check_network(task, model, network, data, recipe) if network is not None else []


def train_in_worker(task_id: str, recipe: Recipe, options: RunOptions) -> dict[str, Any]:
    """`train` with a result that goes from one process to another."""
    return train(task_id, recipe, options).to_dict()


def evaluate(folder: Path, data_dir: str | None, network: nn.Module | None = None) -> Summary:
    """Evaluate a finished run's network again on the test split of its data; or this network in its place.

    Returns:
        The run's summary with `data`, `value`, `passed` and `metrics` measured now.
    """
    loaded = load_run(folder)
    fabric = Fabric(accelerator=distributed.accelerator(), devices=1)
    distributed.allow_tf32(fabric)
    data = load_data(folder, loaded, data_dir).to(fabric.device)
    if fabric.device.type == "cpu":
        keep_freed_memory()
    model = (loaded.model if network is None else network).to(fabric.device)
    metrics = measure(loaded.task, model, data, "test", loaded.recipe, fabric)
    summary = validate.summary(folder / "summary.json", REPORTED_FIELDS)
    value = metrics[loaded.task.SPEC.metric]
    passed = None if summary.bar is None else value >= summary.bar
    return dataclasses.replace(summary, data=data.name, value=value, passed=passed, metrics=metrics)


def read_resumed_run(task: Task, options: RunOptions) -> tuple[Path, Recipe, RunOptions]:
    """Folder, recipe and options of the run to resume; only the data folder may change."""
    assert options.resume is not None
    allowed = ("resume", "data_dir", "dry_run", "recipe")
    for field in dataclasses.fields(options):
        if field.name not in allowed and getattr(options, field.name) != field.default:
            raise UsageError(f"a resumed run keeps its recipe and options: {field.name} cannot be set with resume")
    folder = Path(options.resume)
    config = validate.config(folder)
    if config.task != task.SPEC.id:
        raise UsageError(f"{folder} is a run of {config.task}, not of {task.SPEC.id}")
    if config.options.model:
        require_trusted(folder / "model.py")
    _, recipe = read_recipe(config, folder)
    gpus = torch.cuda.device_count()  # perhaps fewer than before
    return (
        folder,
        recipe,
        dataclasses.replace(
            config.options,
            devices=min(config.options.devices, gpus) if gpus else config.options.devices,
            data_dir=options.data_dir or config.options.data_dir,
            resume=options.resume,
            dry_run=options.dry_run,
        ),
    )


def update_environment(task: Task, folder: Path, fabric: Fabric) -> None:
    """Record the environment of a resumed run, and keep the one before; where its code was another, it has no hash."""
    before = run_folder.read_json(folder / "environment.json")
    code = code_hash(task.SPEC.id)
    now = run_folder.environment(fabric.device) | {"code": code if before.get("code") == code else None}
    if now != {name: value for name, value in before.items() if name != "before"}:
        atomic.write_json(folder / "environment.json", now | {"before": before})


def _file_of(network: str | None) -> str | None:
    """FILE of FILE:FUNCTION."""
    return network.rpartition(":")[0] if network else None


def start_folder(task: Task, recipe: Recipe, options: RunOptions, data: Data, fabric: Fabric) -> Path:
    """Make the run folder in the first process, with environment, config and a copy of the user's network."""
    folder: Path | None = None
    if fabric.is_global_zero:
        network_file = _file_of(options.model)
        folder = run_folder.new_folder(task.SPEC.id, recipe.seed, options.out, network_file)
        kept_options = dataclasses.replace(options, devices=fabric.world_size)
        if options.data not in ("official", "sample"):  # absolute, to evaluate the run from elsewhere
            kept_options = dataclasses.replace(kept_options, data=str(Path(options.data).resolve()))
        if options.data_dir:
            kept_options = dataclasses.replace(kept_options, data_dir=str(Path(options.data_dir).resolve()))
        if network_file:
            if not (folder / "model.py").exists():
                shutil.copyfile(network_file, folder / "model.py")
            trust_file(folder / "model.py")
        environment = run_folder.environment(fabric.device) | {"code": code_hash(task.SPEC.id)}
        atomic.write_json(folder / "environment.json", environment)
        config = RunConfig(task.SPEC.id, to_dict(recipe), kept_options, data.name, data.info, data.sizes)
        # Last: a folder without it counts as empty, and the same command may start there again.
        atomic.write_json(folder / "config.json", config.to_dict())
    return cast(Path, fabric.broadcast(folder))


def finish(run: Run, model: nn.Module, state: State, memory_mib: int | None) -> Summary:
    """Evaluate on the test split (the only place that does), save the weights, draw the plots, write the summary."""
    metrics = measure(run.task, model, run.data, "test", run.recipe, run.fabric)
    summary: Summary | None = None
    with run.fabric.rank_zero_first():  # the other processes wait without a timeout
        if run.fabric.is_global_zero:  # on other hosts the folder may not exist
            summary = dataclasses.replace(summarise(run, model, state, metrics), training_memory_mib=memory_mib)
            atomic.save_weights(run.folder / "model.safetensors", model.state_dict())
            draw_plots(run, model)
            atomic.write_json(run.folder / "summary.json", summary.to_dict())
            tensorboard.log_result(run.fabric, run.folder, to_dict(run.recipe), summary)
    return cast(Summary, run.fabric.broadcast(summary))


def summarise(run: Run, model: nn.Module, state: State, metrics: dict[str, float]) -> Summary:
    """The content of summary.json."""
    options = validate.config(run.folder).options
    environment = run_folder.read_json(run.folder / "environment.json")
    spec, value = run.task.SPEC, metrics[run.task.SPEC.metric]
    return Summary(
        task=spec.id,
        data=run.data.name,
        metric=spec.metric,
        value=value,
        bar=run.bar,
        passed=None if run.bar is None else value >= run.bar,
        counts=run.source.kind == "official" and not run.violations,
        violations=run.violations,
        metrics=metrics,
        tta=tta_name(run.task, run.recipe),
        seed=run.recipe.seed,
        epochs=state.epoch,
        steps=state.step,
        train_seconds=round(state.train_seconds, 2),
        preparation_seconds=round(run.data.preparation_seconds, 2),
        seconds_to_bar=state.seconds_to_bar and round(state.seconds_to_bar, 2),
        parameters=count_parameters(model),
        recipe=recipe_name(options),
        overrides=differences(run.recipe, base_recipe(run.task, options.data, options.recipe)),
        until_bar=options.until_bar,
        model=Path(options.model).name if options.model else None,
        encoder=run.data.info.encoder or None,
        teachers=run.data.info.teachers,
        devices=run.fabric.world_size,
        code=environment.get("code"),
        **{name: environment[name] for name in ("device", "hardware", "threads", "commit", "versions")},
    )


def recipe_name(options: RunOptions) -> str:
    """The name of the recipe that a run follows; without one, as in runs of earlier versions, `fast`."""
    return "sample" if options.data == "sample" else options.recipe or "fast"


def draw_plots(run: Run, model: nn.Module) -> None:
    """Draw the plots. An error is only printed, since it must not lose the result of a long training."""
    from decathlon.evaluation import plots

    folder = run.folder / "plots"
    try:
        folder.mkdir(exist_ok=True)
        lines = run_folder.read_lines(run.folder / "metrics.jsonl")
        plots.curves(lines, folder / "curves.png", run.task.SPEC.metric, run.bar)
        with torch.no_grad():
            run.task.plot_validation(model, run.data, run.recipe, folder)
    except Exception as error:
        say(f"the plots could not be drawn: {type(error).__name__}: {error}")
