"""imdb-textcnn on real IMDB, an epoch of it: tests/real measures the shipped weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import real_data

from decathlon.cli.main import run_command


def test_textcnn_clears_its_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One epoch, with the teacher that needs no encoder, and a seed that no published number was made with."""
    out = tmp_path / "run"
    command = [
        "train",
        "imdb-textcnn",
        "--data-dir",
        real_data.require("imdb"),
        "--seed",
        "7",
        "--out",
        str(out),
        "--json",
    ]
    assert run_command([*command, "--epochs", "1", "--filters", "100", "--teachers", "ngrams"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["passed"]
    assert summary["counts"]
    assert summary["teachers"] == ["ngrams"]
    assert summary["value"] > 0.89  # it gave 89.69 %; the recipe, five epochs with both teachers, 91.6 %
