"""The recipes on real CIFAR-10. Needs one of its forms in the folder that DECATHLON_DATA names."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from decathlon.cli import run_command
from decathlon.data import cifar10, source

DATA = os.environ.get("DECATHLON_DATA", "")

pytestmark = pytest.mark.skipif(
    not (cifar10.released(Path(DATA)) or (Path(DATA) / "cifar10").is_dir()),
    reason="needs real CIFAR-10: set DECATHLON_DATA to a folder that has it (decathlon data --download fetches it)",
)


def test_second_start_is_quick() -> None:
    first = cifar10.load(source("official", DATA))
    start = time.perf_counter()
    second = cifar10.load(source("official", DATA))
    assert time.perf_counter() - start < 2
    assert [len(part) for part in (second.train, second.validation, second.test)] == [45_834, 4_166, 10_000]
    assert (first.test.inputs == second.test.inputs).all()


@pytest.mark.parametrize(
    ("task_id", "options"), [("cifar10-skip", ["--epochs", "4", "--small-epochs", "2"]), ("cifar10-cnn", [])]
)
def test_clears_its_bar(task_id: str, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A seed that no published number was made with; of `cifar10-skip` half of the recipe's epochs."""
    out = tmp_path / "run"
    assert (
        run_command(["train", task_id, "--data-dir", DATA, "--seed", "7", *options, "--out", str(out), "--json"]) == 0
    )
    summary = json.loads(capsys.readouterr().out)
    assert summary["data"].startswith("cifar10")
    assert summary["passed"], summary["value"]
    assert summary["counts"]
    assert run_command(["evaluate", str(out), "--data-dir", DATA, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] == summary["value"]
