"""Ablations: the recipe, and the recipe without one of its techniques, a short run each, measured on validation.

Run: python bench/ablation.py cifar10-skip [--epochs 4] [--seeds 0 1] [--rows "the recipe" …] [--data official]
Each run is added to docs/tasks/ablations/TASK.json; existing ones are skipped. The test split is not read.
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

from decathlon.data.base import EpochShard, derive_seed, parse_source, shuffled_batches
from decathlon.data.io.atomic import write_atomically
from decathlon.data.transforms.augment import random_translate
from decathlon.evaluation import classification
from decathlon.runs import folder as run_folder
from decathlon.tasks.base import base_recipe, get_task
from decathlon.tasks.recipe import Optimizer
from decathlon.training import distributed
from decathlon.training.loop import fit
from decathlon.training.plan import count_parameters

ROOT = Path(__file__).parents[1]
SGD = Optimizer("sgd", lr=0.4, momentum=0.9, weight_decay=5e-4, warmup=0.2)
CUT = 8  # side of the square that cutout masks, pixels


def random_flip_batches(module: Any, mirrored: float) -> Any:
    """`batches` of a CIFAR-10 task with random horizontal flips of this probability."""

    def batches(split: Any, recipe: Any, epoch: EpochShard) -> Iterator[Any]:
        images = split.inputs.clone()
        draw = torch.Generator().manual_seed(derive_seed(recipe.seed, epoch.number))
        turned = torch.rand(len(images), generator=draw) < mirrored
        images[turned] = images[turned].flip(3)
        small = epoch.number < int(recipe.low_res_epochs * recipe.epochs)
        side = recipe.low_res_size if small else images.shape[-1]
        return shuffled_batches(module.ResizedSplit(images, split.targets, side), recipe.batch_size, epoch)

    return batches


def with_cutout(images: Tensor, max_shift: int) -> Tensor:
    """Translated images (N, C, H, W) with cutout (DeVries and Taylor 2017): a square of each is set to its mean."""
    images = random_translate(images, max_shift)
    number, side = len(images), images.shape[-1]
    corners = torch.randint(side - CUT + 1, (2, number, 1))
    within = [(torch.arange(side) >= corner) & (torch.arange(side) < corner + CUT) for corner in corners]
    hidden = within[0][:, None, :, None] & within[1][:, None, None, :]  # (N, 1, H, W)
    mean = images.float().mean((2, 3), keepdim=True).to(images.dtype)
    return torch.where(hidden, mean, images)


def rows(task_id: str) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """The variants: for each the recipe fields that change, and the functions that are patched, by full name."""
    name = f"decathlon.tasks.{task_id.replace('-', '_')}"
    module = import_module(name)
    both: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "the recipe": ({}, {}),
        "first layer random and trained, no whitening": ({}, {f"{name}.whiten": lambda convolution, images: None}),
        "SGD with Nesterov momentum, learning rate 0.4": ({"optimizer": SGD}, {}),
        "SGD with Nesterov momentum, learning rate 0.1": ({"optimizer": replace(SGD, lr=0.1)}, {}),
        "random horizontal flip": ({}, {f"{name}.batches": random_flip_batches(module, 0.5)}),
        "no horizontal flip": ({}, {f"{name}.batches": random_flip_batches(module, 0.0)}),
        "no shifts": ({"shift": 0}, {}),
        "no label smoothing": ({"label_smoothing": 0.0}, {}),
        "no EMA of the weights": ({"ema": 0.0}, {}),
        "full resolution from the start": ({"low_res_epochs": 0.0}, {}),
        f"with cutout, {CUT}×{CUT}": ({}, {f"{name}.random_translate": with_cutout}),
    }
    if task_id == "cifar10-cnn":
        wide = {"channels": (64, 256, 256)}
        return both | {"with dropout 0.1": ({"dropout": 0.1}, {}), "filters 64, 256, 256": (wide, {})}
    skipping = "decathlon.models.skipnet.Block.forward"
    blocks: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "blocks without skip connections": ({}, {skipping: lambda self, maps: self.inner(maps)}),
        "no blocks": ({}, {"decathlon.models.skipnet.Block": lambda channels: torch.nn.Identity()}),
        "no dropout": ({"dropout": 0.0}, {}),
    }
    return both | blocks


@contextmanager
def patched(patches: dict[str, Any]) -> Iterator[None]:
    """Patch functions inside the context."""
    with ExitStack() as stack:
        for name, value in patches.items():
            stack.enter_context(mock.patch(name, value))
        yield


def train_and_measure(task_id: str, recipe: Any, data: Any) -> dict[str, Any]:
    """Train once; return validation accuracy with and without test-time augmentation, and training time."""
    task, fabric = get_task(task_id), distributed.launch_fabric(recipe.precision)
    torch.manual_seed(derive_seed(recipe.seed))
    model = task.model(recipe, data.info, data.train)
    with tempfile.TemporaryDirectory() as folder:
        final, state = fit(task, model, data, recipe, Path(folder), fabric)
        by_epoch = [line["validation"]["accuracy"] for line in run_folder.read_lines(Path(folder, "metrics.jsonl"))]
    with torch.no_grad():
        without_tta = classification.evaluate(final.eval(), data.validation)["accuracy"]
    return {
        "accuracy": by_epoch[-1],
        "one_view": without_tta,
        "by_epoch": by_epoch,
        "seed": recipe.seed,
        "epochs": recipe.epochs,
        "train_seconds": round(state.train_seconds, 1),
        "parameters": count_parameters(model),
    }


def add(path: Path, row: dict[str, Any]) -> None:
    """Add a row to the file, to which another process may add, too."""
    rows = json.loads(path.read_text()) if path.exists() else []
    lines = [json.dumps(item, ensure_ascii=False) for item in [*rows, row]]
    with write_atomically(path) as part:
        part.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def table(rows: list[dict[str, Any]], names: Iterable[str], epochs: int) -> str:
    """The rows with this number of epochs in Markdown, in percent; the mean over seeds, with their number."""
    lines = ["| what | with TTA | difference | without TTA |", "| --- | --- | --- | --- |"]
    recipe = float("nan")
    for name in names:
        runs = [row for row in rows if (row["row"], row["epochs"]) == (name, epochs)]
        if not runs:
            continue
        with_tta, without_tta = (sum(100 * run[key] for run in runs) / len(runs) for key in ("accuracy", "one_view"))
        recipe = with_tta if name == "the recipe" else recipe
        difference = "" if name == "the recipe" else f"{with_tta - recipe:+.2f}".replace("-", "−")
        label = name if len(runs) == 1 else f"{name} ({len(runs)} seeds)"
        lines.append(f"| {label} | {with_tta:.2f} | {difference} | {without_tta:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Train the missing rows, then print all rows with these epochs, data and precision."""
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
    task, variants = get_task(options.task), rows(options.task)
    base = replace(base_recipe(task, options.data), epochs=options.epochs, precision=options.precision)
    data = task.load(parse_source(options.data, None, False), base)
    for seed in options.seeds:
        for name in options.rows or variants:
            fields, patches = variants[name]
            results = json.loads(out.read_text()) if out.exists() else []
            key = {"row": name, "seed": seed, "epochs": options.epochs, "precision": options.precision}
            if any((key | {"data": data.name}).items() <= earlier.items() for earlier in results):
                continue
            with patched(patches):
                result = train_and_measure(options.task, replace(base, seed=seed, **fields), data)
            environment = run_folder.environment(torch.device("cpu"))
            facts = {name: environment[name] for name in ("hardware", "threads", "commit")}
            add(out, {"row": name} | result | {"data": data.name, "precision": options.precision} | facts)
            print(f"{name}, seed {seed}: {100 * result['accuracy']:.2f} % ({result['train_seconds']} s)", flush=True)
    same_setting = {"data": data.name, "precision": options.precision}
    print(
        table(
            [row for row in json.loads(out.read_text()) if same_setting.items() <= row.items()],
            variants,
            options.epochs,
        )
    )


if __name__ == "__main__":
    main()
