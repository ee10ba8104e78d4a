"""Ablations: the recipe, and the recipe without one of its techniques, a short run each, measured on validation.

Run: python bench/ablation.py TASK [--epochs 4] [--seeds 0 1] [--rows "the baseline" …] [--data official] …
TASK is a CIFAR-10 task, whose baseline is its `fast` recipe with the learning rate 0.12, or a detector, whose baseline
is its `best` recipe with the learning rate of `fast`.
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
import torch.nn.functional as F
from torch import Tensor

from decathlon.data.base import EpochShard, derive_seed, parse_source, shuffled_batches
from decathlon.data.io.atomic import write_atomically
from decathlon.data.transforms.augment import color_jitter, cutout, random_translate, to_float, warp
from decathlon.evaluation import classification
from decathlon.runs import folder as run_folder
from decathlon.tasks.base import base_recipe, get_task, tta_name
from decathlon.tasks.recipe import Optimizer
from decathlon.training import distributed
from decathlon.training.loop import fit
from decathlon.training.plan import count_parameters

ROOT = Path(__file__).parents[1]
SGD = Optimizer("sgd", lr=0.4, momentum=0.9, weight_decay=5e-4, warmup=0.2)
MUON = Optimizer("muon", lr=0.12, momentum=0.6)  # of the CIFAR-10 baselines
CUT = 8  # side of the square that cutout masks, pixels
JITTER = 0.3  # strength of color jitter
RECIPE = "learning rate 0.06"  # the row that is the recipe of `cifar10-cnn` today
OF_THE_RECIPE = (  # rows that exist with its learning rate, too, for 18 epochs
    "first layer random and trained, no whitening",
    "random horizontal flip",
    "no label smoothing",
    "no EMA of the weights",
    "no shifts",
    "full resolution from the start",
)
TASKS = ("cifar10-cnn", "cifar10-skip", "voc-faster-rcnn", "voc-retinanet")
Row = tuple[dict[str, Any], dict[str, Any]]  # the recipe fields that change, and the functions that are patched


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


def with_jitter_and_cutout(images: Tensor, max_shift: int) -> Tensor:
    """Translated images with color jitter and cutout."""
    return cutout(color_jitter(to_float(random_translate(images, max_shift)), JITTER), CUT)


def with_distortion(images: Tensor, max_shift: int) -> Tensor:
    """Images that are rotated, scaled, sheared and translated, with color jitter and cutout."""
    padded = F.pad(to_float(images), (4,) * 4, mode="reflect")
    warped = warp(padded, len(images), rotation=15, scale=0.15, shear=0.1, shift=max_shift)
    return cutout(color_jitter(warped[:, :, 4:-4, 4:-4], JITTER), CUT)


def slow_backbone(build: Any) -> Any:
    """A detector's `model` whose backbone learns at a tenth of the learning rate."""

    def model(*args: Any, **options: Any) -> torch.nn.Module:
        network: torch.nn.Module = build(*args, **options)
        for module in network.backbone.body.modules():  # type: ignore[union-attr]
            module.lr_scale = 0.1
        return network

    return model


