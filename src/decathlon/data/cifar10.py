"""CIFAR-10: 60,000 colour images of 32×32 in ten classes (Krizhevsky 2009, Learning Multiple Layers of Features).

Read from torchvision's folder or archive (pickled batches), from the release in plain bytes, or from a folder of
images `cifar10/{train,test}/<class>/`. A user's own images: such a folder with any classes. What was read is kept
in the data folder's `cache`, so that the next start takes a second.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from decathlon.data.base import Data, DataInfo, Source, Split
from decathlon.data.divide import Contents, split_three_ways, warn_contradictions
from decathlon.data.io import archives, cache, files, image_folder
from decathlon.data.io.cifar_image import IMAGE_SIZE
from decathlon.data.io.cifar_pickle import read_published_batch
from decathlon.data.io.download import fetch, require_checksum
from decathlon.data.synthetic import shapes

VERSION = "1"  # of what the cache holds: raise it when reading changes
OWN_VERSION = "own-2"  # the same of a user's own folders of images
VALUES_PER_IMAGE = 3 * IMAGE_SIZE * IMAGE_SIZE
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]  # label 0 to 9
URL = "https://www.cs.toronto.edu/~kriz/"
# Archives and their MD5. The second is fetched: its batches are plain bytes, not pickles.
ARCHIVES = {
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
}
# MD5 of the pickled batches, as torchvision gives them; those of the binary batches are not published.
PYTHON_BATCHES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
BINARY_BATCHES = [f"{name}.bin" for name in PYTHON_BATCHES]
COUNTS = {"train": 50_000, "test": 10_000}
MAX_BATCH_BYTES = 1 << 29  # bytes of a batch, and of all that an archive unpacks to: the release has 186 million


@dataclass(frozen=True)
class CifarArrays:
    """Images as read, split after split.

    Attributes:
        pixels: uint8 (N, 3, 32, 32).
        labels: int64 (N,).
        sides: How many images each split has.
        digests: A hash of each image at its own size, str (N,), of a user's own; else (0,).
    """

    pixels: np.ndarray
    labels: np.ndarray
    sides: dict[str, int]
    digests: np.ndarray


def load(source: Source) -> Data:
    """Read CIFAR-10, the drawn sample, or the user's own images.

    Returns:
        Images as uint8 (N, 3, 32, 32), labels as int64 (N,); `info` holds `classes`.

    Raises:
        FileNotFoundError: Nothing is there and nothing may be downloaded; says what to put where.
        ConnectionError: It could not be downloaded.
        ValueError: A file or folder is not as it must be: names it.
    """
    if source.kind == "own":
        assert source.path is not None
        name, top = f"own:{source.path.resolve().name}", find_release(source.path) or source.path
    elif source.kind == "sample":
        name, top = "cifar10-sample", shapes.write_images(source.folder / "sample" / f"cifar10-{shapes.VERSION}")
    else:
        name, top = "cifar10", find_official(source)
    if find_release(top):
        held = sorted(path for path in top.iterdir() if path.is_file()) if top.is_dir() else [top]
        # Its kind, too: that the user's own was read proves nothing about its checksums.
        key = _hash([source.kind, *((path.name, files.file_stamp(path.stat())) for path in held)])
        arrays = load_or_read(source, key, lambda: read_batches(top, source.kind == "official"))
        train, validation, test = _splits(arrays, top, CLASSES, False)
        return Data(name, train, validation, test, DataInfo(CLASSES))
    if top.is_dir():
        return _load_folder(source, top, name)
    raise ValueError(f"{top} is neither a folder of images nor an archive of CIFAR-10 ({', '.join(ARCHIVES)})")


def _load_folder(source: Source, top: Path, name: str) -> Data:
    """Read a folder of images: the user's own, the sample, or an official copy as images."""
    own = source.kind == "own"
    folder = image_folder.list_images(top, own)
    if source.kind == "official":
        name = _copy(folder)
    sides = {side: len(listed) for side, listed in folder.files.items()}

    def read() -> CifarArrays:
        pixels, labels, digests = image_folder.decode_images(folder)
        return CifarArrays(pixels, labels, sides, digests if own else np.array([], str))

    arrays = load_or_read(source, f"{OWN_VERSION}-{folder.key}" if own else folder.key, read)
    contents = None
    if own:
        files = [file.removeprefix("./") for listed in folder.files.values() for file, _ in listed]
        whole = Contents(arrays.digests.tolist(), files)
        warn_contradictions(whole, arrays.labels.tolist(), folder.classes, top)
        contents, start = {}, 0
        for side, count in sides.items():
            contents[side], start = whole.select(range(start, start + count)), start + count
    train, validation, test = _splits(arrays, top, folder.classes, own, contents)
    return Data(name, train, validation, test, DataInfo(folder.classes))


