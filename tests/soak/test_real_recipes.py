"""Recipes on real data that take too long for tests/real."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import real_data

from decathlon.cli.main import run_command


@pytest.mark.parametrize(
    ("task_id", "options", "min_accuracy"),
    [
        ("mnist-mlp", [], 0.988),
        ("mnist-cnn", [], 0.9945),
        ("cifar10-cnn", ["--epochs", "2"], 0.75),  # the first at low resolution
        ("cifar10-skip", ["--epochs", "2"], 0.75),
        ("imdb-textcnn", ["--epochs", "1", "--filters", "100", "--teachers", "ngrams"], 0.89),  # it gave 89.69 %
        ("imdb-roberta", [], 0.912),  # with 40 minutes of embedding on a slow core; three seeds gave 91.8 %
        ("pets-unet", ["--epochs", "20"], 0.82),
    ],
)
def test_real_recipe(
    task_id: str, options: list[str], min_accuracy: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a seed that no published run used."""
    folder = real_data.require(task_id.partition("-")[0])
    out = tmp_path / "run"
    command = ["train", task_id, "--data-dir", folder, "--seed", "7", *options, "--out", str(out), "--json"]
    assert run_command(command) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["counts"]
    assert summary["passed"] == (summary["value"] >= summary["bar"])
    assert summary["teachers"] == (["ngrams"] if task_id == "imdb-textcnn" else [])
    assert summary["value"] > min_accuracy
    assert summary["metrics"].get("iou_per_image", 1) > 0.6
    assert run_command(["evaluate", str(out), "--data-dir", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] == summary["value"]
