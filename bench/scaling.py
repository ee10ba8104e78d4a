"""How time and memory grow with the number of examples, the image size and the number of processes.

    python bench/scaling.py                           # some minutes: the sizes of docs/performance.md
    python bench/scaling.py --tasks mnist-mlp --sizes 1000 8000 60000

For one task of each kind: reading data of the user's own (drawn here), then one epoch, each size in a process of its
own. The growth exponent is the slope of log(value) over log(size): 1 is linear. Sizes of images are counted in pixels.
Values that grow clearly faster are named at the end. The rows go into docs/performance.json and docs/performance.md.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import csv
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import performance_page

from decathlon.data.io.idx import write_idx
from decathlon.data.synthetic import pets, reviews, scenes

MAX_EXPONENT = 1.2  # above it a value is named
MIN_SECONDS, MIN_MIB = 0.5, 50  # below them a value is mostly the cost of starting
MEASURED = {"reading": "s", "training": "s", "memory": "MiB"}


def write_digits(folder: Path, count: int) -> Path:
    """Random images and labels in MNIST's files."""
    draw = np.random.default_rng(0)
    folder.mkdir()
    for part, number in (("train", count), ("t10k", 100)):
        write_idx(folder / f"{part}-images-idx3-ubyte", draw.integers(0, 256, (number, 28, 28), dtype=np.uint8))
        write_idx(folder / f"{part}-labels-idx1-ubyte", np.arange(number, dtype=np.uint8) % 10)
    return folder


def write_pets(folder: Path, count: int) -> Path:
    """Drawn pets in the official layout."""
    with mock.patch.dict(pets.COUNTS, {"trainval": count, "test": 8}):
        return pets.write_pets(folder)


def write_scenes(folder: Path, count: int) -> Path:
    """Drawn scenes in VOC's layout."""
    with mock.patch.dict(scenes.COUNTS, {"trainval": count, "test": 8}):
        return scenes.write_scenes(folder)


def write_reviews(folder: Path, count: int) -> Path:
    """Composed reviews, each with a hundred more words of 5,000, as a table."""
    draw = random.Random(0)
    folder.mkdir()
    with (folder / "reviews.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "label"])
        for number in range(count):
            words = " ".join(f"word{draw.randrange(5000)}" for _ in range(100))
            table.writerow([f"{reviews.compose(draw, number % 2 == 0)} {words}", ["neg", "pos"][number % 2]])
    return folder


@dataclass(frozen=True)
class Case:
    """What is measured of a task."""

    write: Callable[[Path, int], Path]
    examples: tuple[int, ...]
    fields: dict[str, Any]  # of the recipe
    image_field: str = ""  # the recipe's field for the image size
    image_sizes: tuple[int, ...] = ()


SMALL_DETECTOR = {"backbone": "small", "min_size": 96, "max_size": 400, "anchors": (16, 22)}
CASES = {
    "mnist-mlp": Case(write_digits, (1000, 8000, 60_000), {}),
    "imdb-textcnn": Case(write_reviews, (1000, 4000, 16_000), {"teachers": ()}),
    "pets-unet": Case(write_pets, (100, 200, 400), {"image_size": 64, "low_res_epochs": 0.0}, "image_size", (64, 128)),
    "voc-faster-rcnn": Case(write_scenes, (50, 100, 200), SMALL_DETECTOR, "min_size", (64, 128)),
}


def worker(task_id: str, data: str, fields: dict[str, Any], devices: int, out: str) -> dict[str, float]:
    """Read the data, then train for an epoch, in this process."""
    from decathlon.data.base import parse_source
    from decathlon.tasks.base import get_task
    from decathlon.tasks.recipe import from_dict
    from decathlon.training import runner

    task = get_task(task_id)
    recipe = from_dict(task.recipe(), fields | {"epochs": 1})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # of the imports
    start = time.perf_counter()
    task.load(parse_source(data, f"{out}-data"), recipe)
    reading = time.perf_counter() - start
    summary: Any = runner.train(task_id, recipe, runner.RunOptions(data, f"{out}-data", out, devices=devices))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN if devices > 1 else resource.RUSAGE_SELF).ru_maxrss
    return {"reading": round(reading, 2), "training": summary.train_seconds, "memory": round((peak - before) / 1024)}


