"""Printing results: as text for people or as JSON for programs."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from decathlon.messages import pluralize, printable

MAX_TEXT_CHARS = 80  # of a text, as the title of its prediction

_stdout: TextIO | None = None  # with --json, the output that only the result is written to; None: sys.stdout


def print_text(text: object = "", end: str = "\n") -> None:
    """Print a text with its escape sequences made visible."""
    print(printable(text), end=end)


def format_json(value: Any) -> str:
    r"""Format as JSON, with characters escaped, as \u001b, that are unprintable or unknown to the output's encoding."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(getattr(_stdout or sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value)
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


@contextlib.contextmanager
def stdout_for_result(as_json: bool) -> Iterator[None]:
    """With --json, send to stderr what others print, such as a user's network: only the result may be on stdout."""
    global _stdout
    _stdout = sys.stdout if as_json else None
    try:
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            yield
    finally:
        _stdout = None


def print_output(value: Any, as_json: bool, print_for_people: Callable[[], None]) -> None:
    """Print a result as JSON, or call what prints it for people."""
    if as_json:
        print(format_json(value), file=_stdout)
    else:
        print_for_people()


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print rows as a table, a column a key."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0] if rows else ():
        grid.add_column(Text(printable(name)))
    for row in rows:
        grid.add_row(*(Text(printable(value)) for value in row.values()))  # in a str, rich would read [x] as markup
    Console(width=None if sys.stdout.isatty() else 200).print(grid)


def print_result(result: dict[str, Any]) -> None:
    """Print the result against the bar, the other metrics, and the files of the run."""
    verdict = ""
    if result["bar"] is not None and not result["violations"]:
        verdict = f", bar {100 * result['bar']:g} %: {'cleared' if result['passed'] else 'missed'}"
    if result["data"].endswith("-sample"):
        verdict += " (sample data, not a benchmark)"
    name = f"{result['task']} with {result['encoder']}" if result.get("encoder") else result["task"]
    print_text(f"{name} on {result['data']}: test {result['metric']} {100 * result['value']:.2f} %{verdict}")
    others = {name: value for name, value in result["metrics"].items() if name != result["metric"]}
    print_text(f"  {', '.join(f'{name} {value:.4g}' for name, value in others.items())}", end="")
    to_bar = result["seconds_to_bar"]
    reached = "" if to_bar is None else f", the bar reached on validation after {to_bar:.1f} s"
    print_text(f"; trained for {result['train_seconds']:.1f} s{reached}")
    for violation in result["violations"]:
        print_text(f"  does not count: {violation}")
    if "folder" in result:
        print_text(f"  {result['folder']}/summary.json, model.safetensors, report.html, plots/")


def print_export(result: dict[str, Any]) -> None:
    """Print the exported files, their difference from PyTorch, and the latency of both."""
    for file, size in zip(result["files"], result["bytes"], strict=True):
        print(f"{file}: {size / 1e6:.1f} MB")
    source = f"{result['input']['name']} {result['input']['shape']}"
    print(f"  {source} -> {', '.join(f'{name} {shape}' for name, shape in result['outputs'].items())}")
    difference = f"largest difference from PyTorch {result['max_difference']:.1e} (tolerance {result['tolerance']:.0e})"
    print(f"  checked on {result['checked_on']}: {difference}, the same predictions")
    if "boxes" in result["outputs"]:
        side = result["input"]["shape"][-1]
        print(f"  both on a square of {side}×{side}; predict without --onnx pads less, and may show other objects")
    latency = f"onnxruntime {result['onnxruntime_ms']:.2f} ms, PyTorch {result['pytorch_ms']:.2f} ms"
    print(f"  one input, {pluralize(result['threads'], 'thread')}, median latency: {latency}")


def print_predictions(predictions: list[dict[str, Any]], are_texts: bool = False) -> None:
    """Print predictions as `Prediction.to_dict` gives them: labels, probabilities with bars, objects, words.

    Args:
        predictions: The predictions.
        are_texts: Whether their inputs are texts, of which the beginning is printed, and not names.
    """
    for prediction in predictions:
        name = prediction["input"][: MAX_TEXT_CHARS if are_texts else None]
        print_text(f"{name}: {prediction['label']}")
        for note in prediction.get("notes", ()):
            print_text(f"  ({note})")
        for name, probability in list(prediction.get("probabilities", {}).items())[:10]:
            print_text(f"  {name:>12} {100 * probability:6.2f} % {'█' * round(30 * probability)}")
        for item in prediction.get("objects", ()):
            left, top, right, bottom = (round(value) for value in item["box"])
            print_text(f"  {item['class']:>12} {100 * item['score']:6.2f} %  from {left}, {top} to {right}, {bottom}")
        if "attributions" in prediction:
            print(f"  {highlight(prediction['attributions'])}")
        for name, value in prediction.items():
            if name not in ("input", "label", "notes", "probabilities", "objects", "size", "attributions"):
                print_text(f"  {name}: {', '.join(map(str, value)) if name == 'files' else value}")


def highlight(attributions: list[tuple[str, float]]) -> str:
    """Join words into a text, those with large attributions in colour on a terminal, else in *asterisks*."""
    threshold = max(max((weight for _, weight in attributions), default=0.0) / 4, 1e-6)
    before, after = ("\033[1;33m", "\033[0m") if sys.stdout.isatty() else ("*", "*")
    words = [(printable(word), weight) for word, weight in attributions]
    return " ".join(f"{before}{word}{after}" if weight >= threshold else word for word, weight in words)
