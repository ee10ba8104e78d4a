"""Our recipes beside widely used ones: seconds to the bar, accuracy, examples a second.

    taskset -c 1 nice -n -10 python bench/peers.py --tasks mnist-mlp mnist-cnn --limit 300
    python bench/peers.py --tasks cifar10-cnn --limit 30

Both sides train on the same data in the same process and thread, in turn for a few seconds each, so that what else the
machine does slows both. A side that does not end within LIMIT seconds is extrapolated from its speed. The rows go into
docs/performance.json, and the tables of docs/performance.md are written from all rows there. Validation is measured,
the test split is not read.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import copy
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import performance_page
import torch
from peer_recipes import PEERS, Peer, Training
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from decathlon.data.base import Data, EpochShard, derive_seed, parse_source, steps_per_epoch
from decathlon.runs import folder as run_folder
from decathlon.tasks.base import Task, get_task, task_ids
from decathlon.tasks.recipe import Recipe
from decathlon.training.memory import keep_freed_memory
from decathlon.training.optim import make_optimizers, set_lr, update_ema

ROOT = Path(__file__).parents[1]
WHOLE = ("mnist-mlp", "mnist-cnn")  # tasks whose recipe runs in its own order; of others, steps are sampled
SIDE_OF_MATRIX = 1024
Event = int | Callable[[], float]  # examples of a step, or what measures validation after an epoch


@dataclass
class Side:
    """One of the two trainings."""

    name: str
    steps: Iterator[Event]
    total_examples: int
    seconds: float = 0.0
    examples: int = 0
    finished_epochs: int = 0
    value: float | None = None  # on validation, after the last finished epoch
    bar_seconds: float | None = None
    bar_examples: int | None = None
    is_done: bool = False
    row: dict[str, Any] = field(default_factory=dict)

    def run(self, until: float, bar: float | None) -> None:
        """Train until this many seconds of training; measuring does not count."""
        while not self.is_done and self.seconds < until:
            start = time.perf_counter()
            event = next(self.steps, None)
            elapsed = time.perf_counter() - start
            if event is None:
                self.is_done = True
            elif callable(event):
                self.value, self.finished_epochs = event(), self.finished_epochs + 1
                if bar is not None and self.bar_seconds is None and self.value >= bar:
                    self.bar_seconds, self.bar_examples = self.seconds, self.examples
            else:
                self.seconds, self.examples = self.seconds + elapsed, self.examples + event


def peer_steps(training: Training, epochs: int) -> Iterator[Event]:
    """A plain training loop."""
    for _ in range(epochs):
        training.network.train()
        for inputs, targets in training.batches():
            loss = training.loss(training.network, inputs, targets)
            training.optimizer.zero_grad()
            loss.backward()
            if training.max_grad_norm:
                nn.utils.clip_grad_norm_(training.network.parameters(), training.max_grad_norm)
            training.optimizer.step()
            yield len(targets)
        if training.schedule is not None:
            training.schedule.step()
        if training.validation is not None:
            yield lambda: accuracy(training)


@torch.no_grad()
def accuracy(training: Training) -> float:
    """Accuracy on the validation split."""
    training.network.eval()
    assert training.validation is not None
    right = [(training.network(inputs).argmax(1) == targets).double() for inputs, targets in training.validation()]
    return torch.cat(right).mean().item()


def our_steps(task: Task, data: Data, recipe: Recipe, whole: bool) -> Iterator[Event]:
    """Our training loop without checkpoints and logs; unless `whole`, steps of the first and last epoch in turn."""
    torch.manual_seed(derive_seed(recipe.seed))
    model = task.model(recipe, data.info, data.train)
    averaged = copy.deepcopy(model)
    optimizers = make_optimizers(model, recipe.optimizer)
    steps = steps_per_epoch(data.train, recipe.batch_size)
    step = 0
    for epoch in range(recipe.epochs):
        model.train()
        numbers = (epoch,) if whole else (0, recipe.epochs - 1)
        parts = [task.batches(data.train, recipe, EpochShard(recipe.seed, number)) for number in numbers]
        for batch in itertools.chain.from_iterable(zip(*parts, strict=True)):
            set_lr(optimizers, recipe.optimizer, min(1.0, step / (recipe.epochs * steps)))
            task.training_loss(model, batch, recipe)["loss"].backward()
            for optimizer in optimizers:
                if recipe.optimizer.max_grad_norm and not isinstance(optimizer, torch.optim.SparseAdam):
                    nn.utils.clip_grad_norm_(model.parameters(), recipe.optimizer.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad()
            step += 1
            if recipe.ema:
                update_ema(averaged, model, recipe.ema, step)
            yield recipe.batch_size
        if whole:
            yield lambda: measure(task, averaged if recipe.ema else model, data, recipe)


@torch.no_grad()
def measure(task: Task, model: nn.Module, data: Data, recipe: Recipe) -> float:
    """The task's metric on validation."""
    return task.evaluate(model.eval(), data, "validation", recipe)[task.SPEC.metric]


