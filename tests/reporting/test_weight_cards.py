"""The page of weights that ship says how to make them again."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import ROOT

from decathlon.reporting import weight_cards
from decathlon.runs.folder import read_json


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        ({}, "--seed 0 --recipe best`"),
        ({"overrides": {"precision": "bf16-mixed"}}, "--seed 0 --recipe best --precision bf16-mixed`"),
        ({"recipe": "", "overrides": {"image_size": 64}}, "--seed 0 --image-size 64`"),
    ],
)
def test_the_command_names_recipe_and_changes(changes: dict[str, Any], command: str) -> None:
    card = read_json(ROOT / "src/decathlon/weights/pets-unet/card.json")
    assert f"decathlon train pets-unet --data official {command}" in weight_cards.page(card | changes)
