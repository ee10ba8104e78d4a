"""Real CIFAR-10 is read once. Needs one of its forms in the folder that DECATHLON_DATA names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

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
