"""What is expensive to make is made once: arrays kept in the data folder's `cache`, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from decathlon.data import say


def key(*made_of: Any) -> str:
    """A short hash of plain JSON data: of what a cached thing was made of."""
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]


def arrays(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays in `path` (.npz); made and written there where it is missing or damaged."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        if path.exists():
            say(f"{path} is damaged: making it again")
    made = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.part.npz")  # np.savez would add its own ending to another
    np.savez(part, **made)  # type: ignore[arg-type]
    part.replace(path)
    return made
