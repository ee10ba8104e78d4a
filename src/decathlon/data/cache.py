"""What was read slowly once, kept as arrays in the data folder's `cache`."""

from __future__ import annotations

import contextlib
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from decathlon.data import say


def keep(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What `make` gives, from `path` where it is already; written beside and moved into place, so never half there.

    A damaged file is made again, and what cannot be written is said: neither stops the work.
    """
    if path.exists():
        try:
            with path.open("rb") as opened, np.load(opened) as file:  # its checksums are verified, too
                return dict(file)
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error):
            say(f"{path} is damaged: making it again")
    made = make()
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as out:
            np.savez(out, allow_pickle=False, **made)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        say(f"what was read could not be kept for the next start: {error}")
    return made
