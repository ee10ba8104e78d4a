"""The recipes on real CIFAR-10. Needs one of its forms in the folder that DECATHLON_DATA names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from decathlon.cli.main import run_command
from decathlon.data import cifar10
from decathlon.data.base import parse_source

DATA = os.environ.get("DECATHLON_DATA", "")

pytestmark = pytest.mark.skipif(
    not (cifar10.find_release(Path(DATA)) or (Path(DATA) / "cifar10").is_dir()),
    reason="needs real CIFAR-10: set DECATHLON_DATA to a folder that has it (decathlon data --download fetches it)",
)


def test_second_start_decodes_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    first = cifar10.load(parse_source("official", DATA))
    monkeypatch.delattr(Image, "open")
    second = cifar10.load(parse_source("official", DATA))
    assert [len(part) for part in (second.train, second.validation, second.test)] == [45_834, 4_166, 10_000]
    assert (first.test.inputs == second.test.inputs).all()


def test_two_epochs_of_the_recipe_learn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two epochs, the first at low resolution, with a seed that no published run used; in tests/soak of cifar10-cnn."""
    out = tmp_path / "run"
    command = ["train", "cifar10-skip", "--data-dir", DATA, "--seed", "7", "--out", str(out), "--json"]
    if "avx512_bf16" in Path("/proc/cpuinfo").read_text():  # halves the time; without native support it is slower
        command += ["--precision", "bf16-mixed"]
    assert run_command([*command, "--epochs", "2"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["data"].startswith("cifar10")
    assert summary["counts"]
    assert summary["value"] > 0.75
    assert run_command(["evaluate", str(out), "--data-dir", DATA, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] == summary["value"]
