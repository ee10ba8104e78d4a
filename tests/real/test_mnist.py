"""The recipes on real MNIST. Needs MNIST/raw in the folder that DECATHLON_DATA names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import real_data

from decathlon.cli.main import run_command


def test_reaches_its_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As far as the bar on validation, with a seed that no published run used; tests/soak trains the whole recipes."""
    out = tmp_path / "run"
    folder = real_data.require("mnist")
    command = ["train", "mnist-mlp", "--data-dir", folder, "--seed", "7", "--until-bar", "--out", str(out), "--json"]
    assert run_command(command) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["data"] == "mnist"
    assert summary["counts"]
    assert summary["seconds_to_bar"] is not None
    assert summary["value"] > summary["bar"] - 0.003
    assert run_command(["evaluate", str(out), "--data-dir", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] == summary["value"]
