"""The rows of `bench/detection_speed.py`, for small images of the sample."""

from __future__ import annotations

import argparse
from types import ModuleType

import pytest
from scripts import load_script


@pytest.fixture(scope="module")
def speed() -> ModuleType:
    return load_script("bench/detection_speed.py")


def test_rounds_of_both_networks(speed: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "EVALUATED", 4)
    monkeypatch.setattr(speed, "keep_freed_memory", lambda: None)  # it would hold for all tests of this process
    options = argparse.Namespace(size=64, rounds=1, precision="32-true")
    rows = {of: list(speed.rounds_of("voc-faster-rcnn", of, options)) for of in ("torchvision", "small")}
    for of, made in rows.items():
        assert [(row["of"], row["data"], row["size"]) for row in made] == [(of, "voc-sample", 64)] * 2
        assert all(row["training_per_second"] > 0 < row["evaluation_per_second"] for row in made)
    assert rows["small"][0]["multiplications"] < rows["torchvision"][0]["multiplications"]


def test_images_of_torchvision_are_dealt_round(speed: ModuleType) -> None:
    batches = [(["a", "b"], [1, 2]), (["c", "d"], [3, 4])]
    assert speed.padded(batches) == [(["a", "c"], [1, 3]), (["b", "d"], [2, 4])]