def detector_rows(task_id: str) -> dict[str, Row]:
    """The variants of a detector."""
    name = f"decathlon.tasks.{task_id.replace('-', '_')}"
    module = import_module(name)
    optimizer = module.recipe().optimizer
    slow = {f"{name}.model": slow_backbone(module.model)}
    lr = optimizer.lr
    both: dict[str, Row] = {
        "the baseline": ({}, {}),
        f"learning rate {lr / 4:g}": ({"optimizer": replace(optimizer, lr=lr / 4)}, {}),
        f"learning rate {lr / 2:g}": ({"optimizer": replace(optimizer, lr=lr / 2)}, {}),
        f"learning rate {2 * lr:g}": ({"optimizer": replace(optimizer, lr=2 * lr)}, {}),
        f"learning rate {lr / 2:g}, all stages trained": (
            {"optimizer": replace(optimizer, lr=lr / 2), "trainable_layers": 5},
            {},
        ),
        "the backbone at a tenth of the learning rate": ({}, slow),
        "all stages trained": ({"trainable_layers": 5}, {}),
        "two stages trained": ({"trainable_layers": 2}, {}),
        "EMA of the weights, 0.99": ({"ema": 0.99}, {}),
        "no repeats of rare classes": ({"repeat_threshold": 0.0}, {}),
        "random crops from 0.7 to 1": ({"scale_range": (0.7, 1.0)}, {}),
        "no random crops": ({"scale_range": (1.0, 1.0)}, {}),
        "no color jitter": ({"color_jitter": 0.0}, {}),
        "a pyramid of 64 channels": ({"pyramid_channels": 64}, {}),
    }
    if task_id == "voc-retinanet":
        return both
    return both | {
        "32 sampled RoIs": ({"roi_batch_size": 32}, {}),
        "128 sampled RoIs": ({"roi_batch_size": 128}, {}),
        "a RoI head of 512": ({"representation_size": 512}, {}),
    }


