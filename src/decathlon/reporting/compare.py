"""Compare two tasks on the same data on one page: metrics, learning curves and cost."""

from __future__ import annotations

import base64
import dataclasses
import shlex
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from matplotlib import pyplot as plt
from torch.utils.flop_counter import FlopCounterMode

from decathlon.data.base import Data
from decathlon.data.io import atomic
from decathlon.errors import UsageError
from decathlon.evaluation import plots
from decathlon.messages import pluralize, say
from decathlon.reporting import html
from decathlon.reporting.scoreboard import changes
from decathlon.runs import validate
from decathlon.runs.folder import read_json, read_lines
from decathlon.runs.load import Loaded, load_data, load_run
from decathlon.tasks.base import task_ids
from decathlon.tasks.recipe import Recipe
from decathlon.training import distributed
from decathlon.training.loop import measure

REQUIRED = ("metrics", "epochs", "steps", "hardware", "threads", "commit")  # fields of a summary
FolderAndSummary = tuple[Path, dict[str, Any]]
FLOP_EXAMPLES = 4  # multiplications per example: the difference between twice as many examples and these


def compare(names: tuple[str, ...], flags: list[str], out: Path, data_dir: str | None) -> dict[str, Any]:
    """Train two tasks, or take finished runs, and write `compare.html` and `compare.json`.

    Args:
        names: Two names, each that of a task, which is trained, or of a finished run folder; or more than two, which
            are then several runs (with different seeds) of two tasks. The first run of each task is shown in detail.
        flags: Options of `decathlon train`, the same for each that is trained.
        out: Folder for the page and for the runs trained here; runs that an earlier call finished there are reused.
        data_dir: Folder of the official data.

    Returns:
        The contents of compare.json.

    Raises:
        UsageError: A name is neither; options are given but nothing is trained; or several runs are not of two tasks.
        ValueError: The runs are not on the same data, or not measured by the same metric.
        RuntimeError: A training failed.
    """
    if unknown := [name for name in names if name not in task_ids() and not Path(name).is_dir()]:
        raise UsageError(f"decathlon compare: {unknown[0]!r} is neither a task nor a run folder")
    if flags and not any(name in task_ids() for name in names):
        raise UsageError(f"decathlon compare: {flags[0]} is for training, but all are finished runs")
    given = {flag.partition("=")[0].replace("_", "-") for flag in flags}
    if unfit := given & {"--dry-run", "--resume"}:
        raise UsageError(f"decathlon compare takes no {min(unfit)}: it needs whole runs, and resumes its own")
    finished = [Path(name) for name in names if name not in task_ids()]
    train_dir = data_dir
    if finished and "--data" not in given:  # train on the same data
        options = validate.config(finished[0]).options
        flags, train_dir = [*flags, "--data", str(options.data)], data_dir or options.data_dir
    folders = [train_side(name, flags, out / f"{name}-{number}", train_dir) for number, name in enumerate(names, 1)]
    runs = [(folder, validate.summary(folder / "summary.json", REQUIRED).to_dict()) for folder in folders]
    sides = group_runs(runs)
    detailed = [side[0][0] for side in sides]  # the first run of each side
    loaded = [load_run(folder) for folder in detailed]
    rows = [
        describe_run(folder, run, [summary for _, summary in side], data_dir)
        for folder, run, side in zip(detailed, loaded, sides, strict=True)
    ]
    for row, name in zip(rows, distinct_names(rows), strict=True):
        row["name"] = name
    summary = runs[0][1]
    comparison: dict[str, Any] = {
        "data": summary["data"],
        "metric": summary["metric"],
        "runs": rows,
        "recipe_differences": recipe_differences(loaded[0].recipe, loaded[1].recipe),
        "findings": findings(rows, summary["metric"]),
    }
    out.mkdir(parents=True, exist_ok=True)
    atomic.write_json(out / "compare.json", comparison)
    write_page(out, detailed, comparison)
    return comparison | {"page": str(out / "compare.html")}


