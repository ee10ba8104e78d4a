"""What is expensive to make is made once: arrays kept in the data folder's `cache`, whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from decathlon import files
from decathlon.data import say


def key(*made_of: Any) -> str:
    """A short hash of plain JSON data: of what a cached thing was made of."""
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays in an .npz file, their checksums verified. Raises anything where it is damaged."""
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        found = {name: file[name] for name in file.files}
        opened.seek(-12, 2)  # the archive ends with how many files it holds; damage can hide some of them
        if len(found) != int.from_bytes(opened.read(2), "little"):
            raise ValueError(f"{path} has lost some of its arrays")
    return found


def arrays(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays in `path` (.npz); made where it is missing or damaged, and kept there for the next start.

    Where they cannot be kept, on a full disk for one, it is said and no more.
    """
    if path.exists():
        try:
            return read(path)
        except Exception:  # a damaged archive fails in any way
            say(f"{path} is damaged or cannot be read: making it again")
    made = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.beside(path) as part, part.open("wb") as out:
            np.savez(out, **made)  # type: ignore[arg-type]
    except OSError as error:
        say(f"what was read could not be kept for the next start: {error}")
    return made
