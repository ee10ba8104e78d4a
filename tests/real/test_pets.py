"""Real Oxford-IIIT Pet is read once, with its masks. Needs it in the folder that DECATHLON_DATA names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

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
