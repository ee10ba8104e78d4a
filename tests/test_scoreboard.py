"""The scoreboard says what the summaries prove, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Command

from decathlon.recipe import get_task, task_ids
from decathlon.scoreboard import BEGIN, END, read, rows, words


def summary(seed: int, value: float, **changes: Any) -> dict[str, Any]:
    return {
        "task": "mnist-mlp",
        "data": "mnist",
        "metric": "accuracy",
        "value": value,
        "bar": 0.98,
        "seed": seed,
        "overrides": {},
        "model": None,
        "counts": True,
        "train_seconds": 10.0,
        "seconds_to_bar": 2.0,
        "parameters": 407050,
        "hardware": "a laptop",
        "threads": 2,
    } | changes


def test_mean_and_deviation() -> None:
    (row,) = rows([summary(0, 0.98), summary(1, 0.99), summary(2, 1.0)])
    assert row["value"] == pytest.approx(0.99)
    assert row["deviation"] == pytest.approx(0.01)
    assert (row["n"], row["passed"]) == (3, True)
    assert words([row])[0]["test"] == "99.00 % ± 1.00 (n = 3)"


def test_one_seed_below_the_bar_is_a_miss() -> None:
    (row,) = rows([summary(0, 0.979), summary(1, 0.999)])
    assert row["passed"] is False


def test_a_single_run_has_no_deviation() -> None:
    (row,) = rows([summary(0, 0.99)])
    assert row["deviation"] is None
    assert "±" not in words([row])[0]["test"]


def test_what_differs_is_not_mixed() -> None:
    table = rows(
        [
            summary(0, 0.99),
            summary(0, 0.98, data="mnist-sample"),
            summary(0, 0.97, overrides={"hidden": 32}),
            summary(0, 0.96, hardware="a GPU"),
            summary(0, 0.95, task="mnist-cnn"),
        ]
    )
    assert [row["n"] for row in table] == [1] * 5
    assert [row["task"] for row in table] == ["mnist-mlp"] * 4 + ["mnist-cnn"]
    assert any("hidden 32" in row["task"] for row in words(table))


def test_a_run_until_the_bar_is_a_row_of_its_own() -> None:
    table = rows([summary(0, 0.99), summary(1, 0.981, until_bar=True), summary(2, 0.98, threads=4)])
    assert [row["n"] for row in table] == [1, 1, 1]
    assert any("until the bar" in row["task"] for row in words(table))


def test_a_broken_rule_is_not_a_clearance(decathlon: Command) -> None:
    broken = summary(0, 0.99, model="net.py:net", broken_rules=["it has 3 layers"], counts=False)
    (row,) = rows([broken])
    assert words([row])[0][""] == "breaks the rules"
    assert "net.py:net" in words([row])[0]["task"]
    folder = Path("results/mnist-mlp")
    folder.mkdir(parents=True)
    (folder / "seed0.json").write_text(json.dumps(broken))
    assert decathlon("scoreboard", "--html", "page.html").status == 0
    assert "breaks the rules" in Path("page.html").read_text()
    assert "cleared" not in Path("page.html").read_text()


def test_the_fields_of_the_design_are_enough() -> None:
    least = {k: v for k, v in summary(0, 0.99).items() if k not in ("overrides", "model", "counts", "hardware")}
    assert len(rows([least])) == 1


def test_the_same_seed_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="same seed"):
        rows([summary(0, 0.98), summary(0, 0.99)])


def test_written_checked_and_stale(decathlon: Command) -> None:
    folder = Path("results/mnist-mlp")
    folder.mkdir(parents=True)
    (folder / "seed0.json").write_text(json.dumps(summary(0, 0.99)))
    Path("README.md").write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    assert decathlon("scoreboard", "--check", "README.md").status == 1
    assert decathlon("scoreboard", "--write", "README.md", "--html", "page.html").status == 0
    assert decathlon("scoreboard", "--check", "README.md").status == 0
    text = Path("README.md").read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "99.00 %" in text
    assert "99.00 %" in Path("page.html").read_text()
    (folder / "seed1.json").write_text(json.dumps(summary(1, 0.97)))
    stale = decathlon("scoreboard", "--check", "README.md")
    assert stale.status == 1
    assert "stale" in stale.error


def test_bad_files_are_named(decathlon: Command) -> None:
    folder = Path("results/mnist-mlp")
    folder.mkdir(parents=True)
    (folder / "seed0.json").write_text("{}")
    assert "seed0.json is no run summary" in decathlon("scoreboard").error
    (folder / "seed0.json").write_text(json.dumps(summary(0, 0.99)))
    Path("README.md").write_text("no markers")
    assert "has no place for the scoreboard" in decathlon("scoreboard", "--write", "README.md").error


def test_committed_results_are_whole() -> None:
    for path in (ROOT / "results").glob("*/*.json"):
        found = json.loads(path.read_text())
        assert found["task"] == path.parent.name
        assert found["split"] == "test"
        assert found["commit"], path
        assert not found["commit"].endswith("+"), f"{path} was measured with changes that were not committed"
        assert found["value"] == found["metrics"][found["metric"]]


def test_the_page_links_each_task_to_its_docs(decathlon: Command, tmp_path: Path) -> None:
    answer = decathlon("scoreboard", "--results", ROOT / "results", "--html", "pages/board.html")
    assert answer.status == 0, answer.err
    links = re.findall(r'href="([^"]+)"', Path("pages/board.html").read_text())
    assert {Path(link).stem for link in links} == set(task_ids())
    assert all((tmp_path / "pages" / link).exists() for link in links)


MEASURED = [row for row in rows(read(ROOT / "results")) if row["n"] > 1]


@pytest.mark.parametrize("row", MEASURED, ids=[row["task"] for row in MEASURED])
def test_files_and_pages_give_the_committed_numbers(row: dict[str, Any]) -> None:
    """What the head of a task's file and its page say is what the summaries say: they are written by hand."""
    number = f"{100 * row['value']:.2f} ± {100 * row['deviation']:.2f} %"
    assert number in (get_task(row["task"]).__doc__ or "")
    assert number in (ROOT / f"docs/tasks/{row['task']}.md").read_text()
