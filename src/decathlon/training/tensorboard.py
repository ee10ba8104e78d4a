"""`--tensorboard`: curves, plots and the recipe in RUN/tensorboard, through Fabric's logger."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from PIL import Image

from decathlon.messages import printable
from decathlon.runs.records import Summary


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


def log_result(fabric: Fabric, folder: Path, recipe: dict[str, Any], summary: Summary) -> None:
    """Log the metrics of the test split beside the recipe, for comparing runs, and the plots of predictions."""
    loggers = [logger for logger in fabric.loggers if isinstance(logger, TensorBoardLogger)]
    metrics = {f"test/{name}": value for name, value in summary.metrics.items()}
    for logger in loggers:
        logger.log_hyperparams(recipe, metrics, summary.steps)
        for path in sorted((folder / "plots").glob("*.png")):
            with Image.open(path, formats=["PNG"]) as image:
                pixels = np.asarray(image.convert("RGB"))
            logger.experiment.add_image(f"plots/{path.stem}", pixels, summary.steps, dataformats="HWC")


def close(fabric: Fabric) -> None:
    """Write out what is still in memory, after a training or when it fails."""
    for logger in fabric.loggers:
        logger.finalize("success")
