"""A short version of the recipe on real Oxford-IIIT Pet. Needs it in the folder that DECATHLON_DATA names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from decathlon.cli.main import run_command
from decathlon.data import pets
from decathlon.data.base import parse_source

DATA = os.environ.get("DECATHLON_DATA", "")

pytestmark = pytest.mark.skipif(
    not (Path(DATA) / "oxford-iiit-pet/annotations").is_dir(),
    reason="needs real Oxford-IIIT Pet: set DECATHLON_DATA to its folder (decathlon data --download fetches it)",
)


def test_second_start_decodes_no_image_and_masks_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    pets.load(parse_source("official", DATA), 64)
    with monkeypatch.context() as patch:
        patch.delattr(Image, "open")
        data = pets.load(parse_source("official", DATA), 64)
    assert data.name.startswith("pets")
    for split in (data.train, data.validation, data.test):
        assert isinstance(split, pets.SegmentationSplit)
        for index in range(0, len(split), 50):
            trimap = split.trimap(index)
            pet = (trimap != pets.BACKGROUND).double().mean().item()
            assert split.targets[index].double().mean().item() / 255 == pytest.approx(pet, abs=0.02)
            assert set(trimap.unique().tolist()) <= {1, 2, 3}


def test_a_short_recipe_learns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A few of the recipe's epochs, with a seed that no published run used."""
    out = tmp_path / "run"
    command = ["train", "pets-unet", "--data-dir", DATA, "--seed", "7", "--out", str(out), "--json"]
    assert run_command([*command, "--epochs", "20"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["data"].startswith("pets")
    assert summary["counts"]
    assert summary["value"] > 0.82
    assert summary["metrics"]["iou_per_image"] > 0.6
    assert run_command(["evaluate", str(out), "--data-dir", DATA, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] == summary["value"]
