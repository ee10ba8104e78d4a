"""The scripts of `bench/` that measure copies of reviews and classifiers without training."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from scripts import load_script

from decathlon.data.base import parse_source
from decathlon.tasks import mnist_autoencoder


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
