"""The page of `decathlon all`: a card per task, with its most telling plot, curve, result, and links that exist."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import spoiled
from conftest import ROOT, Command
from PIL import Image

from decathlon.reporting import cards
from decathlon.runs.folder import read_json
from decathlon.tasks.base import get_task, task_ids

EVIL = '"><script>alert(1)</script>'


def make_run(folder: Path, plots: tuple[str, ...] = ("curves",), **changes: Any) -> dict[str, Any]:
    """A run folder with blank plots; returns its summary."""
    summary = spoiled.SUMMARY | changes
    (folder / "plots").mkdir(parents=True)
    for name in plots:
        Image.new("RGB", (4, 3)).save(folder / "plots" / f"{name}.png")
    lines = [{"epoch": n, "validation": {summary["metric"]: value}} for n, value in enumerate((0.2, 0.9, 0.8), 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return summary | {"folder": str(folder)}


def write(results: list[dict[str, Any]], failures: dict[str, str] | None = None) -> str:
    return cards.write(Path("runs/index.html"), results, failures or {}, "all tasks on sample data").read_text()


def test_every_task_has_a_card() -> None:
    results = []
    for name in task_ids():
        spec = get_task(name).SPEC
        folder = Path("runs", name, "a #1 run")
        results.append(make_run(folder, task=name, metric=spec.metric, bar=spec.bar, passed=spec.bar and True))
        (folder / "report.html").touch()
    page = write(results)
    assert re.findall(r'<section class="card" id="([\w-]+)">', page) == task_ids()
    assert page.count("<polyline") == page.count("data:image/png;base64,") == len(task_ids())
    assert page.count(": cleared</p>") == 8
    assert "10 of 10 trained, 8 of 8 bars cleared" in page
    assert "only show that everything works" in page
    links = re.findall(r'href="([^"]+)"', page)
    assert len(links) == 2 * len(task_ids()), "a report and a docs page"
    assert all(Path("runs", unquote(link)).exists() for link in links)
    assert not re.search(r"<script|<link|@import|@font-face|(?:src|href)=\"(?:https?:)?//|url\(", page)


@pytest.mark.parametrize(
    ("plots", "best"),
    [
        (("curves", "confusion", "mistakes"), "Mistakes on the validation split"),
        (("curves", "confusion", "mistakes", "reconstructions", "codes"), "Inputs and reconstructions"),
        (("curves", "overlays", "worst"), "Predicted and true outlines"),
        (("curves", "precision", "boxes"), "Predicted and true boxes"),
        (("curves", "confusion", "embeddings"), "Text embeddings, projected onto a plane"),
        (("curves",), "Training and validation curves"),
    ],
)
def test_the_most_telling_plot_is_shown(plots: tuple[str, ...], best: str) -> None:
    page = write([make_run(Path("runs/a"), plots)])
    assert re.findall(r'<img alt="mnist-mlp: ([^"]+)"', page) == [best]


def test_decisive_words_are_marked() -> None:
    summary = make_run(Path("runs/a"), ("curves", "confusion"), data="imdb")
    texts = [{"title": f"{EVIL} {n}", "parts": [["dull", 0.9], [EVIL, 0.1], ["film", -0.5]]} for n in range(3)]
    Path("runs/a/plots/texts.json").write_text(json.dumps(texts))
    page = write([summary])
    assert page.count("<mark>") == page.count("<mark>dull</mark>") == cards.MAX_TEXTS
    assert "<img" not in page
    assert "<script>" not in page


def test_a_network_without_mistakes_shows_reviews_of_the_sample(decathlon: Command) -> None:
    done = decathlon("train", "imdb-textcnn", "--data", "sample", "--epochs", "1", "--out", "run")
    assert done.status == 0, done.err
    Path("run/plots/texts.json").write_text("[]")
    page = write([read_json(Path("run/summary.json")) | {"folder": "run"}])
    assert len(re.findall(r"<b>(?:neg|pos) \(\d+ %\)</b>", page)) == cards.MAX_TEXTS
    assert page.count("<mark>") >= cards.MAX_TEXTS


def test_a_run_without_plots_and_curve_has_a_card() -> None:
    summary = make_run(Path("runs/a"), ())
    Path("runs/a/metrics.jsonl").write_text('{"epoch": 1, "validation": {"accuracy": NaN}}\n')
    page = write([summary])
    assert "<img" not in page
    assert "<polyline" not in page
    assert "90.00 %" in page
    shutil.rmtree("runs/a")
    assert "90.00 %" in write([summary])


def test_the_curve_is_to_scale() -> None:
    history = [{"epoch": n, "validation": {"accuracy": value}} for n, value in ((1, 0.0), (2, 0.5), (5, 1.0))]
    curve = cards._curve(history, "accuracy", 0.5)
    assert curve is not None
    points = [tuple(map(float, pair.split(","))) for pair in curve["points"].split()]
    assert [x for x, _ in points] == [0, cards.PLOT_WIDTH / 4, cards.PLOT_WIDTH]
    assert points[1][1] == curve["bar"] == cards.PLOT_HEIGHT / 2
    assert points[0][1] > points[1][1] > points[2][1] > 0
    level = cards._curve([{"epoch": n, "validation": {"accuracy": 0.5}} for n in (1, 2)], "accuracy", None)
    assert level is not None
    assert level["bar"] is None


def test_failures_and_violations_are_shown_and_names_are_text() -> None:
    evil = dict.fromkeys(("data", "metric", "encoder"), EVIL)
    summary = make_run(Path("runs/a"), passed=True, violations=[EVIL], **evil)
    page = write([summary], {"mnist-cnn": f"no file {EVIL}"})
    assert "<script>" not in page
    assert page.count("The result does not count") == 1
    assert "cleared</p>" not in page
    assert "1 of 2 trained, 0 of 1 bars cleared" in page
    assert '<span class="value no">failed</span>' in page
    assert "no file" in page


def test_docs_are_linked_only_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ROOT / "docs" / "tasks" == cards.DOCS
    monkeypatch.setattr(cards, "DOCS", Path("nowhere"))
    assert ">docs</a>" not in write([make_run(Path("runs/a"))])
