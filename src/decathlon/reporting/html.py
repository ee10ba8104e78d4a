"""Self-contained HTML pages: images are embedded, and no script, font or other file is loaded."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, TemplateError, select_autoescape

from decathlon.data.io import atomic
from decathlon.runs.folder import read_json, read_lines

PAGES = Environment(
    loader=PackageLoader("decathlon", "reporting/templates"),
    autoescape=select_autoescape(),
    trim_blocks=True,
    lstrip_blocks=True,
)
TITLES = {  # of plots, by file name, in the order of the report
    "curves": "Training and validation curves",
    "confusion": "Confusion matrix",
    "mistakes": "Mistakes on the validation split",
    "filters": "Filters of the first layer",
    "attention": "Class activation maps",
    "overlays": "Predicted and true outlines",
    "worst": "Masks with the lowest IoU",
    "certainty": "Predicted probabilities",
    "reconstructions": "Inputs and reconstructions",
    "codes": "Latent codes, projected onto a plane",
    "neighbours": "Nearest neighbours of tokens",
    "embeddings": "Text embeddings, projected onto a plane",
    "boxes": "Predicted and true boxes",
    "precision": "Precision-recall curve",
    "classes": "Average precision by class",
}


@contextmanager
def naming_damaged_run(folder: Path) -> Iterator[None]:
    """Raise ValueError, naming the run folder, where its files hold values that a page or table cannot show."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ArithmeticError, TemplateError, UnicodeEncodeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{folder} is damaged: its files do not hold what a training writes ({reason[:200]})"
        ) from None


def percent(value: float | None) -> str:
    """Format a fraction as per cent with two decimals; None as a dash."""
    return "–" if value is None else f"{100 * value:.2f} %"


PAGES.filters["percent"] = percent


def write(folder: Path, summary: dict[str, Any]) -> Path:
    """Write report.html of a run folder."""
    images = [
        {"title": TITLES.get(path.stem, path.stem), "data": base64.b64encode(path.read_bytes()).decode()}
        for path in sorted((folder / "plots").glob("*.png"), key=_position)
    ]
    texts = folder / "plots" / "texts.json"
    page = PAGES.get_template("run.html").render(
        texts=json.loads(texts.read_text()) if texts.exists() else [],
        summary=summary,
        images=images,
        recipe=read_json(folder / "config.json")["recipe"],
        environment=read_json(folder / "environment.json"),
        lines=read_lines(folder / "metrics.jsonl"),
    )
    return atomic.write_text(folder / "report.html", page)


def overview(path: Path, rows: list[dict[str, Any]], title: str) -> Path:
    """Write a page with a table of results, each with a link to its report where it has one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    page = PAGES.get_template("overview.html").render(
        rows=rows, title=title, sample=any(row["data"].endswith("-sample") for row in rows)
    )
    return atomic.write_text(path, page)


def _position(path: Path) -> tuple[int, str]:
    """The sort key of a plot: its position in TITLES; others follow by name."""
    names = list(TITLES)
    return (names.index(path.stem) if path.stem in names else len(names), path.stem)
