"""The photos that `bench/own_photos.py` writes are read as own data with the same boxes."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from scripts import load_script

from decathlon.data import voc
from decathlon.data.base import parse_source


@pytest.fixture(scope="module")
def own_photos() -> ModuleType:
    return load_script("bench/own_photos.py")


@pytest.mark.parametrize("renamed", [False, True])
def test_written_photos_are_read_again(
    own_photos: ModuleType, renamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_photos, "TRAIN", 24)
    sample: Any = voc.load(parse_source("sample"))
    own_photos.write_photos(sample.validation, tmp_path / "mine", renamed)
    read: Any = voc.load(parse_source(str(tmp_path / "mine")))
    assert len(read.train) + len(read.validation) == 24
    assert len(read.test) == len(sample.validation) - 24
    if renamed:
        assert set(read.info.classes) == {f"kind-{number}" for number in range(1, 5)}
        return
    assert set(read.info.classes) == set(sample.info.classes)

    def boxes(splits: list[Any], classes: list[str]) -> list[tuple[str, list[float]]]:
        targets = [split.example(index)[1] for split in splits for index in range(len(split))]
        pairs = [pair for t in targets for pair in zip(t["labels"].tolist(), t["boxes"].tolist(), strict=True)]
        return sorted((classes[label - 1], box) for label, box in pairs)

    written = boxes([sample.validation], sample.info.classes)
    again = boxes([read.train, read.validation, read.test], read.info.classes)
    assert [name for name, _ in written] == [name for name, _ in again]
    assert torch.allclose(torch.tensor([box for _, box in written]), torch.tensor([box for _, box in again]), atol=0.01)
