"""The scoreboard says what the summaries prove, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Command

from decathlon.reporting.scoreboard import BEGIN, END, aggregate, format_rows, read_summaries
from decathlon.runs.code_hash import code_hash
from decathlon.tasks.base import get_task, task_ids


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
    (row,) = aggregate([summary(0, 0.98), summary(1, 0.99), summary(2, 1.0)])
    assert row["value"] == pytest.approx(0.99)
    assert row["deviation"] == pytest.approx(0.01)
    assert (row["n"], row["passed"]) == (3, True)
    assert format_rows([row])[0]["test"] == "99.00 % ± 1.00 (n = 3)"


def test_time_counts_what_comes_before_the_training() -> None:
    """Embeddings, word2vec and teachers are cached, so that a second run does not wait for them; their time counts."""
    (row,) = aggregate([summary(0, 0.99, preparation_seconds=60.0), summary(1, 0.99, preparation_seconds=80.0)])
    assert format_rows([row])[0]["training"] == "80 s"
    assert format_rows([row])[0]["to the bar"] == "72 s"


def test_one_seed_below_the_bar_is_a_miss() -> None:
    (row,) = aggregate([summary(0, 0.979), summary(1, 0.999)])
    assert row["passed"] is False


def test_a_single_run_has_no_deviation() -> None:
    (row,) = aggregate([summary(0, 0.99)])
    assert row["deviation"] is None
    assert "±" not in format_rows([row])[0]["test"]


def test_what_differs_is_not_mixed() -> None:
    table = aggregate(
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
    assert any("hidden 32" in row["task"] for row in format_rows(table))


def test_a_run_until_the_bar_is_a_row_of_its_own() -> None:
    table = aggregate([summary(0, 0.99), summary(1, 0.981, until_bar=True), summary(2, 0.98, threads=4)])
    assert [row["n"] for row in table] == [1, 1, 1]
    assert any("until the bar" in row["task"] for row in format_rows(table))


def test_an_architecture_violation_does_not_clear_the_bar(decathlon: Command) -> None:
    broken = summary(0, 0.99, model="net.py:net", violations=["it has 3 layers"], counts=False)
    (row,) = aggregate([broken])
    assert format_rows([row])[0][""] == "another network"
    assert "net.py:net" in format_rows([row])[0]["task"]
    folder = Path("results/mnist-mlp")
    folder.mkdir(parents=True)
    (folder / "seed0.json").write_text(json.dumps(broken))
    assert decathlon("scoreboard", "--html", "page.html").status == 0
    assert "another network" in Path("page.html").read_text()
    assert "cleared" not in Path("page.html").read_text()


def test_the_fields_of_the_design_are_enough() -> None:
    least = {k: v for k, v in summary(0, 0.99).items() if k not in ("overrides", "model", "counts", "hardware")}
    assert len(aggregate([least])) == 1


def test_the_same_seed_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="same seed"):
        aggregate([summary(0, 0.98), summary(0, 0.99)])


def test_written_checked_and_stale(decathlon: Command) -> None:
    folder = Path("results/mnist-mlp")
    folder.mkdir(parents=True)
    (folder / "seed0.json").write_text(json.dumps(summary(0, 0.99, code=code_hash("mnist-mlp"))))
    Path("README.md").write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    assert decathlon("scoreboard", "--check", "README.md").status == 1
    assert decathlon("scoreboard", "--write", "README.md", "--html", "page.html").status == 0
    assert decathlon("scoreboard", "--check", "README.md").status == 0
    text = Path("README.md").read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "99.00 %" in text
    assert "99.00 %" in Path("page.html").read_text()
    (folder / "seed1.json").write_text(json.dumps(summary(1, 0.97, code=code_hash("mnist-mlp"))))
    stale = decathlon("scoreboard", "--check", "README.md")
    assert stale.status == 1
    assert "stale" in stale.error


@pytest.mark.parametrize("code", [None, "0123456789ab"], ids=["no hash", "another hash"])
def test_changed_code_is_marked_until_it_is_waived(code: str | None, decathlon: Command) -> None:
    folder, now = Path("results/mnist-mlp"), code_hash("mnist-mlp")
    folder.mkdir(parents=True)
    (folder / "seed0.json").write_text(json.dumps(summary(0, 0.99, code=code)))
    Path("README.md").write_text(f"{BEGIN}\n{END}\n")
    assert decathlon("scoreboard", "--write", "README.md").status == 0
    assert "99.00 % †" in Path("README.md").read_text()
    refused = decathlon("scoreboard", "--check", "README.md")
    assert refused.status == 1
    measured = code or "none"
    assert f"mnist-mlp {now} {measured} REASON" in refused.error

    waivers = Path("results/waivers.txt")
    waivers.write_text(f"# why\nmnist-mlp {now[::-1]} {measured} of code before\n")
    assert decathlon("scoreboard", "--check", "README.md").status == 1, "the code has changed since the waiver"
    waivers.write_text(f"mnist-mlp {now} fedcba987654 a name was changed\n")
    assert decathlon("scoreboard", "--check", "README.md").status == 1, "the waiver is for another measurement"
    waivers.write_text(f"mnist-mlp {now} fedcba987654,{measured} a name was changed\n")
    assert decathlon("scoreboard", "--write", "README.md").status == 0
    assert decathlon("scoreboard", "--check", "README.md").status == 0
    assert "†" not in Path("README.md").read_text()
    assert "All rows were measured by earlier code; why they stand: [waivers]" in Path("README.md").read_text()
    waivers.write_text(f"mnist-mlp {now} {measured}\n")
    assert "line 1: it must hold a task, two hashes and the reason" in decathlon("scoreboard").error


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"split": "validation"}, "it was measured on the validation split, not on the test split"),
        ({"metrics": {"accuracy": 0.5}}, "its value is 0.99, its accuracy 0.5"),
        ({"bar": 0.9}, "its bar is 0.9, that of mnist-mlp 0.98"),
        ({"passed": False}, "passed is false, its value 0.99, its bar 0.98"),
    ],
)
def test_a_summary_that_contradicts_itself_is_refused(change: dict[str, Any], error: str, decathlon: Command) -> None:
    path = Path("results/mnist-mlp/seed0.json")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(summary(0, 0.99, passed=True)))
    assert decathlon("scoreboard").status == 0
    path.write_text(json.dumps(summary(0, 0.99, **change)))
    assert f"{path}: {error}" in decathlon("scoreboard").error


def test_test_time_augmentation_is_told() -> None:
    table = aggregate([summary(0, 0.9), summary(0, 0.9, task="cifar10-cnn"), summary(1, 0.9, tta="flip")])
    assert [(row["task"], row["TTA"]) for row in format_rows(table)] == [
        ("mnist-mlp", "flip"),
        ("mnist-mlp", "none"),
        ("cifar10-cnn", "flip"),
    ]


def test_bad_files_are_named(decathlon: Command) -> None:
    folder = Path("results/mnist-mlp")
    folder.mkdir(parents=True)
    (folder / "seed0.json").write_text("{}")
    assert "seed0.json is no run summary" in decathlon("scoreboard").error
    (folder / "seed0.json").write_text(json.dumps(summary(0, 0.99)))
    Path("README.md").write_text("no markers")
    assert "has no markers for the scoreboard" in decathlon("scoreboard", "--write", "README.md").error


def test_committed_results_are_whole() -> None:
    for path in (ROOT / "results").glob("*/*.json"):
        summary = json.loads(path.read_text())
        assert summary["task"] == path.parent.name
        assert summary["split"] == "test"
        assert summary["commit"], path
        assert not summary["commit"].endswith("+"), f"{path} was measured with changes that were not committed"
        assert summary["value"] == summary["metrics"][summary["metric"]]


def test_the_page_links_each_task_to_its_docs(decathlon: Command, tmp_path: Path) -> None:
    answer = decathlon("scoreboard", "--results", ROOT / "results", "--html", "pages/board.html")
    assert answer.status == 0, answer.err
    links = re.findall(r'href="([^"]+)"', Path("pages/board.html").read_text())
    assert {Path(link).stem for link in links} == set(task_ids())
    assert all((tmp_path / "pages" / link).exists() for link in links)


def test_runs_of_ones_own_are_a_scoreboard_too(decathlon: Command) -> None:
    empty = decathlon("scoreboard", "--results", ".")
    assert empty.status == 1
    assert "there is no summary in ." in empty.error
    for out in ("runs/mnist-mlp/b", "runs/mnist-mlp/a", "runs/mine"):  # the newest is not the last by name
        command = ("train", "mnist-mlp", "--data", "sample", "--epochs", "1", "--seed", "7", "--out", out)
        assert decathlon(*command).status == 0
    (one,) = read_summaries(Path("runs"))
    assert one["train_seconds"] == json.loads(Path("runs/mine/summary.json").read_text())["train_seconds"]
    board = decathlon("scoreboard", "--results", "runs")
    assert board.status == 0, board.err
    assert "mnist-mlp" in board.out
    assert "mnist-sample" in board.out


MEASURED = [row for row in aggregate(read_summaries(ROOT / "results")) if row["n"] > 1]


@pytest.mark.parametrize("row", MEASURED, ids=[row["task"] for row in MEASURED])
def test_files_and_pages_give_the_committed_numbers(row: dict[str, Any]) -> None:
    """What the head of a task's file and its page say is what the summaries say: they are written by hand."""
    number = f"{100 * row['value']:.2f} ± {100 * row['deviation']:.2f} %"
    assert number in (get_task(row["task"]).__doc__ or "")
    assert number in (ROOT / f"docs/tasks/{row['task']}.md").read_text()