def group_runs(runs: list[FolderAndSummary]) -> list[list[FolderAndSummary]]:
    """Group runs into the two sides of the comparison: two runs, or several runs of two tasks.

    Raises:
        ValueError: They are not on the same data, or not measured by the same metric.
        UsageError: There are more than two, but not of two tasks; or one seed of a task comes twice.
    """
    first_folder, first = runs[0]
    for folder, summary in runs:
        for name in ("data", "metric"):
            if summary[name] != first[name]:
                raise ValueError(
                    f"these runs cannot be compared: {first_folder} has the {name} {first[name]}, "
                    f"{folder} has {summary[name]}"
                )
        if first["data"].startswith("own:"):  # which says no more than how its folder or file is called
            _check_same_data(first_folder, folder)
    if len(runs) == 2:
        return [[run] for run in runs]
    sides: dict[str, list[FolderAndSummary]] = {}
    for run in runs:
        sides.setdefault(run[1]["task"], []).append(run)
    if len(sides) != 2:
        raise UsageError(f"several runs must be of two tasks, not of {', '.join(sides)}")
    for task, side in sides.items():
        if len({summary["seed"] for _, summary in side}) < len(side):
            raise UsageError(f"two runs of {task} have the same seed: they are not independent")
        if len(recipes := dict.fromkeys(changes(summary) or "fast" for _, summary in side)) > 1:
            raise UsageError(f"the runs of {task} have different recipes: {'; '.join(recipes)}")
    return list(sides.values())


def _check_same_data(first: Path, second: Path) -> None:
    """Raise ValueError where two runs on own data of one name had other classes, or a test split of another size."""
    one, other = validate.config(first), validate.config(second)
    if one.info.classes != other.info.classes:
        raise ValueError(
            f"these runs cannot be compared: the classes of {first} are {one.info.classes}, those of {second} "
            f"{other.info.classes}"
        )
    if (a := one.sizes.get("test")) != (b := other.sizes.get("test")):
        raise ValueError(f"these runs cannot be compared: {first} has {a} test examples, {second} {b}")


def default_folder(names: tuple[str, ...]) -> Path:
    """Where a comparison goes: runs/compare/ and the names, of run folders with the folder above, `mnist-mlp-seed0`."""
    parts = [name if name in task_ids() else "-".join(Path(name).resolve().parts[-2:]) for name in names]
    return Path("runs", "compare", "-".join(parts))


def distinct_names(rows: list[dict[str, Any]]) -> list[str]:
    """Names that tell two runs apart: their tasks; where those are the same, their networks, or their folders."""
    networks = [f"{row['task']} ({row['network'] or 'built in'})" for row in rows]
    for names in ([row["task"] for row in rows], networks, [Path(row["folder"]).name for row in rows]):
        if len(set(names)) == len(names):
            return names
    return [row["folder"] for row in rows]


def train_side(name: str, flags: list[str], folder: Path, data_dir: str | None) -> Path:
    """Return the run folder of a name: the folder itself, or for a task one that `decathlon train` makes here.

    The training is a process of its own, since peak memory is measured per process. An interrupted run is resumed.
    """
    if name not in task_ids():
        return Path(name)
    options = folder.with_name(f"{folder.name}.options.json")  # of its training: a reused run must have the same
    began = (folder / "config.json").exists()
    if began and options.exists() and (earlier := read_json(options)["options"]) != flags:
        raise UsageError(
            f"{folder} was trained with {shlex.join(earlier) or 'no options'}, not with {shlex.join(flags) or 'none'}: "
            "choose another --out"
        )
    if (folder / "summary.json").exists():
        say(f"{folder} is finished already: reusing it")
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_json(options, {"options": flags})
    arguments = ["--resume", str(folder)] if began else [*flags, "--out", str(folder)]
    arguments += ["--data-dir", data_dir] if data_dir else []
    command = [sys.executable, "-m", "decathlon", "train", name, *arguments]
    if status := run_to_end(command):
        hint = "; the same command resumes it from its last checkpoint" if (folder / "config.json").exists() else ""
        raise (UsageError if status == 2 else RuntimeError)(f"the training of {name} failed{hint}")
    return folder


