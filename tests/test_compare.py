"""`decathlon compare`: two tasks or runs on one page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Command

from decathlon.compare import best, findings, told_apart
from decathlon.flags import split_flags


def points(*values: float, seconds: float = 10.0) -> list[dict[str, float]]:
    return [{"epoch": n, "seconds": n * seconds, "value": value} for n, value in enumerate(values, 1)]


def test_two_tasks_are_trained_and_compared(decathlon: Command) -> None:
    command = ["compare", "mnist-mlp", "mnist-cnn", "--data", "sample", "--epochs", "1", "--out", "both", "--json"]
    done = decathlon(*command)
    assert done.status == 0, done.err
    found = json.loads(done.out)
    first, second = found["runs"]
    assert (first["task"], second["task"], found["data"]) == ("mnist-mlp", "mnist-cnn", "mnist-sample")
    for one in found["runs"]:
        summary = json.loads(Path(one["folder"], "summary.json").read_text())
        assert one["value"] == summary["value"]
        assert summary["epochs"] == 1, "the options of train reached the training"
        assert one["peak_memory_mib"] > 50
        assert one["evaluation_per_second"] > 0
        assert len(one["curve"]) == 1
    weights = 28 * 28 * 160 + 160 * 160 + 160 * 10
    assert first["multiplications"] > weights / 3, "matrices are multiplied once for each example"
    page = Path(found["page"]).read_text()
    assert page.count("data:image/png;base64") >= 3
    assert "http" not in page
    for sentence in found["findings"]:
        assert sentence.split(":")[0] in page
    before = Path(first["folder"], "summary.json").stat().st_mtime_ns
    again = decathlon(*command)
    assert again.status == 0, again.err
    assert Path(first["folder"], "summary.json").stat().st_mtime_ns == before, "what is finished is taken"
    same = decathlon("compare", first["folder"], second["folder"], "--out", "runs-only", "--json")
    assert same.status == 0, same.err
    assert json.loads(same.out)["runs"][0]["value"] == first["value"]


def test_findings_say_who_is_ahead_when() -> None:
    slow = {"name": "slow", "task": "slow", "curve": points(0.5, 0.7, 0.9, seconds=100)}
    fast = {"name": "fast", "task": "fast", "curve": points(0.4, 0.6, 0.65, 0.68, seconds=10)}
    said = findings([slow, fast], "map")
    assert said[0] == "After 3 epochs, where the shorter run ends, the best validation map: slow 90.00 %, fast 65.00 %."
    assert "After 40 s" in said[1]
    assert "slow nothing yet, fast 68.00 %" in said[1]
    assert said[2] == "slow passes the best of fast (68.00 %) after 2 epochs and 200 s of training."
    assert said[3] == "fast never passes the best of slow (90.00 %)."
    assert best(points(0.9, 0.2), "epoch", 2) == 0.9
    assert best(points(0.9), "seconds", 9) is None


@pytest.mark.parametrize(
    ("slow", "fast", "verdict"),
    [
        (points(*[0.5] * 10, seconds=100), points(*[0.4] * 15), "agree: on validation 50.00 % map in 1,000 s"),
        (points(*[0.3] * 10, seconds=100), points(*[0.4] * 15), "agree in part: on validation 30.00 %"),
        (points(*[0.3] * 10, seconds=10), points(*[0.4] * 15), "disagree in both"),
        (points(*[0.5] * 10, seconds=16), points(*[0.4] * 15), "agree in part"),  # longer, but not far longer
        (points(0.9, 0.9, seconds=100), points(*[0.4] * 15), "cannot tell: they have too few epochs (voc-retinanet 2"),
    ],
)
def test_a_claim_is_examined(slow: list[dict[str, float]], fast: list[dict[str, float]], verdict: str) -> None:
    sides = (("voc-faster-rcnn", fast), ("voc-retinanet", slow))
    rows = [{"name": name, "task": name, "curve": curve} for name, curve in sides]
    said = findings(rows, "map")
    assert "voc-retinanet is better after 10 epochs than voc-faster-rcnn after 15" in said[-1]
    assert f"These runs {verdict}" in said[-1]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["mnist-mlp"], "needs two names"),
        (["mnist-mlp", "mnist-cn"], "'mnist-cn' is neither a task nor a run folder"),
    ],
)
def test_wrong_names(words: list[str], complaint: str, decathlon: Command) -> None:
    done = decathlon("compare", *words)
    assert done.status == 2
    assert complaint in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_other_data_are_no_comparison(decathlon: Command) -> None:
    for task in ("mnist-mlp", "imdb-textcnn"):
        done = decathlon("train", task, "--data", "sample", "--epochs", "1", "--out", task)
        assert done.status == 0, done.err
    done = decathlon("compare", "./mnist-mlp", "./imdb-textcnn")
    assert done.status == 1
    assert "cannot be compared" in done.err
    done = decathlon("compare", "./mnist-mlp", "./imdb-textcnn", "--epochs", "3")
    assert done.status == 2
    assert "--epochs is for training" in done.err


def test_a_training_that_fails_is_said(decathlon: Command) -> None:
    done = decathlon("compare", "mnist-mlp", "mnist-cnn", "--data", "sample", "--epochs", "-1", "--out", "both")
    assert done.status == 1
    assert "the training of mnist-mlp failed" in done.err
    assert "checkpoint" not in done.err, "none was begun"


def test_a_task_is_trained_on_the_data_of_the_run_beside_it(decathlon: Command) -> None:
    assert decathlon("train", "mnist-mlp", "--data", "sample", "--epochs", "1", "--out", "run").status == 0
    done = decathlon("compare", "./run", "mnist-cnn", "--epochs", "1", "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["data"] == "mnist-sample"


def test_flags_are_parted() -> None:
    words = ["--out", "here", "--epochs", "3", "--optimizer.lr", "1e-3", "--json", "--data_dir=there"]
    assert split_flags(words, ("--out", "--json", "--data-dir")) == (
        ["--out", "here", "--json", "--data_dir=there"],
        ["--epochs", "3", "--optimizer.lr", "1e-3"],
    )


def test_two_runs_of_one_task_are_told_apart() -> None:
    rows = [{"task": "mnist-mlp", "folder": f"runs/{name}"} for name in ("a", "b")]
    assert told_apart(rows) == ["a", "b"]
    assert told_apart([rows[0], rows[1] | {"folder": "old/a"}]) == ["runs/a", "old/a"]
    assert told_apart([rows[0], rows[1] | {"task": "mnist-cnn"}]) == ["mnist-mlp", "mnist-cnn"]
