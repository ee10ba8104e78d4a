"""The page that `decathlon all` ends with: each task as a card with a plot, its curve, its result and links."""

from __future__ import annotations

import base64
import json
import math
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from decathlon.data.io import atomic
from decathlon.data.synthetic import reviews
from decathlon.evaluation.predictions import TextClassification
from decathlon.reporting import html
from decathlon.runs.folder import read_lines
from decathlon.runs.load import load_run
from decathlon.tasks.base import get_task

# Plots by file name, the most telling first: a card shows the first that the run has.
PLOTS = (
    *("boxes", "overlays", "reconstructions", "texts", "attention", "embeddings"),
    *("mistakes", "filters", "confusion", "curves"),
)
GRIDS = ("boxes", "overlays", "reconstructions", "attention", "mistakes")  # many small images: a card shows the first
MAX_TEXTS = 2  # on a card
CAPTIONS = html.TITLES | {"texts": "Reviews, with the words that decide"}
DOCS = Path(__file__).resolve().parents[3] / "docs" / "tasks"  # in a checkout; an installed package has none
PLOT_WIDTH, PLOT_HEIGHT = 300, 90  # of a curve, in its own units


def write(path: Path, results: Sequence[dict[str, Any]], failures: dict[str, str], title: str) -> Path:
    """Write the page.

    Args:
        path: The HTML file.
        results: Summaries of finished runs, with their `folder`.
        failures: Tasks that failed, each with its error.
        title: What was trained on what.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    page = html.PAGES.get_template("cards.html").render(
        title=title,
        cards=[_card(result, path.parent) for result in results],
        failures=failures,
        bars=sum(result["bar"] is not None for result in results),
        cleared=sum(bool(result["passed"]) and not result["violations"] for result in results),
        sample=any(result["data"].endswith("-sample") for result in results),
        width=PLOT_WIDTH,
        height=PLOT_HEIGHT,
    )
    return atomic.write_text(path, page)


def _card(summary: dict[str, Any], start: Path) -> dict[str, Any]:
    """What the template needs of a run; links are relative to `start`."""
    folder, task = Path(summary["folder"]), summary["task"]
    history = read_lines(folder / "metrics.jsonl")
    docs = DOCS / f"{task}.md"
    return {
        "summary": summary,
        "network": get_task(task).SPEC.network,
        "plot": _plot(folder, summary),
        "curve": _curve(history, summary["metric"], summary["bar"]),
        "report": _link(folder / "report.html", start),
        "docs": _link(docs, start) if docs.exists() else None,
    }


def _link(target: Path, start: Path) -> str:
    """The relative URL of a file."""
    return quote(os.path.relpath(target.resolve(), start.resolve()).replace(os.sep, "/"))


def _plot(folder: Path, summary: dict[str, Any]) -> dict[str, Any] | None:
    """The run's most telling plot: an image, or texts with their attributions."""
    for name in PLOTS:
        image = folder / "plots" / f"{name}.png"
        plot = {"name": name, "title": CAPTIONS[name], "is_grid": name in GRIDS}
        if name == "texts" and (texts := _texts(folder, summary)):
            return plot | {"texts": texts}
        if image.exists():
            return plot | {"data": base64.b64encode(image.read_bytes()).decode()}
    return None


def _texts(folder: Path, summary: dict[str, Any]) -> list[dict[str, Any]]:
    """The most confident mistakes; of a network that makes none on the sample, predictions for two of its reviews."""
    path = folder / "plots" / "texts.json"
    if not path.exists():
        return []
    mistakes = json.loads(path.read_text())
    if mistakes or not summary["data"].endswith("-sample"):
        return mistakes[:MAX_TEXTS]
    run, draw = load_run(folder), random.Random(0)
    texts = [reviews.compose(draw, number % 2 == 0) for number in range(MAX_TEXTS)]
    predictions = run.task.predict(run.model, texts, run.recipe, run.info)
    return [
        {"title": f"{item.label} ({100 * item.probabilities[item.label]:.0f} %)", "parts": item.attributions}
        for item in predictions
        if isinstance(item, TextClassification)
    ]


def _curve(history: list[dict[str, Any]], metric: str, bar: float | None) -> dict[str, Any] | None:
    """The validation metric by epoch, and the bar, scaled to the plot; None with fewer than two points."""
    points = [(line["epoch"], line["validation"][metric]) for line in history]
    points = [(epoch, value) for epoch, value in points if math.isfinite(value)]
    if len(points) < 2:
        return None
    values = [value for _, value in points] + ([] if bar is None else [bar])
    low, high = min(values), max(values)
    margin = (high - low or 0.01) * 0.08
    first, last = points[0][0], points[-1][0]

    def height(value: float) -> float:
        return round(PLOT_HEIGHT * (high + margin - value) / (high - low + 2 * margin), 1)

    return {
        "points": " ".join(
            f"{PLOT_WIDTH * (epoch - first) / (last - first):.1f},{height(value)}" for epoch, value in points
        ),
        "bar": None if bar is None else height(bar),
        "start": points[0][1],
        "best": max(value for _, value in points),
        "first": first,
        "last": last,
    }