def run_to_end(command: list[str]) -> int:
    """Run a training and return its exit status; after Ctrl-C or SIGTERM it has the time to save a checkpoint."""
    process = subprocess.Popen(command, stdout=2)  # its result goes to stderr, ours to stdout
    before = signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
    try:
        return process.wait()
    except KeyboardInterrupt:  # the terminal sent it to the training, too
        process.wait()
        raise
    finally:
        process.kill()  # where Ctrl-C came twice; one that has ended does not mind
        signal.signal(signal.SIGTERM, before)


def describe_run(folder: Path, loaded: Loaded, summaries: list[dict[str, Any]], data_dir: str | None) -> dict[str, Any]:
    """Collect what the page says of one side.

    Args:
        folder: The run that is shown in detail.
        loaded: The same run, loaded.
        summaries: The summaries of all runs of this side, that of `folder` first.
        data_dir: Folder of the official data.
    """
    summary, recipe = summaries[0], loaded.recipe
    fabric = Fabric(accelerator=distributed.accelerator(), devices=1, precision=recipe.precision)
    data = load_data(folder, loaded, data_dir).to(fabric.device)
    loaded.model.to(fabric.device)
    metrics, timing = (read_lines(folder / f"{name}.jsonl") for name in ("metrics", "timing"))
    with html.naming_damaged_run(folder):
        curve = [
            {"epoch": line["epoch"], "seconds": seconds, "value": line["validation"][summary["metric"]]}
            for line, seconds in zip(metrics, [row["train_seconds"] for row in timing], strict=True)
        ]
    return {
        "folder": str(folder),
        "task": summary["task"],
        "network": summary.get("model"),
        "violations": summary.get("violations", []),
        "encoder": summary.get("encoder"),
        "seed": summary["seed"],
        "value": summary["value"],
        "values": [run["value"] for run in summaries],
        "metrics": summary["metrics"],
        "epochs": summary["epochs"],
        "train_seconds": summary["train_seconds"],
        "parameters": summary["parameters"],
        "multiplications": multiplications(loaded, data, fabric),
        "training_per_second": summary["steps"]
        * min(recipe.batch_size, len(data.train))
        / max(summary["train_seconds"], 1e-9),
        "evaluation_per_second": evaluation_speed(loaded, data, fabric),
        "training_memory_mib": summary.get("training_memory_mib"),
        "hardware": f"{summary['hardware']} ({pluralize(summary['threads'], 'thread')})",
        "commit": summary["commit"],
        "curve": curve,
    }


def multiplications(loaded: Loaded, data: Data, fabric: Fabric) -> int:
    """Multiplications to evaluate one more validation example; work done once, as fitting a forest, is not counted."""
    examples = min(FLOP_EXAMPLES, len(data.validation))

    def count(times: int) -> int:  # the same examples, so that they are padded alike
        subset = dataclasses.replace(data, validation=data.validation[torch.arange(times * examples) % examples])
        with FlopCounterMode(display=False) as counter:
            measure(loaded.task, loaded.model, subset, "validation", loaded.recipe, fabric)
        return counter.get_total_flops() // 2  # a multiply-add is two operations

    return (count(2) - count(1)) // examples


def evaluation_speed(loaded: Loaded, data: Data, fabric: Fabric) -> float:
    """Validation examples per second, computing the metrics included."""
    start = time.perf_counter()
    measure(loaded.task, loaded.model, data, "validation", loaded.recipe, fabric)
    if fabric.device.type == "cuda":
        torch.cuda.synchronize()
    return len(data.validation) / (time.perf_counter() - start)


def recipe_differences(first: Recipe, second: Recipe) -> list[dict[str, str]]:
    """Fields of both recipes with different values: other possible causes of a difference than the network."""
    names = [name for name in vars(first) if name in vars(second) and vars(first)[name] != vars(second)[name]]
    return [{"field": name, "first": str(vars(first)[name]), "second": str(vars(second)[name])} for name in names]