def rows(task_id: str) -> dict[str, Row]:
    """The variants: for each the recipe fields that change, and the functions that are patched, by full name."""
    if task_id.startswith("voc"):
        return detector_rows(task_id)
    name = f"decathlon.tasks.{task_id.replace('-', '_')}"
    module = import_module(name)
    both: dict[str, Row] = {
        "the baseline": ({}, {}),
        RECIPE: ({"optimizer": replace(MUON, lr=0.06)}, {}),
        "learning rate 0.03": ({"optimizer": replace(MUON, lr=0.03)}, {}),
        "first layer random and trained, no whitening": ({}, {f"{name}.whiten": lambda convolution, images: None}),
        "SGD with Nesterov momentum, learning rate 0.4": ({"optimizer": SGD}, {}),
        "SGD with Nesterov momentum, learning rate 0.1": ({"optimizer": replace(SGD, lr=0.1)}, {}),
        "random horizontal flip": ({}, {f"{name}.batches": random_flip_batches(module, 0.5)}),
        "no horizontal flip": ({}, {f"{name}.batches": random_flip_batches(module, 0.0)}),
        "no shifts": ({"shift": 0}, {}),
        "no label smoothing": ({"label_smoothing": 0.0}, {}),
        "no EMA of the weights": ({"ema": 0.0}, {}),
        "full resolution from the start": ({"low_res_epochs": 0.0}, {}),
        f"with cutout, {CUT}×{CUT}": ({"cutout": CUT}, {}),
        "with color jitter and cutout": ({}, {f"{name}.random_translate": with_jitter_and_cutout}),
        "with distortion, color jitter and cutout": ({}, {f"{name}.random_translate": with_distortion}),
    }
    if task_id == "cifar10-cnn":
        both["filters 64, 256, 256"] = {"channels": (64, 256, 256)}, {}
        for row in OF_THE_RECIPE:
            fields, patches = both[row]
            both[f"{RECIPE}, {row}"] = both[RECIPE][0] | fields, patches
        return both
    skipping = "decathlon.models.skipnet.Block.forward"
    blocks: dict[str, Row] = {
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
    """Train once; return the metric on validation, with and without test-time augmentation, and training time."""
    task, fabric = get_task(task_id), distributed.launch_fabric(recipe.precision)
    torch.manual_seed(derive_seed(recipe.seed))
    model = task.model(recipe, data.info, data.train)
    with tempfile.TemporaryDirectory() as folder:
        final, state = fit(task, model, data, recipe, Path(folder), fabric)
        lines = run_folder.read_lines(Path(folder, "metrics.jsonl"))
    by_epoch = [line["validation"][task.SPEC.metric] for line in lines]
    result = {"value": by_epoch[-1]}
    if tta_name(task, recipe) != "none":
        with torch.no_grad():
            result["without_tta"] = classification.evaluate(final.eval(), data.validation)["accuracy"]
    return {
        **result,
        "by_epoch": by_epoch,
        "seed": recipe.seed,
        "epochs": recipe.epochs,
        "train_seconds": round(state.train_seconds, 1),
        "parameters": count_parameters(model),
    }


def add(path: Path, row: dict[str, Any]) -> None:
    """Add a row to the file."""
    rows = json.loads(path.read_text()) if path.exists() else []
    lines = [json.dumps(item, ensure_ascii=False) for item in [*rows, row]]
    with write_atomically(path) as part:
        part.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def table(rows: list[dict[str, Any]], names: Iterable[str], epochs: int) -> str:
    """The rows with this number of epochs in Markdown, in percent: the mean over seeds, with their number.

    Differences are from the first of the names; of the rows at the recipe's learning rate, from the recipe.
    """
    has_tta, first, means = any("without_tta" in row for row in rows), next(iter(names)), dict[str, float]()
    lines = (
        ["| what | with TTA | difference | without TTA |", "| --- | --- | --- | --- |"]
        if has_tta
        else ["| what | validation | difference |", "| --- | --- | --- |"]
    )
    for name in names:
        runs = [row for row in rows if (row["row"], row["epochs"]) == (name, epochs)]
        if not runs:
            continue
        means[name] = value = sum(100 * run["value"] for run in runs) / len(runs)
        reference = means.get(RECIPE if name.startswith(f"{RECIPE}, ") else first, float("nan"))
        difference = "" if name == first else f"{value - reference:+.2f}".replace("-", "−")
        label = name if len(runs) == 1 else f"{name} ({len(runs)} seeds)"
        without_tta = f" {sum(100 * run['without_tta'] for run in runs) / len(runs):.2f} |" if has_tta else ""
        lines.append(f"| {label} | {value:.2f} | {difference} |{without_tta}")
    return "\n".join(lines)


def main() -> None:
    """Train the missing rows, then print all rows with these epochs, data and precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="+", help="these only")
    parser.add_argument("--data", default="official")
    parser.add_argument("--precision", default="bf16-mixed")
    parser.add_argument("--min-size", type=int, default=224, help="of a detector's images, pixels")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    out = options.out or ROOT / f"docs/tasks/ablations/{options.task}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    task, variants = get_task(options.task), rows(options.task)
    base: Any = replace(base_recipe(task, options.data), epochs=options.epochs, precision=options.precision)
    setting: dict[str, Any] = {"precision": options.precision}
    if options.task.startswith("cifar10"):
        base = replace(base, optimizer=MUON)
    if options.task.startswith("voc"):
        best = base_recipe(task, "official", "best")
        base = replace(best, optimizer=base.optimizer, epochs=options.epochs, precision=options.precision)
        base = replace(base, min_size=options.min_size, max_size=2 * options.min_size)
        setting["min_size"] = options.min_size
    data = task.load(parse_source(options.data, None, False), base)
    for seed in options.seeds:
        for name in options.rows or variants:
            fields, patches = variants[name]
            results = json.loads(out.read_text()) if out.exists() else []
            key = {"row": name, "seed": seed, "epochs": options.epochs} | setting
            if any((key | {"data": data.name}).items() <= earlier.items() for earlier in results):
                continue
            with patched(patches):
                result = train_and_measure(options.task, replace(base, seed=seed, **fields), data)
            environment = run_folder.environment(torch.device("cpu"))
            facts = {name: environment[name] for name in ("hardware", "threads", "commit")}
            add(out, {"row": name} | result | {"data": data.name} | setting | facts)
            print(f"{name}, seed {seed}: {100 * result['value']:.2f} % ({result['train_seconds']} s)", flush=True)
    same_setting = {"data": data.name} | setting
    print(
        table(
            [row for row in json.loads(out.read_text()) if same_setting.items() <= row.items()],
            variants,
            options.epochs,
        )
    )


if __name__ == "__main__":
    main()