def find_official(source: Source) -> Path:
    """What the data folder holds of CIFAR-10, its archive downloaded where there is nothing.

    Raises:
        FileNotFoundError, ConnectionError: As `load`.
    """
    images = source.folder / "cifar10"
    if there := find_release(source.folder) or (images if images.is_dir() else None):
        return there
    name, checksum = list(ARCHIVES.items())[1]
    if not source.download:
        raise FileNotFoundError(f"CIFAR-10 is not in {source.folder}: neither {' nor '.join(ARCHIVES)} nor cifar10/")
    try:
        return fetch([URL + name], source.folder / name, checksum)
    except ConnectionError as error:
        raise ConnectionError(
            f"{error}; {next(iter(ARCHIVES))} or its folder is fine, too; or use --data sample, which needs no network"
        ) from None


def find_release(path: Path) -> Path | None:
    """The folder or archive in the format of the release that is `path` or lies in it; None where there is none."""
    if path.is_file():
        return path if path.name.endswith((".tar.gz", ".tgz", ".tar")) else None
    names = ("cifar-10-batches-py", "cifar-10-python.tar.gz", "cifar-10-batches-bin", "cifar-10-binary.tar.gz")
    candidates = [path, *(path / name for name in names)]
    return next(
        (
            p
            for p in candidates
            if p.is_file() or any((p / name).exists() for name in (*PYTHON_BATCHES, *BINARY_BATCHES))
        ),
        None,
    )


def _copy(folder: image_folder.ImageFolder) -> str:
    """Name of an official folder of images: JPEG files are not quite the images of the release."""
    if wrong := set(folder.classes) ^ set(CLASSES):
        raise ValueError(
            f"{folder.path} must hold the classes {', '.join(CLASSES)}: {', '.join(sorted(wrong))} is missing, or none "
            "of them; other images: --data PATH"
        )
    sides = {side: len(listed) for side, listed in folder.files.items()}
    if sides.keys() != COUNTS.keys():
        raise ValueError(f"{folder.path} must hold train/ and test/, not {', '.join(sides)} alone")
    endings = {Path(file).suffix.lower().lstrip(".") for listed in folder.files.values() for file, _ in listed}
    kind = "-".join(sorted({"jpeg" if ending == "jpg" else ending for ending in endings}))
    return f"cifar10-{kind}" + ("" if sides == COUNTS else f"-{sum(sides.values())}")


def _splits(
    arrays: CifarArrays,
    where: Path,
    classes: list[str],
    by_class: bool,
    contents: dict[str, Contents] | None = None,
) -> tuple[Split, Split, Split]:
    """Training, validation and test, as `split_three_ways`. Raises ValueError where a class is not trained on."""
    whole = Split(torch.from_numpy(arrays.pixels), torch.from_numpy(arrays.labels))
    parts, start = {}, 0
    for side, count in arrays.sides.items():
        parts[side] = whole[start : start + count]
        start += count
    train, validation, test = split_three_ways(parts, where, by_class=by_class, contents=contents)
    learned = set(train.targets.tolist())
    if missing := [name for number, name in enumerate(classes) if number not in learned]:
        raise ValueError(f"{where} holds too few images of {', '.join(missing)}: none is left to train on")
    # Start values look at the first training images, which lie class by class where nothing was held out of them.
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0)) if "val" in parts else slice(None)
    return train[order], validation, test


# --- The cache --------------------------------------------------------------------------------------------------------