def committed(task_id: str, recipe: Recipe) -> dict[str, float]:
    """Means over the committed summaries of our recipe: steps, part of the training to the bar, preparation, value."""
    paths = sorted((ROOT / "results" / task_id).glob("*.json"))
    runs = [json.loads(path.read_text()) for path in paths]
    usual = [run for run in runs if run["epochs"] == recipe.epochs and not run["violations"]] or runs
    fractions = [(run["seconds_to_bar"] or run["train_seconds"]) / run["train_seconds"] for run in usual]
    return {
        "steps": statistics.mean(run["steps"] for run in usual),
        "to_bar": statistics.mean(fractions),
        "preparation": statistics.mean(run.get("preparation_seconds", 0.0) for run in usual),
        "value": statistics.mean(run["value"] for run in usual),
    }


def flops_per_example(task: Task, data: Data, recipe: Recipe) -> float:
    """Floating-point operations of training on an example, forward and backward: the mean of first and last epoch.

    With depthwise convolutions, whose backward pass torch counts as if they were not, three times those of the forward
    pass.
    """
    model, counts = task.model(recipe, data.info, data.train).train(), list[float]()
    is_grouped = any(getattr(module, "groups", 1) > 1 for module in model.modules())
    batches = 8 if task.SPEC.dataset == "imdb" else 1  # texts of a batch have a similar length
    for epoch in (0, recipe.epochs - 1):
        for batch in itertools.islice(task.batches(data.train, recipe, EpochShard(recipe.seed, epoch)), batches):
            with FlopCounterMode(display=False) as counter:
                loss = task.training_loss(model, batch, recipe)["loss"]
                forward = counter.get_total_flops()
                loss.backward()
            counts.append((3 * forward if is_grouped else counter.get_total_flops()) / recipe.batch_size)
    return statistics.mean(counts)


def matrix_product_speed() -> float:
    """Floating-point operations a second of float32 matrix products of 1024 × 1024, the median of ten."""
    first, second = torch.randn(2, SIDE_OF_MATRIX, SIDE_OF_MATRIX)
    seconds = list[float]()
    for _ in range(10):
        start = time.perf_counter()
        torch.mm(first, second)
        seconds.append(time.perf_counter() - start)
    return 2 * SIDE_OF_MATRIX**3 / statistics.median(seconds)


def prepare_ours(task_id: str, source: Any) -> tuple[Task, Recipe, Data]:
    """Our task, its recipe and data: without what is learned before the training, which takes an hour."""
    task: Any = get_task(task_id)
    recipe = task.sample_recipe() if source.kind == "sample" else task.recipe()
    if task_id == "imdb-textcnn":
        recipe = replace(recipe, teachers=(), embedding_epochs=0)
    if task.SPEC.dataset == "voc":
        recipe = replace(recipe, weights="none")
    return task, recipe, task.load(source, recipe)


def compare(task_id: str, peers: list[Peer], source: Any, limit: float, turn: float) -> list[dict[str, Any]]:
    """Train our recipe and its peers in turn. Returns a row for each."""
    task, recipe, data = prepare_ours(task_id, source)
    whole, facts = task_id in WHOLE, committed(task_id, task.recipe())
    total = int(facts["steps"]) * recipe.batch_size
    if whole:
        total = recipe.epochs * steps_per_epoch(data.train, recipe.batch_size) * recipe.batch_size
    sides = [Side("decathlon", our_steps(task, data, recipe, whole), total)]
    for peer in peers:
        training = peer.prepare(source)
        epochs, examples = peer.epochs, training.examples
        side = Side(peer.name, peer_steps(training, epochs), epochs * examples)
        side.row = {"epochs": epochs, "reported": peer.published, "preparation_seconds": training.preparation_seconds}
        sides.append(side)
    preparation = facts["preparation"]
    sides[0].row = {
        "epochs": recipe.epochs,
        "reported": f"{100 * facts['value']:.2f} %" if task.SPEC.bar is not None else "only with another backbone",
        "preparation_seconds": preparation,
        "to_bar": facts["to_bar"] if task.SPEC.bar is not None else None,
        "flops_per_example": flops_per_example(task, data, recipe),
    }
    speeds, until = [matrix_product_speed()], 0.0
    while until < limit and not all(side.is_done for side in sides):
        until = min(limit, until + turn)
        for side in sides:
            side.run(until, task.SPEC.bar)
        speeds.append(matrix_product_speed())
    sides[0].row["matrix_flops"] = statistics.median(speeds)
    environment = run_folder.environment(torch.device("cpu"))
    shared = {"task": task_id, "data": data.name, "bar": task.SPEC.bar, "limit": limit}
    shared |= {name: environment[name] for name in ("hardware", "threads")}
    return [shared | describe(side) for side in sides]


