"""The trained weights that ship with the package: a small run folder for each task, with a model card.

weights/<task>/config.json         task, recipe and data info, as in every run folder
weights/<task>/summary.json        the result of the training run
weights/<task>/model.safetensors   parameters in half precision, buffers in their own
weights/<task>/card.json           model card: data, metrics as shipped, limitations
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from decathlon.data.base import WEIGHTS as WEIGHTS
from decathlon.runs.folder import read_json
from decathlon.tasks.base import task_ids

MAX_TOTAL_BYTES = 60_000_000  # of all the weights together


def folder(task_id: str) -> Path | None:
    """The folder of a task's weights; None where none ship."""
    path = WEIGHTS / task_id
    return path if task_id in task_ids() and (path / "card.json").exists() else None


def card(task_id: str) -> dict[str, Any]:
    """The card of a task's weights.

    Raises:
        FileNotFoundError: The package has none.
        ValueError: It is damaged.
    """
    return read_json(WEIGHTS / task_id / "card.json")


def describe(card: dict[str, Any]) -> str:
    """The task, data and test metric of the weights in a line."""
    sample = " (synthetic data: a demonstration, no benchmark)" if card["data"].endswith("-sample") else ""
    value = f"{100 * card['value']:.2f} % {card['metric']} on its test split"
    return f"{card['task']} with the weights of the package: {value}, {card['data']}{sample}"
