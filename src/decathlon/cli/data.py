"""`decathlon data`: where data sets are looked for, and how many examples they have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from decathlon.cli.flags import parse
from decathlon.cli.options import DataOptions
from decathlon.cli.terminal import print_output, print_table
from decathlon.errors import UsageError, nearest
from decathlon.tasks.base import get_task, task_ids

if TYPE_CHECKING:
    from decathlon.data.base import Source
    from decathlon.tasks.base import Task


def data_command(args: list[str]) -> int:
    """`decathlon data [NAME…]`."""
    options = parse(DataOptions, args, "data")
    first_task = {get_task(task_id).SPEC.dataset: get_task(task_id) for task_id in reversed(task_ids())}
    for name in options.names:
        if name not in first_task:
            raise UsageError(f"unknown data set {name!r}{nearest(name, first_task)}")
    from decathlon.data.base import parse_source

    source = parse_source("official", options.data_dir, options.download)
    rows = []
    for name in options.names or list(first_task)[::-1]:
        task = first_task[name]
        try:  # to load IMDB as a task does, embeddings and teachers would be trained first
            copy, counts = count_reviews(source) if name == "imdb" else count_examples(task, source)
            sizes = ", ".join(f"{number:,} {split}" for split, number in counts.items())
            row = {"available": True, "copy": copy, "folder": str(source.folder), "contents": sizes}
        except (OSError, ValueError) as error:
            row = {"available": False, "copy": "", "folder": str(source.folder), "contents": str(error)}
        rows.append({"data": name} | row)
    print_output(rows, options.json, lambda: print_table(rows))
    return 1 if options.download and not all(row["available"] for row in rows) else 0


def count_examples(task: Task, source: Source) -> tuple[str, dict[str, int]]:
    """The name of the copy, as results have it, and the examples of each split. Raises as the task's `load`."""
    data = task.load(source, task.recipe())
    return data.name, data.sizes


def count_reviews(source: Source) -> tuple[str, dict[str, int]]:
    """The same of IMDB, without what a task makes of the reviews. Raises as `imdb.load`."""
    import torch

    from decathlon.data import imdb
    from decathlon.data.base import Split

    texts = imdb.load(source)
    numbers = Split(torch.arange(len(texts.train)), torch.tensor(texts.train_labels))
    train, validation = imdb.divide_training(texts, numbers, source)
    sizes = {"train": len(train), "validation": len(validation), "test": len(texts.test)}
    return texts.name, sizes | ({"unlabelled": len(texts.unlabelled)} if texts.unlabelled else {})
