"""HTML pages that need nothing but themselves: no script, no font, no file from elsewhere."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape

from decathlon import run

PAGES = Environment(
    loader=PackageLoader("decathlon"), autoescape=select_autoescape(), trim_blocks=True, lstrip_blocks=True
)
TITLES = {
    "curves": "Curves",
    "confusion": "Which class was taken for which",
    "mistakes": "The most confident mistakes",
    "filters": "What the first layer looks for",
    "attention": "Where it looks",
    "overlays": "True and found outlines",
    "worst": "The worst masks",
    "certainty": "How sure it is",
    "reconstructions": "Originals and reconstructions",
    "codes": "The codes on a plane",
    "neighbours": "Which pieces of words it takes for alike",
    "vectors": "The encoder's vectors on a plane",
    "boxes": "What it finds, and what is there",
    "precision": "How many of the found are right, by how many are found",
    "classes": "How well it finds each class",
}


def percent(value: float | None) -> str:
    """A fraction as per cent with two digits; a dash for None."""
    return "–" if value is None else f"{100 * value:.2f} %"


PAGES.filters["percent"] = percent


def write(folder: Path, summary: dict[str, Any]) -> Path:
    """Write report.html of a run folder."""
    pictures = [
        {"title": TITLES.get(path.stem, path.stem), "data": base64.b64encode(path.read_bytes()).decode()}
        for path in sorted((folder / "plots").glob("*.png"), key=_place)
    ]
    texts = folder / "plots" / "texts.json"
    page = PAGES.get_template("run.html").render(
        texts=json.loads(texts.read_text()) if texts.exists() else [],
        summary=summary,
        pictures=pictures,
        recipe=run.read_json(folder / "config.json")["recipe"],
        environment=run.read_json(folder / "environment.json"),
        lines=run.read_lines(folder / "metrics.jsonl"),
    )
    return run.write_text(folder / "report.html", page)


def overview(path: Path, rows: list[dict[str, Any]], title: str) -> Path:
    """Write the page that lists results, each with a link to its report where it has one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    page = PAGES.get_template("overview.html").render(
        rows=rows, title=title, sample=any(r["data"].endswith("-sample") for r in rows)
    )
    return run.write_text(path, page)


def _place(path: Path) -> tuple[int, str]:
    names = list(TITLES)
    return (names.index(path.stem) if path.stem in names else len(names), path.stem)
