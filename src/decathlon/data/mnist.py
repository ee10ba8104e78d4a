"""MNIST: 70,000 handwritten digits, 28×28, in IDX files (LeCun, Cortes and Burges, 1998).

Any data in the same four files is read as well, Fashion-MNIST or EMNIST for two: `--data FOLDER`.
"""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import torch

from decathlon import writing
from decathlon.data import Data, Source, Split, files, hold_out, sample, say
from decathlon.data.download import fetch, md5

# The files and the MD5 of each as gzip archive (as published) and unpacked (as torchvision keeps them).
FILES = {
    "train-images-idx3-ubyte": ("f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels-idx1-ubyte": ("d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624"),
    "t10k-images-idx3-ubyte": ("9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea"),
    "t10k-labels-idx1-ubyte": ("ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637"),
}
MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")
SIDE = 28


def load(source: Source) -> Data:
    """Read MNIST, or data in its format.

    Returns:
        Images as uint8 (N, 1, 28, 28), labels as int64 (N,).

    Raises:
        FileNotFoundError: Files are missing and may not be downloaded; names them and where to put them.
        ConnectionError: Files are missing and could not be downloaded.
        ValueError: A file is damaged: names it and how.
    """
    if source.kind == "official":
        raw, name = official(source), "mnist"
    elif source.kind == "sample":
        raw, name = sample.digits(source.folder / "sample" / f"mnist-{sample.VERSION}"), "mnist-sample"
    else:
        assert source.path is not None
        raw, name = own(source.path), f"own:{source.path.resolve().name}"
    splits = {part: _split(raw, part) for part in ("train", "t10k")}
    count = int(max(split.targets.max() for split in splits.values())) + 1
    classes = [str(number) for number in range(max(count, 10 if source.kind != "own" else 2))]
    train, validation = hold_out(splits["train"])
    return Data(name, train, validation, splits["t10k"], {"classes": classes})


def official(source: Source) -> Path:
    """The folder with the four files of the official release, downloaded where missing or damaged."""
    raw = source.folder / "MNIST" / "raw"
    missing = [name for name in FILES if not _whole(raw / name, source.download)]
    if missing and not source.download:
        raise FileNotFoundError(f"MNIST is not in {raw}: {', '.join(missing)} missing or damaged")
    for name in missing:
        archive, unpacked = FILES[name]
        packed = raw / f"{name}.gz"
        if not (packed.exists() and md5(packed) == archive):
            try:
                fetch([mirror + packed.name for mirror in MIRRORS], packed, archive)
            except ConnectionError as error:
                wanted = ", ".join(f"{name}.gz" for name in missing)
                raise ConnectionError(
                    f"{error}. MNIST needs {wanted} (unpacked or not) in {raw}; or use --data sample, "
                    "which needs no network"
                ) from None
        with writing.beside(raw / name) as part:
            part.write_bytes(gzip.decompress(packed.read_bytes()))
            if md5(part) != unpacked:
                raise ValueError(f"{packed} unpacks to something that is not {name}; delete it and run again")
    return raw


def _whole(path: Path, download: bool) -> bool:
    """Whether an official file is there and undamaged; says so when it is damaged."""
    if not path.exists():
        return False
    if md5(path) == FILES[path.name][1]:
        return True
    say(f"{path} is damaged or cut short: its checksum is wrong{': fetching it again' if download else ''}")
    return False


def own(path: Path) -> Path:
    """The folder that holds the four files of a user's data: the path itself, or `raw` or `MNIST/raw` below it."""
    for folder in (path, path / "raw", path / "MNIST" / "raw"):
        if all((folder / name).exists() or (folder / f"{name}.gz").exists() for name in FILES):
            return folder
    raise FileNotFoundError(f"{path} does not hold MNIST's four files ({', '.join(FILES)}; .gz is fine)")


def _split(raw: Path, part: str) -> Split:
    images, labels = (
        _existing(raw / f"{part}-images-idx3-ubyte"),
        _existing(raw / f"{part}-labels-idx1-ubyte"),
    )
    pixels, targets = read_idx(images, 3), read_idx(labels, 1)
    if len(pixels) != len(targets):
        raise ValueError(f"{images} holds {len(pixels)} images, but {labels} holds {len(targets)} labels")
    if not len(targets):
        raise ValueError(f"{images} holds no images")
    if pixels.shape[1:] != (SIDE, SIDE):
        raise ValueError(f"{images} holds {pixels.shape[1]}×{pixels.shape[2]} images; MNIST's are {SIDE}×{SIDE}")
    # (N, 28, 28) -> (N, 1, 28, 28): one channel
    return Split(torch.from_numpy(pixels)[:, None], torch.from_numpy(targets).long())


def _existing(path: Path) -> Path:
    return path if path.exists() else path.with_name(path.name + ".gz")


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes, gzipped or not.

    The format: two zero bytes, a type (8: unsigned byte), the number of dimensions, each size as a big-endian 32-bit
    number, then the values. http://yann.lecun.com/exdb/mnist/

    Raises:
        ValueError: The file is empty, cut short or too long, no plain file, or its first bytes are not those of such a
            file; or what it unpacks to is above `files.MOST`.
    """
    header = 4 + 4 * dimensions

    def shape_of(start: bytes) -> list[int]:
        if start[:4] != bytes((0, 0, 8, dimensions)):
            raise ValueError(
                f"{path} is no IDX file of bytes in {dimensions} dimensions: "
                f"it starts with {start[:4].hex(' ')}, not {bytes((0, 0, 8, dimensions)).hex(' ')}"
            )
        return [int(size) for size in np.frombuffer(start, ">u4", dimensions, 4)]

    if path.suffix == ".gz":
        content = files.gunzipped(path, lambda start: header + math.prod(shape_of(start)), header)
    else:
        content = files.content(path)
    if len(content) < header:
        raise ValueError(f"{path} is {'empty' if not content else 'cut short'}: {len(content)} bytes")
    shape = shape_of(content)
    expected = header + math.prod(shape)
    if len(content) != expected:
        more = " or more" if path.suffix == ".gz" else ""
        raise ValueError(
            f"{path} is {'cut short' if len(content) < expected else 'too long'}: "
            f"{len(content)} bytes{more}, but {' × '.join(map(str, shape))} values need {expected}"
        )
    if max(shape) > files.MOST:  # beside a size of 0: numpy cannot count that far
        raise ValueError(f"{path} is damaged: it holds {' × '.join(map(str, shape))} values")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()


def write_idx(path: Path, values: np.ndarray) -> None:
    """Write unsigned bytes as an IDX file, in one step."""
    header = bytes((0, 0, 8, values.ndim)) + np.asarray(values.shape, ">u4").tobytes()
    with writing.beside(path) as part:
        part.write_bytes(header + np.ascontiguousarray(values, np.uint8).tobytes())
