"""`decathlon inspect`: what would be read of a user's own data."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

from decathlon.cli.flags import check_task, parse
from decathlon.cli.options import Inspect
from decathlon.cli.terminal import print_output, print_table, print_text
from decathlon.data.read_options import ReadOptions, join_path
from decathlon.errors import UsageError
from decathlon.tasks.base import get_task, task_ids


def inspect_command(args: list[str]) -> int:
    """`decathlon inspect PATH`."""
    options = parse(Inspect, args, "inspect")
    if not options.path:
        raise UsageError("decathlon inspect needs a path: that of your own data")
    if options.path in ("official", "sample"):
        raise UsageError("decathlon inspect looks at your own data: name its path")
    if Path(options.path, "config.json").is_file() and Path(options.path, "metrics.jsonl").is_file():
        raise UsageError(f"{options.path} is a run folder: decathlon report {options.path} shows it")
    if options.task:
        check_task(options.task, task_ids())
    from decathlon.data.base import parse_source
    from decathlon.reporting.inspect import inspect, write

    reading = ReadOptions(options.text_column, options.label_column, options.mask_suffix, options.transposed)
    source = dataclasses.replace(parse_source(options.path, options.data_dir), options=reading)
    inspection = inspect(source, get_task(options.task).SPEC.dataset if options.task else None)
    join_path(options.path, reading, inspection.dataset)  # refuses options that do not apply to it
    fitting = [name for name in task_ids() if get_task(name).SPEC.dataset == inspection.dataset]
    tasks = [options.task] if options.task else fitting
    flags = "".join(
        f" --{name.replace('_', '-')}" + ("" if value is True else f" {shlex.quote(str(value))}")
        for name, value in reading.changed().items()
    )
    page = write(inspection, Path(options.out or f"{Path(options.path).resolve().stem}-inspect.html"), tasks, flags)

    def print_inspection() -> None:
        sizes = ", ".join(f"{number:,} {split}" for split, number in inspection.splits.items())
        print_text(f"{inspection.kind}: {sizes}")
        print_table([{name: str(value) for name, value in row.items()} for row in inspection.classes])
        for name, value in inspection.sizes.items():
            print_text(f"{name}: {value}")
        for warning in inspection.warnings:
            print_text(f"warning: {warning}")
        print_text(f"Open {page.resolve()}")

    print_output(inspection.to_dict() | {"page": str(page)}, options.json, print_inspection)
    return 0
