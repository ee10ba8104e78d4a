"""Two tasks on the same data, side by side on one page: what each reached, when, and at what price."""

from __future__ import annotations

import base64
import dataclasses
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from matplotlib import pyplot as plt
from torch.utils.flop_counter import FlopCounterMode

from decathlon import guard, plots, report, run
from decathlon.data import Data, say
from decathlon.finished import Loaded, load_data, load_run
from decathlon.fit import measure
from decathlon.recipe import Recipe, UsageError, task_ids
from decathlon.terminal import counted

USED = ("metrics", "epochs", "steps", "hardware", "threads", "commit")  # what a summary must have
FAR = 1.5  # times another's training time is "far longer"
COUNTED = 4  # examples on which multiplications are counted, and as many more


@dataclass(frozen=True)
class Claim:
    """What was said elsewhere: `better` is ahead after so many epochs of `other` after its own, and takes longer."""

    better: str
    epochs: int
    other: str
    other_epochs: int
    said_by: str


CLAIMS = (Claim("voc-retinanet", 10, "voc-faster-rcnn", 15, "an earlier study, with pretrained weights"),)


def compare(sides: tuple[str, str], flags: list[str], out: Path, data_dir: str | None) -> dict[str, Any]:
    """Train two tasks, or take finished runs, and write `compare.html` and `compare.json`.

    Args:
        sides: Two names, each that of a task, which is trained, or of a finished run folder.
        flags: Options of `decathlon train`, the same for each that is trained.
        out: Folder for the page and for the runs that are made here; what an earlier call finished there is taken.
        data_dir: Folder of the official data.

    Returns:
        What compare.json holds.

    Raises:
        UsageError: A name is neither, or options are given but nothing is trained.
        ValueError: The two are not on the same data, or not measured by the same metric.
        RuntimeError: A training failed.
    """
    if unknown := [side for side in sides if side not in task_ids() and not Path(side).is_dir()]:
        raise UsageError(f"decathlon compare: {unknown[0]!r} is neither a task nor a run folder")
    if flags and not any(side in task_ids() for side in sides):
        raise UsageError(f"decathlon compare: {flags[0]} is for training, but both are finished runs")
    finished = [Path(side) for side in sides if side not in task_ids()]
    if finished and not any(flag.partition("=")[0] == "--data" for flag in flags):
        flags = [*flags, "--data", str(guard.config(finished[0])["options"]["data"])]  # else they are no comparison
    folders = [trained(side, flags, out / f"{side}-{place}", data_dir) for place, side in enumerate(sides, 1)]
    loaded = [load_run(folder) for folder in folders]
    summaries = [guard.summary(folder / "summary.json", USED) for folder in folders]
    for name in ("data", "metric"):
        first, second = (summary[name] for summary in summaries)
        if first != second:
            raise ValueError(f"these two cannot be compared: {folders[0]} has the {name} {first}, the other {second}")
    found: dict[str, Any] = {
        "data": summaries[0]["data"],
        "metric": summaries[0]["metric"],
        "runs": [
            row(folder, one, summary, data_dir) for folder, one, summary in zip(folders, loaded, summaries, strict=True)
        ],
        "differing": differing(loaded[0].recipe, loaded[1].recipe),
    }
    for one, name in zip(found["runs"], told_apart(found["runs"]), strict=True):
        one["name"] = name
    found["findings"] = findings(found["runs"], found["metric"])
    out.mkdir(parents=True, exist_ok=True)
    run.write_json(out / "compare.json", found)
    write_page(out, folders, found)
    return found | {"page": str(out / "compare.html")}


def told_apart(rows: list[dict[str, Any]]) -> list[str]:
    """What two runs are called: their tasks, or where those are the same, their folders."""
    for names in ([one["task"] for one in rows], [Path(one["folder"]).name for one in rows]):
        if len(set(names)) == len(names):
            return names
    return [one["folder"] for one in rows]


