"""What each trick of a recipe brings: the recipe, and the recipe without one of them, a short run each, on validation.

Run: python bench/ablation.py cifar10-skip [--epochs 4] [--seeds 0 1] [--rows "the recipe" …] [--data official]
It adds to docs/tasks/ablations/TASK.json after every run, and makes no row twice. The test split is not read.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in decathlon.__main__

import argparse
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from decathlon import classify, processes, run
from decathlon.augment import shifted
from decathlon.data import Epoch, shuffled, source, stream
from decathlon.fit import fit
from decathlon.recipe import Optimizer, base_recipe, get_task
from decathlon.train import count
from decathlon.writing import beside

ROOT = Path(__file__).parents[1]
SGD = Optimizer("sgd", lr=0.4, momentum=0.9, weight_decay=5e-4, warmup=0.2)
CUT = 8  # side of the square that cutout hides


def drawn_mirrors(module: Any, mirrored: float) -> Any:
    """`batches` of a CIFAR-10 task in which each image is mirrored with this probability, drawn anew each epoch."""

    def batches(split: Any, recipe: Any, epoch: Epoch) -> Iterator[Any]:
        images = split.inputs.clone()
        draw = torch.Generator().manual_seed(stream(recipe.seed, epoch.number))
        turned = torch.rand(len(images), generator=draw) < mirrored
        images[turned] = images[turned].flip(3)
        small = epoch.number < int(recipe.small_share * recipe.epochs)
        side = recipe.small_side if small else images.shape[-1]
        return shuffled(module.Sized(images, split.targets, side), recipe.batch_size, epoch)

    return batches


def with_cutout(images: Tensor, most: int) -> Tensor:
    """Shifted images (N, C, H, W) with a square each that is hidden under its mean (DeVries and Taylor 2017)."""
    images = shifted(images, most)
    number, side = len(images), images.shape[-1]
    corners = torch.randint(side - CUT + 1, (2, number, 1))
    within = [(torch.arange(side) >= corner) & (torch.arange(side) < corner + CUT) for corner in corners]
    hidden = within[0][:, None, :, None] & within[1][:, None, None, :]  # (N, 1, H, W)
    mean = images.float().mean((2, 3), keepdim=True).to(images.dtype)
    return torch.where(hidden, mean, images)


def rows(task_id: str) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Of each row the fields of the recipe that change, and what stands in for what, by its full name."""
    name = f"decathlon.tasks.{task_id.replace('-', '_')}"
    module = import_module(name)
    both: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "the recipe": ({}, {}),
        "first layer starts at random, and learns": ({}, {f"{name}.whiten": lambda convolution, images: None}),
        "SGD with Nesterov momentum, rate 0.4": ({"optimizer": SGD}, {}),
        "SGD with Nesterov momentum, rate 0.1": ({"optimizer": replace(SGD, lr=0.1)}, {}),
        "mirrored at random": ({}, {f"{name}.batches": drawn_mirrors(module, 0.5)}),
        "never mirrored": ({}, {f"{name}.batches": drawn_mirrors(module, 0.0)}),
        "no shifts": ({"shift": 0}, {}),
        "no label smoothing": ({"smoothing": 0.0}, {}),
        "no average of the weights": ({"ema": 0.0}, {}),
        "full size from the start": ({"small_share": 0.0}, {}),
        f"with cutout, {CUT}×{CUT}": ({}, {f"{name}.shifted": with_cutout}),
    }
    if task_id == "cifar10-cnn":
        wide = {"channels": (64, 256, 256)}
        return both | {"with dropout 0.1": ({"dropout": 0.1}, {}), "filters 64, 256, 256": (wide, {})}
    skipping = "decathlon.models.skipnet.Block.forward"
    blocks: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "blocks without the connection that skips": ({}, {skipping: lambda self, maps: self.inner(maps)}),
        "no blocks": ({}, {"decathlon.models.skipnet.Block": lambda channels: torch.nn.Identity()}),
        "no dropout": ({"dropout": 0.0}, {}),
    }
    return both | blocks


