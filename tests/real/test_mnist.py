"""The recipes on real MNIST. Needs MNIST/raw in the folder that DECATHLON_DATA names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from decathlon.cli.main import run_command

DATA = os.environ.get("DECATHLON_DATA", "")

pytestmark = pytest.mark.skipif(
    not (Path(DATA) / "MNIST" / "raw").is_dir(),
    reason="needs real MNIST: set DECATHLON_DATA to a folder with MNIST/raw (decathlon data --download fetches it)",
)


@pytest.mark.parametrize(
    ("task_id", "min_accuracy"),
    [("mnist-mlp", 0.988), ("mnist-cnn", 0.9945)],
)
def test_clears_its_bar(task_id: str, min_accuracy: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole recipe, with a seed that no published run used."""
    out = tmp_path / "run"
    assert run_command(["train", task_id, "--data-dir", DATA, "--seed", "7", "--out", str(out), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["data"] == "mnist"
    assert summary["passed"]
    assert summary["counts"]
    assert summary["value"] > min_accuracy
    assert run_command(["evaluate", str(out), "--data-dir", DATA, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] == summary["value"]
