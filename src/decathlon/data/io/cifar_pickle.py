"""The pickled batches of CIFAR-10's release for Python, unpickled only where they are exactly the published files."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

try:
    from numpy._core.multiarray import _reconstruct
except ImportError:
    from numpy.core.multiarray import _reconstruct  # type: ignore[no-redef]

# A pickle is a program, and an allow-list of what it may call does not bound the memory and time it can ask for. So the
# checksum decides: MD5 is broken for collisions, which the publisher alone could prepare, but not for second preimages,
# which a stranger's file would have to be. The allow-list is what remains if a checksum were ever entered wrongly.
ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class ArrayUnpickler(pickle.Unpickler):
    """Unpickles arrays and plain containers only."""

    def find_class(self, module: str, name: str) -> Any:
        """What arrays are made with. Raises UnpicklingError for anything else."""
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch needs")
        return ALLOWED[module, name]


def read_published_batch(content: bytes, checksum: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and labels of a batch whose MD5 is the published one; anything else is not unpickled.

    Returns:
        Arrays as the file has them: uint8 (N, 3072) and labels (N,).

    Raises:
        ValueError: It is another file.
    """
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != checksum:
        raise ValueError(
            f"{path} is not the {path.name} that CIFAR-10's authors published: its checksum is wrong. Pickles of other "
            "origin are not read: bring your own images as a folder, <class>/*.png, or as binary batches (*.bin)"
        )
    try:
        batch = ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()  # as Python 2 wrote bytes
        return batch["data"], np.asarray(batch["labels"])
    except (pickle.UnpicklingError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a batch of CIFAR-10: {error}") from None