@contextmanager
def standing_in(patches: dict[str, Any]) -> Iterator[None]:
    """Other functions in the places of ours, for a while."""
    with ExitStack() as stack:
        for name, value in patches.items():
            stack.enter_context(mock.patch(name, value))
        yield


def measured(task_id: str, recipe: Any, data: Any) -> dict[str, Any]:
    """Train once, and give the accuracy on the validation split with two views and with one, and the seconds."""
    task, fabric = get_task(task_id), processes.fabric(recipe.precision)
    torch.manual_seed(stream(recipe.seed))
    model = task.model(recipe, data.meta, data.train)
    with tempfile.TemporaryDirectory() as place:
        kept, state = fit(task, model, data, recipe, Path(place), fabric)
        by_epoch = [line["validation"]["accuracy"] for line in run.read_lines(Path(place, "metrics.jsonl"))]
    with torch.no_grad(), fabric.autocast():
        one = classify.evaluate(kept.eval(), data.validation)["accuracy"]
    return {
        "accuracy": by_epoch[-1],
        "one_view": one,
        "by_epoch": by_epoch,
        "seed": recipe.seed,
        "epochs": recipe.epochs,
        "train_seconds": round(state.train_seconds, 1),
        "parameters": count(model),
    }


def add(path: Path, row: dict[str, Any]) -> None:
    """Put a row into the file, which another process may do as well between two of ours."""
    known = json.loads(path.read_text()) if path.exists() else []
    lines = [json.dumps(one, ensure_ascii=False) for one in [*known, row]]
    with beside(path) as part:
        part.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def table(known: list[dict[str, Any]], names: Iterable[str], epochs: int) -> str:
    """The rows of one length in Markdown, in percent; of several seeds the mean, with their number."""
    lines = ["| what | two views | against the recipe | one view |", "| --- | --- | --- | --- |"]
    recipe = float("nan")
    for name in names:
        runs = [row for row in known if (row["row"], row["epochs"]) == (name, epochs)]
        if not runs:
            continue
        both, one = (sum(100 * run[views] for run in runs) / len(runs) for views in ("accuracy", "one_view"))
        recipe = both if name == "the recipe" else recipe
        against = "" if name == "the recipe" else f"{both - recipe:+.2f}".replace("-", "−")
        told = name if len(runs) == 1 else f"{name} ({len(runs)} seeds)"
        lines.append(f"| {told} | {both:.2f} | {against} | {one:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Make the rows that are not there yet, then print all of this length, data and precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["cifar10-cnn", "cifar10-skip"])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="+", help="these only")
    parser.add_argument("--data", default="official")
    parser.add_argument("--precision", default="bf16-mixed")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    out = options.out or ROOT / f"docs/tasks/ablations/{options.task}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    task, there = get_task(options.task), rows(options.task)
    base = replace(base_recipe(task, options.data), epochs=options.epochs, precision=options.precision)
    data = task.load(source(options.data, None, False), base)
    for seed in options.seeds:
        for name in options.rows or there:
            fields, patches = there[name]
            known = json.loads(out.read_text()) if out.exists() else []
            wanted = {"row": name, "seed": seed, "epochs": options.epochs, "precision": options.precision}
            if any((wanted | {"data": data.name}).items() <= one.items() for one in known):
                continue
            with standing_in(patches):
                found = measured(options.task, replace(base, seed=seed, **fields), data)
            environment = run.environment(torch.device("cpu"))
            more = {name: environment[name] for name in ("hardware", "threads", "commit")}
            add(out, {"row": name} | found | {"data": data.name, "precision": options.precision} | more)
            print(f"{name}, seed {seed}: {100 * found['accuracy']:.2f} % ({found['train_seconds']} s)", flush=True)
    alike = {"data": data.name, "precision": options.precision}
    print(table([row for row in json.loads(out.read_text()) if alike.items() <= row.items()], there, options.epochs))


if __name__ == "__main__":
    main()
