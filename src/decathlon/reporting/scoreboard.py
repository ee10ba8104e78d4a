"""The scoreboard: every number in it comes from the committed run summaries."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from decathlon.data.io import atomic
from decathlon.messages import pluralize
from decathlon.runs import validate
from decathlon.runs.code_hash import code_hash
from decathlon.tasks.base import base_recipe, get_task, task_ids, tta_name
from decathlon.tasks.recipe import differences

WAIVERS = "waivers.txt"  # in the folder of the summaries
BEGIN, END = "<!-- scoreboard: written by `decathlon scoreboard --write` -->", "<!-- /scoreboard -->"


def timestamp() -> str:
    """The current time, for the names of folders."""
    return time.strftime("%Y%m%d-%H%M%S")


def read_summaries(folder: Path) -> list[dict[str, Any]]:
    """All summaries below a folder: `TASK/NAME.json`, or `TASK/RUN/summary.json` and `RUN/summary.json` as in `runs`.

    Of runs with the same recipe and seed the newest counts.

    Raises:
        FileNotFoundError: There is no such folder, or no summary in it.
        ValueError: A file is no run summary, or its numbers contradict each other.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: run this in the repository, or name one with --results")
    of_compare = ("compare.json", ".options.json")
    files = [path for path in sorted(folder.glob("*/*.json")) if not path.name.endswith(of_compare)]
    run_folders = {path.parent for path in files if path.name == "config.json"}
    summaries = [_read_summary(path) for path in files if path.parent not in run_folders]
    named = [path for path in files if path.name == "summary.json" and path.parent in run_folders]
    finished = [*folder.glob("*/*/summary.json"), *named]
    runs = sorted(finished, key=lambda path: path.stat().st_mtime)
    newest = {(*_row_key(summary), summary["seed"]): summary for summary in map(_read_summary, runs)}
    if not (summaries or newest):
        raise FileNotFoundError(f"there is no summary in {folder}: neither TASK/NAME.json nor TASK/RUN/summary.json")
    return [*summaries, *newest.values()]


def _read_summary(path: Path) -> dict[str, Any]:
    summary = validate.summary(path).to_dict()
    if error := contradiction(summary):
        raise ValueError(f"{path}: {error}")
    return summary


def contradiction(summary: dict[str, Any]) -> str | None:
    """Which numbers of a summary contradict each other or its task; a field that is missing does not."""
    bar, value, metric = summary["bar"], summary["value"], summary["metric"]
    bar_of_task = get_task(summary["task"]).SPEC.bar
    if summary["split"] != "test":
        return f"it was measured on the {summary['split']} split, not on the test split"
    if summary["metrics"].get(metric, value) != value:
        return f"its value is {value}, its {metric} {summary['metrics'][metric]}"
    if bar is not None and bar != bar_of_task:
        return f"its bar is {bar}, that of {summary['task']} {bar_of_task}"
    if bar is not None and summary["passed"] not in (None, value >= bar):
        return f"passed is {json.dumps(summary['passed'])}, its value {value}, its bar {bar}"
    return None


