"""Real Oxford-IIIT Pet is read once, with its masks. Needs it in the folder that DECATHLON_DATA names."""

from __future__ import annotations

import pytest
import real_data
from PIL import Image

from decathlon.data import pets
from decathlon.data.base import parse_source


def test_second_start_decodes_no_image_and_masks_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = real_data.require("pets")
    pets.load(parse_source("official", folder), 64)
    with monkeypatch.context() as patch:
        patch.delattr(Image, "open")
        data = pets.load(parse_source("official", folder), 64)
    assert data.name.startswith("pets")
    for split in (data.train, data.validation, data.test):
        assert isinstance(split, pets.SegmentationSplit)
        for index in range(0, len(split), 50):
            trimap = split.trimap(index)
            pet = (trimap != pets.BACKGROUND).double().mean().item()
            assert split.targets[index].double().mean().item() / 255 == pytest.approx(pet, abs=0.02)
            assert set(trimap.unique().tolist()) <= {1, 2, 3}