def trained(side: str, flags: list[str], folder: Path, data_dir: str | None) -> Path:
    """The run folder of one side: itself, or made by `decathlon train` in a process of its own.

    That is because the peak of its memory would else be that of both. A run that was broken off goes on.
    """
    if side not in task_ids():
        return Path(side)
    if (folder / "summary.json").exists():
        say(f"{folder} is finished already: taking it")
        return folder
    words = ["--resume", str(folder)] if (folder / "config.json").exists() else [*flags, "--out", str(folder)]
    words += ["--data-dir", data_dir] if data_dir else []
    command = [sys.executable, "-m", "decathlon", "train", side, *words]
    if subprocess.run(command, check=False, stdout=2).returncode:  # its result is not ours
        begun = "; the same command goes on from its last checkpoint" if (folder / "config.json").exists() else ""
        raise RuntimeError(f"the training of {side} failed{begun}")
    return folder


def row(folder: Path, loaded: Loaded, summary: dict[str, Any], data_dir: str | None) -> dict[str, Any]:
    """What the page says of one run."""
    recipe = loaded.recipe
    fabric = Fabric(accelerator="auto", devices=1, precision=recipe.precision)
    data = load_data(folder, loaded, data_dir).to(fabric.device)
    loaded.model.to(fabric.device)
    lines, times = (run.read_lines(folder / f"{name}.jsonl") for name in ("metrics", "timing"))
    with guard.reading(folder):
        curve = [
            {"epoch": line["epoch"], "seconds": at["train_seconds"], "value": line["validation"][summary["metric"]]}
            for line, at in zip(lines, times, strict=True)
        ]
    return {
        "folder": str(folder),
        "task": summary["task"],
        "encoder": summary.get("encoder"),
        "seed": summary["seed"],
        "value": summary["value"],
        "metrics": summary["metrics"],
        "epochs": summary["epochs"],
        "train_seconds": summary["train_seconds"],
        "parameters": summary["parameters"],
        "multiplications": multiplications(loaded, data, fabric),
        "training_per_second": summary["steps"] * recipe.batch_size / max(summary["train_seconds"], 1e-9),
        "evaluation_per_second": evaluation_speed(loaded, data, fabric),
        "peak_memory_mib": summary.get("peak_memory_mib"),
        "hardware": f"{summary['hardware']} ({counted(summary['threads'], 'thread')})",
        "commit": summary["commit"],
        "curve": curve,
    }


def multiplications(loaded: Loaded, data: Data, fabric: Fabric) -> int:
    """Of measuring one validation example more; what is done once for all, as a forest's training data, is left out."""

    def counted_on(number: int) -> tuple[int, int]:
        few = dataclasses.replace(data, validation=data.validation[:number])
        with FlopCounterMode(display=False) as counter:
            measure(loaded.task, loaded.model, few, "validation", loaded.recipe, fabric)
        return counter.get_total_flops() // 2, len(few.validation)  # a multiplication and an addition are two of these

    few, more = counted_on(COUNTED), counted_on(2 * COUNTED)
    return (more[0] - few[0]) // (more[1] - few[1]) if more[1] > few[1] else few[0] // few[1]


def evaluation_speed(loaded: Loaded, data: Data, fabric: Fabric) -> float:
    """Validation examples a second, metrics and all."""
    start = time.perf_counter()
    measure(loaded.task, loaded.model, data, "validation", loaded.recipe, fabric)
    if fabric.device.type == "cuda":
        torch.cuda.synchronize()
    return len(data.validation) / (time.perf_counter() - start)


def differing(first: Recipe, second: Recipe) -> list[dict[str, str]]:
    """Recipe fields that both have, and not alike: what may explain a difference besides the network."""
    ours, theirs = vars(first), vars(second)
    names = [name for name in ours if name in theirs and ours[name] != theirs[name]]
    return [{"field": name, "first": str(ours[name]), "second": str(theirs[name])} for name in names]


