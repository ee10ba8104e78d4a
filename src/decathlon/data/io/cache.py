"""What is expensive to make is made once: arrays kept in the data folder's `cache`, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from decathlon.data.io import atomic, files
from decathlon.messages import recording_warnings, say, warn


def make_key(*made_of: Any) -> str:
    """A short hash of plain JSON data: of what a cached object was made of."""
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file that `numpy.savez` wrote; its checksums are verified, too.

    Raises:
        Exception: It is damaged, or holds more than arrays, or unpacks to more than the file's size.
    """
    with files.check_file(path).open("rb") as file:
        inside = zipfile.ZipFile(file).infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in inside):
            raise ValueError("it is compressed, as what is kept here never is")
        file.seek(-12, 2)  # the archive ends with how many files it holds: damage can hide some of them
        if len(inside) != int.from_bytes(file.read(2), "little"):
            raise ValueError("it has lost some of its arrays")
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}


def load_or_make(
    path: Path, make: Callable[[], dict[str, np.ndarray]], keep_warnings: bool = False
) -> dict[str, np.ndarray]:
    """The arrays in `path` (.npz); made where it is missing or damaged, and kept there for the next start.

    A failure to write the cache, for example on a full disk, is only reported.

    Args:
        path: The file.
        make: Makes the arrays.
        keep_warnings: Whether what `make` warns of is kept as well, and said again at every start.
    """
    if path.exists():
        try:
            arrays = read_arrays(path)
        except Exception:  # damaged bytes fail in any way
            say(f"{path} is damaged or cannot be read: making it again")
        else:
            for warning in arrays.pop("warnings", ()):
                warn(str(warning))
            return arrays
    with recording_warnings() as warnings:
        made = make()
    more = {"warnings": np.array(warnings, str)} if keep_warnings else {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.write_atomically(path) as part, part.open("wb") as out:
            np.savez(out, **made, **more)  # type: ignore[arg-type]
    except OSError as error:
        say(f"what was read could not be kept for the next start: {error}")
    return made