def load_or_read(source: Source, key: str, read: Callable[[], CifarArrays]) -> CifarArrays:
    """What `read` gives, cached in the data folder under this key; a failure to write the cache is reported."""

    def make() -> dict[str, np.ndarray]:
        arrays = read()
        sides, counts = np.array(list(arrays.sides)), np.array(list(arrays.sides.values()))
        digests = {"digests": arrays.digests} if len(arrays.digests) else {}
        return {"pixels": arrays.pixels, "labels": arrays.labels, "sides": sides, "counts": counts, **digests}

    path = source.folder / "cache" / f"cifar10-{VERSION}-{key}.npz"
    arrays = cache.load_or_make(path, make, source.kind == "own")
    sides = dict(zip(arrays["sides"].tolist(), arrays["counts"].tolist(), strict=True))
    return CifarArrays(arrays["pixels"], arrays["labels"], sides, arrays.get("digests", np.array([], str)))


def _hash(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


# --- The release's batches --------------------------------------------------------------------------------------------


def read_batches(top: Path, official: bool) -> CifarArrays:
    """Read the six batches, pickled or binary, of a folder or an archive; nothing is unpacked to disk.

    Raises:
        FileNotFoundError: A batch is missing.
        ValueError: A batch or the archive is damaged, or a pickled batch is not the published one; names it.
    """
    if top.is_file() and official:
        require_checksum(top, ARCHIVES[top.name])
    contents = _archive(top) if top.is_file() else _folder(top)
    names = BINARY_BATCHES if BINARY_BATCHES[0] in contents else list(PYTHON_BATCHES)
    pixels, labels = [], []
    for name in names:
        if name not in contents:
            advice = "; delete it and run again, or put the whole release there" if official else ""
            raise FileNotFoundError(f"{top} has no {name}, a batch of CIFAR-10{advice}")
        content = contents[name]
        if name in PYTHON_BATCHES:
            rows = _checked(*read_published_batch(content, PYTHON_BATCHES[name], top / name), top / name)
        else:
            rows = parse_binary_batch(content, top / name)
        pixels.append(rows[0])
        labels.append(rows[1])
    sides = {"train": sum(map(len, labels[:-1])), "test": len(labels[-1])}
    if official and sides != COUNTS:
        raise ValueError(f"{top} holds {sides} images, not {COUNTS}: delete it and run again")
    return CifarArrays(np.concatenate(pixels), np.concatenate(labels), sides, np.array([], str))


def _folder(top: Path) -> dict[str, bytes]:
    names = [name for name in (*BINARY_BATCHES, *PYTHON_BATCHES) if (top / name).exists()]
    return {name: files.read_bytes(top / name, MAX_BATCH_BYTES) for name in names}


def _archive(top: Path) -> dict[str, bytes]:
    """The batches in a tar file, by name."""
    contents = {}
    for member, file in archives.iterate_members(top, MAX_BATCH_BYTES, 100):
        name = Path(member).name
        if name in PYTHON_BATCHES or name in BINARY_BATCHES:
            with archives.naming_archive_errors(top):
                contents[name] = file.read()
    return contents


def parse_binary_batch(content: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a label's byte and 3,072 bytes of pixels: red, green, blue, each row by row.

    Format: https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version".

    Returns:
        uint8 (N, 3, 32, 32) and int64 (N,).

    Raises:
        ValueError: The size does not fit, or a label is none of 0 to 9.
    """
    if not content or len(content) % (VALUES_PER_IMAGE + 1):
        raise ValueError(
            f"{path} is damaged or cut short: {len(content)} bytes are no whole number of {VALUES_PER_IMAGE + 1}"
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, VALUES_PER_IMAGE + 1)
    return _checked(rows[:, 1:], rows[:, 0], path)


def _checked(pixels: np.ndarray, labels: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray]:
    if pixels.dtype != np.uint8 or labels.ndim != 1 or pixels.shape != (len(labels), VALUES_PER_IMAGE):
        raise ValueError(f"{path} holds {pixels.dtype} {pixels.shape}, not uint8 (N, {VALUES_PER_IMAGE}) with N labels")
    if not len(labels) or labels.min() < 0 or labels.max() >= len(CLASSES):
        raise ValueError(f"{path} has labels that are none of 0 to {len(CLASSES) - 1}, or none at all")
    return pixels.reshape(-1, 3, IMAGE_SIZE, IMAGE_SIZE), labels.astype(np.int64)
