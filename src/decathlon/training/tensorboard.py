"""`--tensorboard`: curves, predictions, plots and the recipe in RUN/tensorboard, through Fabric's logger."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from PIL import Image
from torch import nn

from decathlon.data.base import Data
from decathlon.messages import printable, say
from decathlon.runs.records import Summary
from decathlon.tasks.base import Task
from decathlon.tasks.recipe import Recipe
from decathlon.training.checkpoint import State

MAX_EXAMPLES = 64  # validation examples whose predictions are drawn during the training


def require() -> None:
    """Raise RuntimeError where TensorBoard is not installed: before a training, not after it."""
    if find_spec("tensorboard") is None:
        raise RuntimeError("--tensorboard needs TensorBoard: pip install 'decathlon[tensorboard]'")


def start(fabric: Fabric, folder: Path, recipe: dict[str, Any]) -> None:
    """Give Fabric a logger that writes into a run folder, and log the recipe. `Fabric.log_dict` then logs curves."""
    logger = TensorBoardLogger(folder, name="tensorboard", version="", default_hp_metric=False)
    fabric.loggers.append(logger)
    if fabric.is_global_zero:
        rows = [f"| {name} | {printable(value)} |" for name, value in recipe.items()]
        logger.experiment.add_text("recipe", "\n".join(["| field | value |", "| --- | --- |", *rows]))


def log_predictions(fabric: Fabric, task: Task, model: nn.Module, data: Data, recipe: Recipe, state: State) -> None:
    """Log the plots of predictions on a few validation examples, after epochs 1, 2, 4, 8 and so on.

    An error is only printed, since it must not end a training.
    """
    loggers, is_due = _loggers(fabric), state.epoch & (state.epoch - 1) == 0
    if not (loggers and is_due and fabric.is_global_zero):
        return
    examples = data.validation[
        :: len(data.validation) // MAX_EXAMPLES + 1
    ]  # spread out: some splits are ordered by class
    try:
        with TemporaryDirectory() as folder, torch.no_grad():
            task.plot_validation(model, replace(data, validation=examples), recipe, Path(folder))
            _log_plots(loggers, Path(folder), "predictions", state.step)
    except Exception as error:
        say(f"the predictions could not be logged: {type(error).__name__}: {error}")


def log_result(fabric: Fabric, folder: Path, recipe: dict[str, Any], summary: Summary) -> None:
    """Log the metrics of the test split beside the recipe, for comparing runs, and the plots of the final network."""
    metrics = {f"test/{name}": value for name, value in summary.metrics.items()}
    for logger in _loggers(fabric):
        logger.log_hyperparams(recipe, metrics, summary.steps)
    _log_plots(_loggers(fabric), folder / "plots", "plots", summary.steps)


def _loggers(fabric: Fabric) -> list[TensorBoardLogger]:
    return [logger for logger in fabric.loggers if isinstance(logger, TensorBoardLogger)]


def _log_plots(loggers: list[TensorBoardLogger], folder: Path, group: str, step: int) -> None:
    """Log a folder's PNG files as images, and texts.json, the mistakes of a text task, as text."""
    for logger in loggers:
        for path in sorted(folder.glob("*.png")):
            with Image.open(path, formats=["PNG"]) as image:
                pixels = np.asarray(image.convert("RGB"))
            logger.experiment.add_image(f"{group}/{path.stem}", pixels, step, dataformats="HWC")
        if (folder / "texts.json").exists():
            texts = json.loads((folder / "texts.json").read_text())
            lines = [printable(f"{text['title']}: {' '.join(word for word, _ in text['parts'])}") for text in texts]
            logger.experiment.add_text(f"{group}/texts", "\n\n".join(lines), step)


def close(fabric: Fabric) -> None:
    """Write out what is still in memory, after a training or when it fails."""
    for logger in fabric.loggers:
        logger.finalize("success")
