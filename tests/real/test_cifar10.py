"""Real CIFAR-10 is read once. Needs it in the folder that DECATHLON_DATA names."""

from __future__ import annotations

import pytest
import real_data
from PIL import Image

from decathlon.data import cifar10
from decathlon.data.base import parse_source


def test_second_start_decodes_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = real_data.require("cifar10")
    first = cifar10.load(parse_source("official", folder))
    monkeypatch.delattr(Image, "open")
    second = cifar10.load(parse_source("official", folder))
    assert [len(part) for part in (second.train, second.validation, second.test)] == [45_834, 4_166, 10_000]
    assert (first.test.inputs == second.test.inputs).all()
