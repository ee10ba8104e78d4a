"""The folder of real data that the tests are given, and what is missing in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Absolute, since each test has a working directory of its own; a folder that cannot exist where none is given.
FOLDER = Path(os.environ.get("DECATHLON_DATA") or os.devnull).resolve()
PARTS = {
    "mnist": "MNIST/raw",
    "cifar10": "cifar10",
    "imdb": "aclImdb",
    "pets": "oxford-iiit-pet/annotations",
    "voc": "VOCdevkit/VOC2007",
}


def require(dataset: str) -> str:
    """The folder for `--data-dir`; skips the test where it lacks this data set."""
    if not (FOLDER / PARTS[dataset]).is_dir():
        pytest.skip(f"needs {PARTS[dataset]} in the folder that DECATHLON_DATA names")
    return str(FOLDER)