def findings(rows: list[dict[str, Any]], metric: str) -> list[str]:
    """What the two curves on the validation split say, in sentences: at equal epochs, at equal time, and who overtakes.

    Each run's value at a time is the best that it had reached until then.
    """
    said = []
    for kind, unit in (("epoch", "epochs"), ("seconds", "s of training")):
        end = min(one["curve"][-1][kind] for one in rows if one["curve"])
        values = [best(one["curve"], kind, end) for one in rows]
        reached = ", ".join(
            f"{one['name']} {'nothing yet' if value is None else report.percent(value)}"
            for one, value in zip(rows, values, strict=True)
        )
        said.append(f"After {amount(end)} {unit}, where the shorter run ends, the best validation {metric}: {reached}.")
    for one, other in (rows, rows[::-1]):
        goal = max(point["value"] for point in other["curve"])
        first = next((point for point in one["curve"] if point["value"] > goal), None)
        if first:
            said.append(
                f"{one['name']} passes the best of {other['name']} ({report.percent(goal)}) after "
                f"{first['epoch']} epochs and {amount(first['seconds'])} s of training."
            )
        else:
            said.append(f"{one['name']} never passes the best of {other['name']} ({report.percent(goal)}).")
    by_task = {one["task"]: one["curve"] for one in rows}
    return said + [examined(claim, by_task, metric) for claim in CLAIMS if {claim.better, claim.other} == set(by_task)]


def amount(value: float) -> str:
    """A number of seconds or epochs, with two digits at least."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def examined(claim: Claim, curves: dict[str, list[dict[str, float]]], metric: str) -> str:
    """Whether the curves of two runs agree with a claim, or are too short to tell."""
    sides = ((claim.better, claim.epochs), (claim.other, claim.other_epochs))
    points = [next((point for point in curves[task] if point["epoch"] == epochs), None) for task, epochs in sides]
    said = f"{claim.said_by.capitalize()}, said that {claim.better} is better after {claim.epochs} epochs than "
    said += f"{claim.other} after {claim.other_epochs}, but takes far longer. "
    first, second = points
    if first is None or second is None:
        lengths = " and ".join(f"{task} {len(curves[task])}" for task, _ in sides)
        return said + f"These runs cannot tell: they have too few epochs ({lengths})."
    better, longer = first["value"] > second["value"], first["seconds"] > FAR * second["seconds"]
    verdict = "agree" if better and longer else "disagree in both" if not better and not longer else "agree in part"
    values = (f"{report.percent(p['value'])} {metric} in {amount(p['seconds'])} s of training" for p in (first, second))
    return said + f"These runs {verdict}: on validation {' against '.join(values)}."


def best(curve: list[dict[str, float]], kind: str, end: float) -> float | None:
    """The best value of a curve until `end`, epochs or seconds; None before its first point."""
    return max((point["value"] for point in curve if point[kind] <= end), default=None)


def write_page(out: Path, folders: list[Path], found: dict[str, Any]) -> None:
    """Draw the curves and write compare.html."""
    draw(out / "compare.png", found["runs"], found["metric"])
    names = [name for name in found["runs"][0]["metrics"] if name in found["runs"][1]["metrics"]]
    metrics = [(name, *(one["metrics"][name] for one in found["runs"])) for name in names]
    shared = [path.name for path in sorted((folders[0] / "plots").glob("*.png")) if path.stem != "curves"]
    pictures = [
        {
            "title": report.TITLES.get(Path(name).stem, Path(name).stem),
            "data": [encoded(f / "plots" / name) for f in folders],
        }
        for name in shared
        if (folders[1] / "plots" / name).exists()
    ]
    page = report.PAGES.get_template("compare.html").render(
        found=found, metrics=metrics, pictures=pictures, curves=encoded(out / "compare.png")
    )
    run.write_text(out / "compare.html", page)


def encoded(path: Path) -> str:
    """A picture as the page holds it."""
    return base64.b64encode(path.read_bytes()).decode()


def draw(path: Path, rows: list[dict[str, Any]], metric: str) -> None:
    """The metric on the validation split by epoch, and by seconds of training."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
    for place, (kind, label) in enumerate((("epoch", "epoch"), ("seconds", "seconds of training"))):
        for one, color in zip(rows, (plots.LINE, plots.SECOND), strict=True):
            points = [(point[kind], point["value"]) for point in one["curve"]]
            axes[place].plot(*zip(*points, strict=True), color=color, marker=".", label=one["name"])
        axes[place].set(xlabel=label, title=f"{metric}, validation")
        axes[place].xaxis.get_major_locator().set_params(integer=True)
        axes[place].grid(alpha=0.3)
        axes[place].legend()
    plots.save(figure, path)
