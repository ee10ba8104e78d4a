"""Ten classic deep-learning tasks: one readable file each, one command each, every number proved.

The public API is imported when it is first used, so that `import decathlon` alone costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from decathlon.api import Model, Run, load, load_data, open_run, tasks, train
    from decathlon.evaluation.predictions import Classification, Detections, Segmentation, TextClassification

__version__ = "0.2.0"
__all__ = [
    "Classification",
    "Detections",
    "Model",
    "Run",
    "Segmentation",
    "TextClassification",
    "load",
    "load_data",
    "open_run",
    "tasks",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import a name of the public API."""
    if name not in __all__:
        raise AttributeError(f"module 'decathlon' has no attribute {name!r}")
    import importlib

    predictions = ("Classification", "Detections", "Segmentation", "TextClassification")
    module = importlib.import_module("decathlon.evaluation.predictions" if name in predictions else "decathlon.api")
    return getattr(module, name)


def __dir__() -> list[str]:
    """The names of the public API."""
    return [*__all__, "__version__"]