def aggregate(summaries: Iterable[dict[str, Any]], links: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """Average over the seeds: one row for each task, copy of the data, recipe and hardware.

    Raises:
        ValueError: Two summaries of a row have the same seed, so that a run would count twice.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for summary in summaries:
        groups.setdefault(_row_key(summary), []).append(summary)
    position = {name: number for number, name in enumerate(task_ids())}
    table = []
    for key, group in sorted(groups.items(), key=lambda item: (position.get(item[0][0], len(position)), item[0])):
        task_id, data, changed, machine, tta = key
        if len({summary["seed"] for summary in group}) < len(group):
            raise ValueError(f"two results of {task_id} on {data} have the same seed")
        values = [summary["value"] for summary in group]
        seconds_to_bar = [summary["seconds_to_bar"] for summary in group]
        bar = group[0]["bar"]
        preparation = statistics.mean(summary.get("preparation_seconds", 0.0) for summary in group)
        table.append(
            {
                "task": task_id,
                "data": data,
                "metric": group[0]["metric"],
                "tta": tta,
                "value": statistics.mean(values),
                "deviation": statistics.stdev(values) if len(values) > 1 else None,
                "n": len(values),
                "bar": bar,
                "passed": None if bar is None else min(values) >= bar,
                "train_seconds": statistics.mean(summary["train_seconds"] for summary in group),
                "preparation_seconds": preparation,
                "seconds_to_bar": None if None in seconds_to_bar else statistics.mean(seconds_to_bar),
                "parameters": group[0]["parameters"],
                "machine": machine,
                "violations": sorted({text for summary in group for text in summary.get("violations", [])}),
                "changes": changed,
                "code": sorted({summary.get("code") or "" for summary in group}),
                "link": (links or {}).get(task_id),
            }
        )
    return [row | {"verdict": verdict(row)} for row in table]


def _row_key(summary: dict[str, Any]) -> tuple[Any, ...]:
    """What the summaries of a row have in common."""
    task = get_task(summary["task"])
    tta = summary.get("tta") or tta_name(task, task.recipe())
    return summary["task"], summary["data"], changes(summary), _machine(summary), tta


def changes(summary: dict[str, Any]) -> str:
    """The recipe of a run unless it is `fast`, and what the run changed in it; its encoder and its own network, too."""
    encoder = summary.get("encoder")
    recipe, overrides = name_recipe(summary)
    parts = [recipe] if recipe == "best" else []
    parts += [f"encoder {encoder}"] if encoder else []
    parts += [f"{name} {value}" for name, value in sorted(overrides.items()) if not (encoder and name == "encoder")]
    parts += [f"network {summary['model']}"] if summary.get("model") else []
    parts += ["until the bar"] if summary.get("until_bar") else []
    return ", ".join(parts)


def name_recipe(summary: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name of a run's recipe, and the fields that the run changed in it.

    A run of the fast recipe whose flags made it the best one, as before recipes had names, counts as the best one.
    """
    recipe, overrides = summary.get("recipe") or "fast", summary.get("overrides", {})
    task = get_task(summary["task"])
    best = differences(base_recipe(task, "official", "best"), task.recipe())
    if best and recipe == "fast" and not summary["data"].endswith("-sample") and best.items() <= overrides.items():
        return "best", {name: value for name, value in overrides.items() if name not in best}
    return recipe, overrides


def _machine(summary: dict[str, Any]) -> str:
    processes = summary.get("devices", 1)
    threads = pluralize(summary.get("threads", 0), "thread") + (
        f" in each of {processes} processes" if processes > 1 else ""
    )
    return f"{summary.get('hardware') or summary.get('device', 'unknown')} ({threads})"


def read_waivers(folder: Path) -> dict[str, tuple[str, set[str]]]:
    """For a task the hash of its code now, and the hashes of the code that measured its rows, which stand nevertheless.

    Each line of waivers.txt holds a task, the first hash, the others joined by commas (`none` for summaries without a
    hash), and the reason.

    Raises:
        ValueError: A line is incomplete.
    """
    path, waivers = folder / WAIVERS, dict[str, tuple[str, set[str]]]()
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
        if line.strip() and not line.startswith("#"):
            if len(words := line.split(maxsplit=3)) < 4:
                raise ValueError(f"{path}, line {number}: it must hold a task, two hashes and the reason")
            task, now, measured, _ = words
            waivers[task] = now, {"" if code == "none" else code for code in measured.split(",")}
    return waivers


def mark_changed_code(table: list[dict[str, Any]], waivers: dict[str, tuple[str, set[str]]]) -> list[dict[str, Any]]:
    """The rows with `code_state`: `current`, `waived`, or `changed` since they were measured."""
    now = {task: code_hash(task) for task in {row["task"] for row in table}}

    def state(row: dict[str, Any]) -> str:
        earlier = set(row["code"]) - {now[row["task"]]}
        if not earlier:
            return "current"
        waived_for, waived = waivers.get(row["task"], ("", set[str]()))
        return "waived" if waived_for == now[row["task"]] and earlier <= waived else "changed"

    return [row | {"code_state": state(row)} for row in table]


def verdict(row: dict[str, Any]) -> str:
    """`cleared`, `missed`, `another network`, or nothing where there is no bar."""
    if row["violations"]:
        return "another network"
    return {True: "cleared", False: "missed", None: ""}[row["passed"]]


def format_rows(table: Iterable[dict[str, Any]]) -> list[dict[str, str]]:
    """Format the rows for people, a column a key."""
    return [
        {
            "task": row["task"] + (f" ({row['changes']})" if row["changes"] else ""),
            "data": row["data"],
            "metric": row["metric"],
            "test": f"{100 * row['value']:.2f} %"
            + (f" ± {100 * row['deviation']:.2f} (n = {row['n']})" if row["n"] > 1 else "")
            + (" †" if row.get("code_state") == "changed" else ""),
            "TTA": row["tta"],
            "bar": "–" if row["bar"] is None else f"{100 * row['bar']:g} %",
            "": row["verdict"],
            "training": f"{row['preparation_seconds'] + row['train_seconds']:.0f} s",
            "to the bar": "–"
            if row["seconds_to_bar"] is None
            else f"{row['preparation_seconds'] + row['seconds_to_bar']:.0f} s",
            "parameters": f"{row['parameters']:,}",
        }
        for row in table
    ]


def markdown(table: list[dict[str, Any]]) -> str:
    """The table in Markdown between its markers, and a line on the hardware."""
    lines = [BEGIN, ""]
    for number, row in enumerate(format_rows(table)):
        row |= {
            "task": f"[`{table[number]['task']}`](docs/tasks/{table[number]['task']}.md)"
            + row["task"][len(table[number]["task"]) :]
        }
        if not number:
            lines += ["| " + " | ".join(row) + " |", "|" + " --- |" * len(row)]
        lines.append("| " + " | ".join(row.values()) + " |")
    machines = sorted({row["machine"] for row in table})
    lines += ["", f"Measured on: {'; '.join(machines) or 'nothing yet'}."]
    states = [row.get("code_state") for row in table]
    if "changed" in states:
        lines.append("† The code has changed since this was measured.")
    if waived := states.count("waived"):
        which = "All rows" if waived == len(table) else f"{waived} of {len(table)} rows"
        lines.append(f"{which} were measured by earlier code; why they stand: [waivers](results/{WAIVERS}).")
    lines += ["", END]
    return "\n".join(lines)


def write(path: Path, table: list[dict[str, Any]]) -> None:
    """Write the table between the markers of a Markdown file."""
    atomic.write_text(path, _replace_table(path, table))


def check(path: Path, table: list[dict[str, Any]]) -> None:
    """Raise ValueError if code has changed since a row was measured, or the table in the file is not up to date."""
    if changed := {row["task"] for row in table if row.get("code_state") == "changed"}:
        lines = list[str]()
        for task in sorted(changed):
            now, codes = code_hash(task), {code for row in table if row["task"] == task for code in row["code"]}
            lines.append(f"{task} {now} {','.join(sorted(code or 'none' for code in codes - {now}))} REASON")
        raise ValueError(
            f"the code of these tasks has changed since they were measured: measure them again, or say in {WAIVERS}, "
            f"beside their results, why their numbers stand: {'; '.join(lines)}"
        )
    if path.read_text() != _replace_table(path, table):
        raise ValueError(f"the scoreboard in {path} is stale: decathlon scoreboard --write {path}")


def _replace_table(path: Path, table: list[dict[str, Any]]) -> str:
    """The file's text with the table between its markers replaced."""
    text = path.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(f"{path} has no markers for the scoreboard: put the lines {BEGIN} and {END} where it belongs")
    return text[: text.index(BEGIN)] + markdown(table) + text[text.index(END) + len(END) :]