def measure(task_id: str, count: int, changes: dict[str, Any], devices: int = 1) -> dict[str, float]:
    """Run `worker` in a process of its own on newly written data."""
    with tempfile.TemporaryDirectory() as folder:
        data = CASES[task_id].write(Path(folder, "own"), count)
        fields = json.dumps(CASES[task_id].fields | changes)
        arguments = [task_id, str(data), fields, str(devices), f"{folder}/run"]
        done = subprocess.run(
            [sys.executable, __file__, "--worker", *arguments], stdout=subprocess.PIPE, check=True, text=True
        )
    return json.loads(done.stdout.splitlines()[-1])


def exponent(sizes: list[float], values: list[float]) -> float:
    """The least-squares slope of log(value) over log(size)."""
    x, y = np.log(sizes), np.log(np.maximum(values, 1e-3))
    return float(np.polyfit(x, y, 1)[0])


def grow(task_id: str, what: str, sizes: list[int], run: Callable[[int], dict[str, float]]) -> dict[str, Any]:
    """Measure at all sizes. Returns a row: sizes, values, and the exponents of growth."""
    results = [run(size) for size in sizes]
    values = {name: [result[name] for result in results] for name in MEASURED}
    amounts = [float(size) ** (2 if what == "image size" else 1) for size in sizes]
    exponents = {name: round(exponent(amounts, values[name]), 2) for name in MEASURED}
    return {"task": task_id, "grows": what, "sizes": sizes, "values": values, "exponents": exponents}


def measure_task(task_id: str, sizes: list[int] | None) -> list[dict[str, Any]]:
    """The rows of a task: examples, image size where it has one, and processes."""
    case = CASES[task_id]
    examples = sizes or list(case.examples)
    rows = [grow(task_id, "examples", examples, lambda count: measure(task_id, count, {}))]
    if case.image_sizes:

        def run(side: int) -> dict[str, float]:
            return measure(task_id, examples[0], {case.image_field: side})

        rows.append(grow(task_id, "image size", list(case.image_sizes), run))
    rows.append(grow(task_id, "processes", [1, 2], lambda count: measure(task_id, examples[-1], {}, devices=count)))
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown: values from the smallest to the largest size, and the exponent in brackets."""
    formatted = []
    for row in rows:
        cells = {
            "task": f"`{row['task']}`",
            "what grows": row["grows"],
            "sizes": ", ".join(f"{size:,}" for size in row["sizes"]),
        }
        for name, unit in MEASURED.items():
            series = " → ".join(f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in row["values"][name])
            cells[name] = f"{series} {unit}" + (
                "" if row["grows"] == "processes" else f" ({row['exponents'][name]:.2f})"
            )
        formatted.append(cells)
    return performance_page.markdown(formatted)


def worse_than_linear(rows: list[dict[str, Any]]) -> list[str]:
    """What grows with an exponent above `MAX_EXPONENT`, in sentences."""
    sentences = []
    for row in rows:
        for name, unit in MEASURED.items():
            floor = MIN_MIB if unit == "MiB" else MIN_SECONDS
            value, power = row["values"][name][-1], row["exponents"][name]
            if row["grows"] != "processes" and power > MAX_EXPONENT and value > floor:
                sentences.append(f"{row['task']}: {name} grows with {row['grows']} to the power of {power}")
    return sentences


def main() -> None:
    """Measure, keep the rows, print the table and what grows too fast."""
    if "--worker" in sys.argv:
        task_id, data, fields, devices, out = sys.argv[sys.argv.index("--worker") + 1 :]
        print(json.dumps(worker(task_id, data, json.loads(fields), int(devices), out)))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of examples")
    parser.add_argument("--out", type=Path, help="JSON file for the rows; default: docs/performance.json and its page")
    options = parser.parse_args()
    rows = list[dict[str, Any]]()
    for task_id in options.tasks:
        new = measure_task(task_id, options.sizes)
        rows = performance_page.save("scaling", new, "task", options.out or performance_page.DATA)
        print(table(new), flush=True)
    print("\n".join(worse_than_linear(rows)) or "nothing grows clearly faster than linearly")
    if not options.out:
        performance_page.replace_table("scaling", table(rows))


if __name__ == "__main__":
    main()
