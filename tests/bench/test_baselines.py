"""The scripts of `bench/` that measure copies of reviews, classifiers without training and thresholds of detectors."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from scripts import load_script

from decathlon.data.base import parse_source
from decathlon.data.transforms.augment import to_float
from decathlon.tasks import mnist_autoencoder
from decathlon.tasks.base import get_task


def test_copies_are_found_whatever_their_case() -> None:
    copies_in = load_script("bench/imdb_copies.py").copies_in
    assert copies_in(["Good film", "bad film", "so so"], ["SO SO", "good Film", "a film"]) == [0, 2]


def test_accuracy_without_the_copies() -> None:
    """9 of 10 are right; of the two that are left out one is."""
    assert load_script("bench/imdb_copies.py").without(0.9, 10, 1, 2) == 1.0


def test_classifiers_of_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the sample, whose digits are easy: all are far above the tenth of guessing; the test split is not read."""
    module, out = load_script("bench/raw_pixels.py"), tmp_path / "rows.json"
    recipe = mnist_autoencoder.sample_recipe()
    monkeypatch.setattr(mnist_autoencoder, "recipe", lambda: recipe)
    monkeypatch.setattr(module, "parse_source", lambda *_, **__: parse_source("sample"))
    load = mnist_autoencoder.load

    def load_without_test(*args: object) -> object:
        data = load(*args)  # type: ignore[arg-type]
        object.__setattr__(data, "test", None)
        return data

    monkeypatch.setattr(mnist_autoencoder, "load", load_without_test)
    monkeypatch.setattr(sys, "argv", ["raw_pixels.py", "--seeds", "0", "1", "--out", str(out)])
    module.main()
    rows = json.loads(out.read_text())
    assert len(rows) == 3
    assert all(len(row["accuracy"]) == 2 and min(row["accuracy"]) > 0.5 for row in rows)


@pytest.mark.parametrize("task_id", ["voc-faster-rcnn", "voc-retinanet"])
def test_thresholds_of_detectors(task_id: str) -> None:
    """An untrained detector finds more boxes the lower the score and the higher the IoU; few proposals give few."""
    set_thresholds, task = load_script("bench/detection_thresholds.py").set_thresholds, get_task(task_id)
    recipe = task.sample_recipe()
    data = task.load(parse_source("sample"), recipe)
    torch.manual_seed(0)
    network: Any = task.model(recipe, data.info).eval()
    getattr(network, "roi_heads", network).detections_per_img = 10**6
    images = [to_float(data.validation.example(index)[0]) for index in range(2)]  # type: ignore[attr-defined]

    def found(**changes: float) -> int:
        set_thresholds(network, changes)
        with torch.no_grad():
            return sum(len(output["boxes"]) for output in network(images))

    strict, loose = found(score=0.0, roi_iou=0.3), found(roi_iou=0.9)
    assert 0 < strict < loose
    assert found(score=0.999) == 0
    if task_id == "voc-faster-rcnn":
        assert found(score=0.0, proposals=2, boxes_of_a_level=2) <= 2 * 2 * len(data.info.classes)