def describe(side: Side) -> dict[str, Any]:
    """What was measured of a side: `seconds` are to the end, extrapolated unless it is done."""
    speed = side.examples / side.seconds
    return {
        "recipe": side.name,
        "measured_seconds": round(side.seconds, 1),
        "examples_per_second": round(speed, 2),
        "is_done": side.is_done,
        "seconds": round(side.total_examples / speed, 1),
        "seconds_to_bar": None if side.bar_seconds is None else round(side.bar_seconds, 1),
        "examples_to_bar": side.bar_examples,
        "total_examples": side.total_examples,
        "finished_epochs": side.finished_epochs,
        "validation": side.value,
        **side.row,
    }


def time_to_bar(row: dict[str, Any]) -> tuple[float, str]:
    """Seconds with preparation to the bar, else to the end, and how they are known."""
    preparation = row["preparation_seconds"]
    if row["seconds_to_bar"] is not None:
        return preparation + row["seconds_to_bar"], "measured"
    if row.get("to_bar") is not None and not row["is_done"]:
        return preparation + row["seconds"] * row["to_bar"], "extrapolated"
    return preparation + row["seconds"], "to its end" if row["is_done"] else "to its end, extrapolated"


def format_seconds(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 36_000 else f"{seconds / 3600:.0f} h"


def format_ratio(ratio: float) -> str:
    """Two digits."""
    return f"{ratio:.2g}" if ratio < 100 else f"{ratio:,.0f}"


def comparison_table(rows: list[dict[str, Any]]) -> str:
    """A row for each recipe; the ratio is its time divided by ours."""
    table = []
    for row in sorted(rows, key=lambda row: task_ids().index(row["task"])):
        ours = next(other for other in rows if (other["task"], other["recipe"]) == (row["task"], "decathlon"))
        seconds, kind = time_to_bar(row)
        validation = "–"
        if row["validation"] is not None:
            epochs = f"{row['finished_epochs']} of {row['epochs']} epochs"
            validation = f"{100 * row['validation']:.2f} % after {epochs}"
        table.append(
            {
                "task": f"`{row['task']}`" if row is ours else "",
                "recipe": "**ours**" if row is ours else row["recipe"],
                "epochs": str(row["epochs"]),
                "examples/s": format_ratio(row["examples_per_second"]),
                "an epoch": format_seconds(row["total_examples"] / row["epochs"] / row["examples_per_second"]),
                "to the bar": f"{format_seconds(seconds)}, {kind}",
                "time / ours": "1" if row is ours else format_ratio(seconds / time_to_bar(ours)[0]),
                "validation here": validation,
                "reported test result": row["reported"],
            }
        )
    return performance_page.markdown(table)


def arithmetic_table(rows: list[dict[str, Any]]) -> str:
    """For each of our recipes the operations to the bar, and their speed beside that of matrix products."""
    table = []
    for row in sorted(rows, key=lambda row: task_ids().index(row["task"])):
        if row["recipe"] != "decathlon":
            continue
        examples = row["examples_to_bar"] or row["total_examples"] * (row["to_bar"] or 1.0)
        achieved = row["flops_per_example"] * row["examples_per_second"]
        table.append(
            {
                "task": f"`{row['task']}`",
                "operations per example": f"{row['flops_per_example'] / 1e6:,.1f} M",
                "examples": f"{examples:,.0f}",
                "operations": f"{row['flops_per_example'] * examples / 1e12:,.2f} T",
                "speed in training": f"{achieved / 1e9:,.1f} GFLOP/s",
                "speed of matrix products": f"{row['matrix_flops'] / 1e9:,.1f} GFLOP/s",
                "share": f"{100 * achieved / row['matrix_flops']:.0f} %",
            }
        )
    return performance_page.markdown(table)


def write_page(rows: list[dict[str, Any]]) -> None:
    """Write both tables into docs/performance.md."""
    performance_page.replace_table("peers", comparison_table(rows))
    performance_page.replace_table("arithmetic", arithmetic_table(rows))


def main() -> None:
    """Compare, keep the rows, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = list(dict.fromkeys(peer.task for peer in PEERS))
    parser.add_argument("--tasks", nargs="+", choices=known, default=known)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds of training for each recipe")
    parser.add_argument("--turn", type=float, default=5.0, help="seconds after which the other side trains")
    parser.add_argument("--data", default="official", choices=["official", "sample"])
    parser.add_argument("--data-dir")
    parser.add_argument("--out", type=Path, help="JSON file for the rows; default: docs/performance.json and its page")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    keep_freed_memory()
    source = parse_source(options.data, options.data_dir, download=False)
    rows = list[dict[str, Any]]()
    for task_id in options.tasks:
        peers = [peer for peer in PEERS if peer.task == task_id]
        new = compare(task_id, peers, source, options.limit, options.turn)
        rows = performance_page.save("peers", new, "task", options.out or performance_page.DATA)
        print(comparison_table(new), flush=True)
    print(arithmetic_table(rows))
    if not options.out:
        write_page(rows)


if __name__ == "__main__":
    main()
