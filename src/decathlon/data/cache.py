"""What is expensive to make is made once: arrays kept in the data folder's `cache`, whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from decathlon.data import say


def key(*made_of: Any) -> str:
    """A short hash of plain JSON data: of what a cached thing was made of."""
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]


def arrays(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays in `path` (.npz); made where it is missing or damaged, and kept there for the next start.

    Where they cannot be kept, on a full disk for one, it is said and no more.
    """
    if path.exists():
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:  # verifies checksums, too
                return {name: file[name] for name in file.files}
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error):
            say(f"{path} is damaged or cannot be read: making it again")
    made = make()
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as out:
            np.savez(out, **made)  # type: ignore[arg-type]
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        say(f"what was read could not be kept for the next start: {error}")
    return made
