"""Reading and writing IDX, the file format of MNIST."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from decathlon.data.io import archives, atomic, files

# The types of the format by their number, of which all are read that hold whole numbers.
TYPES: dict[int, np.dtype] = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
}


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read an IDX file of numbers from 0 to 255, gzipped or not, whatever its name says.

    The format: two zero bytes, a type (8: unsigned byte), the number of dimensions, each size as a big-endian 32-bit
    number, then the values. http://yann.lecun.com/exdb/mnist/

    Returns:
        uint8, with that number of dimensions.

    Raises:
        ValueError: The file is empty, cut short or too long, no plain file, or its first bytes are not those of such a
            file; a value is none of 0 to 255; or what it unpacks to is above `files.MAX_FILE_BYTES`.
    """
    header = 4 + 4 * dimensions

    def shape_of(start: bytes) -> list[int]:
        if start[:2] != b"\0\0" or start[2] not in TYPES or start[3] != dimensions:
            raise ValueError(
                f"{path} is not an IDX file of bytes in {dimensions} dimensions: "
                f"it starts with {start[:4].hex(' ')}, not {bytes((0, 0, 8, dimensions)).hex(' ')}"
            )
        return [int(size) for size in np.frombuffer(start, ">u4", dimensions, 4)]

    def size_of(start: bytes) -> int:
        return header + math.prod(shape_of(start)) * TYPES[start[2]].itemsize

    packed = is_gzip(path)
    content = archives.gunzip(path, size_of, header) if packed else files.read_bytes(path)
    if len(content) < header:
        raise ValueError(f"{path} is {'empty' if not content else 'cut short'}: {len(content)} bytes")
    shape, expected = shape_of(content), size_of(content)
    if len(content) != expected:
        more = " or more" if packed else ""
        raise ValueError(
            f"{path} is {'cut short' if len(content) < expected else 'too long'}: "
            f"{len(content)} bytes{more}, but {' × '.join(map(str, shape))} values need {expected}"
        )
    if max(shape) > files.MAX_FILE_BYTES:  # beside a size of 0: numpy cannot count that far
        raise ValueError(f"{path} is damaged: it holds {' × '.join(map(str, shape))} values")
    values = np.frombuffer(content, TYPES[content[2]], offset=header).reshape(shape)
    if values.size and (values.min() < 0 or values.max() > 255):
        raise ValueError(
            f"{path} holds values from {values.min()} to {values.max()}; only those from 0 to 255 are read"
        )
    return values.astype(np.uint8)


def is_gzip(path: Path) -> bool:
    """Whether a plain file is packed, by its first bytes: browsers unpack files and leave their names. Raises as it."""
    with files.check_file(path).open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def write_idx(path: Path, values: np.ndarray) -> None:
    """Write unsigned bytes as an IDX file, in one step."""
    header = bytes((0, 0, 8, values.ndim)) + np.asarray(values.shape, ">u4").tobytes()
    with atomic.write_atomically(path) as part:
        part.write_bytes(header + np.ascontiguousarray(values, np.uint8).tobytes())
