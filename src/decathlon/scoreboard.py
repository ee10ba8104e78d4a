"""The scoreboard: nothing in it but what the committed summaries prove."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from decathlon import guard, run
from decathlon.recipe import task_ids
from decathlon.terminal import counted

BEGIN, END = "<!-- scoreboard: written by `decathlon scoreboard --write` -->", "<!-- /scoreboard -->"


def stamp() -> str:
    """The time, as folders are named by it."""
    return time.strftime("%Y%m%d-%H%M%S")


def read(folder: Path) -> list[dict[str, Any]]:
    """All summaries below a folder.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: A file is no summary.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: run this in the repository, or name one with --results")
    summaries = []
    for path in sorted(folder.glob("*/*.json")):
        summaries.append(guard.summary(path))
    return summaries


def rows(summaries: Iterable[dict[str, Any]], links: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """A row for each task, copy of the data, recipe and hardware; its number is the mean over the seeds.

    Raises:
        ValueError: Two summaries of one row have the same seed: one run would count twice.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for summary in summaries:
        groups.setdefault((summary["task"], summary["data"], *_variant(summary)), []).append(summary)
    place = {name: number for number, name in enumerate(task_ids())}
    found = []
    for key, group in sorted(groups.items(), key=lambda item: (place.get(item[0][0], len(place)), item[0])):
        task, data, changed, machine = key
        if len({one["seed"] for one in group}) < len(group):
            raise ValueError(f"two results of {task} on {data} have the same seed")
        values = [one["value"] for one in group]
        reached = [one["seconds_to_bar"] for one in group]
        bar = group[0]["bar"]
        found.append(
            {
                "task": task,
                "data": data,
                "metric": group[0]["metric"],
                "value": statistics.mean(values),
                "deviation": statistics.stdev(values) if len(values) > 1 else None,
                "n": len(values),
                "bar": bar,
                "passed": None if bar is None else min(values) >= bar,
                "train_seconds": statistics.mean(one["train_seconds"] for one in group),
                "seconds_to_bar": None if None in reached else statistics.mean(reached),
                "parameters": group[0]["parameters"],
                "machine": machine,
                "broken_rules": sorted({rule for one in group for rule in one.get("broken_rules", [])}),
                "changed": changed,
                "link": (links or {}).get(task),
            }
        )
    return [row | {"verdict": verdict(row)} for row in found]


def _variant(summary: dict[str, Any]) -> tuple[str, str]:
    """What keeps a run from being averaged with others: what was changed in it, and the machine."""
    encoder = summary.get("encoder")
    changed = [f"encoder {encoder}"] if encoder else []
    overrides = sorted(summary.get("overrides", {}).items())
    changed += [f"{name} {value}" for name, value in overrides if not (encoder and name == "encoder")]
    changed += [f"network {summary['model']}"] if summary.get("model") else []
    changed += ["until the bar"] if summary.get("until_bar") else []
    processes = summary.get("devices", 1)
    threads = counted(summary.get("threads", 0), "thread") + (
        f" in each of {processes} processes" if processes > 1 else ""
    )
    return ", ".join(changed), f"{summary.get('hardware') or summary.get('device', 'unknown')} ({threads})"


def verdict(row: dict[str, Any]) -> str:
    """`cleared`, `missed`, `breaks the rules`, or nothing where there is no bar."""
    if row["broken_rules"]:
        return "breaks the rules"
    return {True: "cleared", False: "missed", None: ""}[row["passed"]]


def words(table: Iterable[dict[str, Any]]) -> list[dict[str, str]]:
    """The rows as people read them."""
    return [
        {
            "task": row["task"] + (f" ({row['changed']})" if row["changed"] else ""),
            "data": row["data"],
            "metric": row["metric"],
            "test": f"{100 * row['value']:.2f} %"
            + (f" ± {100 * row['deviation']:.2f} (n = {row['n']})" if row["n"] > 1 else ""),
            "bar": "–" if row["bar"] is None else f"{100 * row['bar']:g} %",
            "": row["verdict"],
            "training": f"{row['train_seconds']:.0f} s",
            "to the bar": "–" if row["seconds_to_bar"] is None else f"{row['seconds_to_bar']:.0f} s",
            "parameters": f"{row['parameters']:,}",
        }
        for row in table
    ]


def markdown(table: list[dict[str, Any]]) -> str:
    """The table with its markers, and a line on where it was measured."""
    lines = [BEGIN, ""]
    for number, row in enumerate(words(table)):
        row |= {
            "task": f"[`{table[number]['task']}`](docs/tasks/{table[number]['task']}.md)"
            + row["task"][len(table[number]["task"]) :]
        }
        if not number:
            lines += ["| " + " | ".join(row) + " |", "|" + " --- |" * len(row)]
        lines.append("| " + " | ".join(row.values()) + " |")
    machines = sorted({row["machine"] for row in table})
    lines += ["", f"Measured on: {'; '.join(machines) or 'nothing yet'}.", "", END]
    return "\n".join(lines)


def write(path: Path, table: list[dict[str, Any]]) -> None:
    """Put the table between the markers of a Markdown file."""
    run.write_text(path, _replaced(path, table))


def check(path: Path, table: list[dict[str, Any]]) -> None:
    """Raise ValueError when the table in the file is not the one the results give."""
    if path.read_text() != _replaced(path, table):
        raise ValueError(f"the scoreboard in {path} is stale: decathlon scoreboard --write {path}")


def _replaced(path: Path, table: list[dict[str, Any]]) -> str:
    text = path.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(f"{path} has no place for the scoreboard: put the lines {BEGIN} and {END} where it goes")
    return text[: text.index(BEGIN)] + markdown(table) + text[text.index(END) + len(END) :]