def findings(rows: list[dict[str, Any]], metric: str) -> list[str]:
    """Say what was measured, in sentences.

    First the difference on the test split; then, of the validation curves, the best values at equal epochs and at equal
    training time, and when one run passes the best value of the other.
    """
    sentences = [describe_difference(rows, metric)]
    sentences += [f"{row['name']} does not count: {text}." for row in rows for text in row["violations"]]
    for kind in ("epoch", "seconds"):
        end = min(row["curve"][-1][kind] for row in rows if row["curve"])
        length = pluralize(end, "epoch") if kind == "epoch" else f"{format_amount(end)} s of training"
        values = [best_until(row["curve"], kind, end) for row in rows]
        reached = ", ".join(
            f"{row['name']} {'no value yet' if value is None else html.percent(value)}"
            for row, value in zip(rows, values, strict=True)
        )
        sentences.append(f"After {length}, where the shorter run ends, the best validation {metric}: {reached}.")
    for row, other in (rows, rows[::-1]):
        goal = max(point["value"] for point in other["curve"])
        passing = next((point for point in row["curve"] if point["value"] > goal), None)
        if passing:
            sentences.append(
                f"{row['name']} passes the best of {other['name']} ({html.percent(goal)}) after "
                f"{pluralize(passing['epoch'], 'epoch')} and {format_amount(passing['seconds'])} s of training."
            )
        else:
            sentences.append(f"{row['name']} never passes the best of {other['name']} ({html.percent(goal)}).")
    return sentences


def describe_difference(rows: list[dict[str, Any]], metric: str) -> str:
    """The difference on the test split: mean ± standard deviation over the runs of each side, or a warning for n = 1.

    The standard deviation of the difference is that of independent runs: the root of the sum of the squares.
    """
    sides, counts = [], [len(row["values"]) for row in rows]
    for row, count in zip(rows, counts, strict=True):
        spread = f" ± {100 * statistics.stdev(row['values']):.2f}" if count > 1 else ""
        sides.append(f"{row['name']} {100 * statistics.mean(row['values']):.2f}{spread} % (n = {count})")
    first, second = (statistics.mean(row["values"]) for row in rows)
    difference = f"{100 * (first - second):+.2f}"
    if min(counts) > 1:
        deviation = sum(statistics.variance(row["values"]) for row in rows) ** 0.5
        difference += f" ± {100 * deviation:.2f} points."
    else:
        difference += " points. With n = 1 the spread is unknown: the difference may be chance."
    return f"Test {metric}: {sides[0]}, {sides[1]}; difference {difference}"


def format_amount(value: float) -> str:
    """A number of seconds or epochs, with at least two significant digits."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def best_until(curve: list[dict[str, float]], kind: str, end: float) -> float | None:
    """The best value of a curve until `end`, in epochs or seconds; None before its first point."""
    return max((point["value"] for point in curve if point[kind] <= end), default=None)


def write_page(out: Path, folders: list[Path], comparison: dict[str, Any]) -> None:
    """Draw the curves and write compare.html."""
    draw_curves(out / "compare.png", comparison["runs"], comparison["metric"])
    first, second = comparison["runs"]
    names = [name for name in first["metrics"] if name in second["metrics"]]
    metrics = [(name, first["metrics"][name], second["metrics"][name]) for name in names]
    plot_names = [path.name for path in sorted((folders[0] / "plots").glob("*.png")) if path.stem != "curves"]
    images = [
        {
            "title": html.TITLES.get(Path(name).stem, Path(name).stem),
            "data": [encode_base64(folder / "plots" / name) for folder in folders],
        }
        for name in plot_names
        if (folders[1] / "plots" / name).exists()
    ]
    page = html.PAGES.get_template("compare.html").render(
        comparison=comparison, metrics=metrics, images=images, curves=encode_base64(out / "compare.png")
    )
    atomic.write_text(out / "compare.html", page)


def encode_base64(path: Path) -> str:
    """Encode an image for embedding in the page."""
    return base64.b64encode(path.read_bytes()).decode()


def draw_curves(path: Path, rows: list[dict[str, Any]], metric: str) -> None:
    """Plot the validation metric against epochs and against seconds of training."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
    for ax, (kind, label) in zip(axes, (("epoch", "epoch"), ("seconds", "seconds of training")), strict=True):
        for row, color in zip(rows, (plots.LINE, plots.SECOND), strict=True):
            points = [(point[kind], point["value"]) for point in row["curve"]]
            ax.plot(*zip(*points, strict=True), color=color, marker=".", label=row["name"])
        ax.set(xlabel=label, title=f"{metric}, validation")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(alpha=0.3)
        ax.legend()
    plots.save(figure, path)
