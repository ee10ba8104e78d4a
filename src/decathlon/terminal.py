"""What the commands print: results for people, or the same as JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def shown(text: object) -> str:
    r"""A text of whatever origin as it may go to a terminal: what is not for reading is written out, as \x1b."""
    return "".join(c if c.isprintable() or c in "\u00a0\u202f" else repr(c)[1:-1] for c in str(text))


def counted(number: int, what: str) -> str:
    """`1 thread`, `2 threads`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds in words a person would use."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def tell(text: object = "", end: str = "\n") -> None:
    """Print a line for people."""
    print(shown(text), end=end)


def as_json(value: Any) -> str:
    r"""JSON in which what is not for reading is written out, as \u001b."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def show(value: Any, for_programs: bool, words: Callable[[], None]) -> None:
    """Print a result, for programs or for people."""
    if for_programs:
        print(as_json(value))
    else:
        words()


def table(rows: list[dict[str, Any]]) -> None:
    """Print rows of text, a column a key."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0] if rows else ():
        grid.add_column(Text(shown(name)))
    for row in rows:
        grid.add_row(*(Text(shown(value)) for value in row.values()))  # no str: rich takes [x] in it for markup
    Console(width=None if sys.stdout.isatty() else 200).print(grid)


def print_result(result: dict[str, Any]) -> None:
    """The number against the bar, and where everything lies."""
    verdict = ""
    if result["bar"] is not None:
        verdict = f", bar {100 * result['bar']:g} %: {'cleared' if result['passed'] else 'missed'}"
    if result["data"].endswith("-sample"):
        verdict += " (sample data: no benchmark)"
    name = f"{result['task']} with {result['encoder']}" if result.get("encoder") else result["task"]
    tell(f"{name} on {result['data']}: test {result['metric']} {100 * result['value']:.2f} %{verdict}")
    others = {name: value for name, value in result["metrics"].items() if name != result["metric"]}
    tell(f"  {', '.join(f'{name} {value:.4g}' for name, value in others.items())}", end="")
    bar = result["seconds_to_bar"]
    tell(f"; {result['train_seconds']:.1f} s of training{'' if bar is None else f', the bar after {bar:.1f} s'}")
    for rule in result["broken_rules"]:
        tell(f"  does not count: {rule}")
    if "folder" in result:
        tell(f"  {result['folder']}/summary.json, model.safetensors, report.html, plots/")


def print_export(result: dict[str, Any]) -> None:
    """The files, how far they are from PyTorch, and how long both take."""
    for file, size in zip(result["files"], result["bytes"], strict=True):
        print(f"{file}: {size / 1e6:.1f} MB")
    given = f"{result['input']['name']} {result['input']['shape']}"
    print(f"  {given} -> {', '.join(f'{name} {shape}' for name, shape in result['outputs'].items())}")
    apart = f"largest difference from PyTorch {result['max_difference']:.1e} (tolerance {result['tolerance']:.0e})"
    print(f"  checked on {result['checked_on']}: {apart}, the same answers")
    times = f"onnxruntime {result['onnxruntime_ms']:.2f} ms, PyTorch {result['pytorch_ms']:.2f} ms"
    print(f"  one input, {counted(result['threads'], 'thread')}, median: {times}")


def print_answers(answers: list[dict[str, Any]]) -> None:
    """An answer an input: what it is, and the classes with a bar each."""
    for answer in answers:
        tell(f"{answer['input']}: {answer['label']}")
        for note in answer.get("notes", ()):
            tell(f"  ({note})")
        for name, probability in list(answer.get("probabilities", {}).items())[:10]:
            tell(f"  {name:>12} {100 * probability:6.2f} % {'█' * round(30 * probability)}")
        for one in answer.get("objects", ()):
            left, top, right, bottom = (round(value) for value in one["box"])
            tell(f"  {one['class']:>12} {100 * one['score']:6.2f} %  from {left}, {top} to {right}, {bottom}")
        if "because" in answer:
            print(f"  {highlighted(answer['because'])}")
        for name, value in answer.items():
            if name not in ("input", "label", "notes", "probabilities", "objects", "because"):
                tell(f"  {name}: {value}")


def highlighted(parts: list[tuple[str, float]]) -> str:
    """A text whose deciding words stand out: in colour on a terminal, else in *stars*."""
    strong = max(max((weight for _, weight in parts), default=0.0) / 4, 1e-6)
    before, after = ("\033[1;33m", "\033[0m") if sys.stdout.isatty() else ("*", "*")
    words = [(shown(word), weight) for word, weight in parts]
    return " ".join(f"{before}{word}{after}" if weight >= strong else word for word, weight in words)
