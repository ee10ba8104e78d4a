"""CIFAR-10: 60,000 colour pictures of 32×32 in ten classes (Krizhevsky 2009, Learning Multiple Layers of Features).

Read from torchvision's folder or archive (pickled batches), from the release in plain bytes, or from a folder of
pictures `cifar10/{train,test}/<class>/`. A user's own pictures: such a folder with any classes. What was read is kept
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

from decathlon.data import Data, Source, Split, cache, divided, drawn, files, photo, pickled
from decathlon.data.download import fetch, md5

VERSION = "1"  # of what the cache holds: raise it when reading changes
SIZE = 3 * photo.SIDE * photo.SIDE
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]  # label 0 to 9
URL = "https://www.cs.toronto.edu/~kriz/"
# Archives and their MD5. The second is fetched: its batches are plain bytes, where a pickle could be a program.
ARCHIVES = {
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
}
# The batches' MD5, as torchvision gives them; nobody gives those of the plain batches.
PICKLED = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
PLAIN = [f"{name}.bin" for name in PICKLED]
COUNTS = {"train": 50_000, "test": 10_000}
LARGEST = 1 << 29  # bytes of a batch, and of all that an archive unpacks to: the release has 186 million


@dataclass(frozen=True)
class Pictures:
    """Pictures read, side after side: uint8 (N, 3, 32, 32), int64 (N,), and how many each side has."""

    pixels: np.ndarray
    labels: np.ndarray
    sides: dict[str, int]


def load(source: Source) -> Data:
    """Read CIFAR-10, the drawn sample, or the user's own pictures.

    Returns:
        Images as uint8 (N, 3, 32, 32), labels as int64 (N,); `meta` holds `classes`.

    Raises:
        FileNotFoundError: Nothing is there and nothing may be downloaded; says what to put where.
        ConnectionError: It could not be downloaded.
        ValueError: A file or folder is not as it must be: names it.
    """
    if source.kind == "own":
        assert source.path is not None
        name, place = f"own:{source.path.resolve().name}", released(source.path) or source.path
    elif source.kind == "sample":
        name, place = "cifar10-sample", drawn.pictures(source.folder / "sample" / f"cifar10-{drawn.VERSION}")
    else:
        name, place = "cifar10", official(source)
    if released(place):
        classes = CLASSES
        held = sorted(path for path in place.iterdir() if path.is_file()) if place.is_dir() else [place]
        # Its kind, too: what the user's own may hold is no proof that its checksums were found right.
        key = _hash([source.kind, *((path.name, files.stamp(path.stat())) for path in held)])
        found = cached(source, key, lambda: batches(place, source.kind == "official"))
    elif place.is_dir():
        folder = photo.listed(place)
        classes = folder.classes
        if source.kind == "official":
            name = _copy(folder)
        sides = {side: len(listed) for side, listed in folder.files.items()}
        found = cached(source, folder.key, lambda: Pictures(*photo.decode(folder), sides))
    else:
        raise ValueError(f"{place} is neither a folder of pictures nor an archive of CIFAR-10 ({', '.join(ARCHIVES)})")
    own_pictures = source.kind == "own" and not released(place)
    train, validation, test = _splits(found, place, classes, own_pictures)
    return Data(name, train, validation, test, {"classes": classes})


def official(source: Source) -> Path:
    """What the data folder holds of CIFAR-10, its archive downloaded where there is nothing.

    Raises:
        FileNotFoundError, ConnectionError: As `load`.
    """
    pictures = source.folder / "cifar10"
    found = released(source.folder) or (pictures if pictures.is_dir() else None)
    if found:
        return found
    name, checksum = list(ARCHIVES.items())[1]
    if not source.download:
        raise FileNotFoundError(f"CIFAR-10 is not in {source.folder}: neither {' nor '.join(ARCHIVES)} nor cifar10/")
    try:
        return fetch([URL + name], source.folder / name, checksum)
    except ConnectionError as error:
        raise ConnectionError(
            f"{error}; {next(iter(ARCHIVES))} or its folder is fine, too; or use --data sample, which needs no network"
        ) from None


def released(path: Path) -> Path | None:
    """The folder or archive in the format of the release that is `path` or lies in it; None where there is none."""
    if path.is_file():
        return path if path.name.endswith((".tar.gz", ".tgz", ".tar")) else None
    names = ("cifar-10-batches-py", "cifar-10-python.tar.gz", "cifar-10-batches-bin", "cifar-10-binary.tar.gz")
    places = [path, *(path / name for name in names)]
    return next((p for p in places if p.is_file() or any((p / name).exists() for name in (*PICKLED, *PLAIN))), None)


def _copy(folder: photo.Folder) -> str:
    """Name of an official folder of pictures: JPEG files are not quite the pictures of the release."""
    if wrong := set(folder.classes) ^ set(CLASSES):
        raise ValueError(
            f"{folder.path} must hold the classes {', '.join(CLASSES)}: {', '.join(sorted(wrong))} is missing, or none "
            "of them; other pictures: --data PATH"
        )
    sides = {side: len(listed) for side, listed in folder.files.items()}
    if sides.keys() != COUNTS.keys():
        raise ValueError(f"{folder.path} must hold train/ and test/, not {', '.join(sides)} alone")
    endings = {Path(file).suffix.lower().lstrip(".") for listed in folder.files.values() for file, _ in listed}
    kind = "-".join(sorted({"jpeg" if ending == "jpg" else ending for ending in endings}))
    return f"cifar10-{kind}" + ("" if sides == COUNTS else f"-{sum(sides.values())}")


def _splits(found: Pictures, place: Path, classes: list[str], by_class: bool) -> tuple[Split, Split, Split]:
    """Training, validation and test, as `divided` says. Raises ValueError where a class is not trained on."""
    whole = Split(torch.from_numpy(found.pixels), torch.from_numpy(found.labels))
    parts, start = {}, 0
    for side, count in found.sides.items():
        parts[side] = whole[start : start + count]
        start += count
    train, validation, test = divided(parts, place, by_class=by_class)
    learned = set(train.targets.tolist())
    if missing := [name for number, name in enumerate(classes) if number not in learned]:
        raise ValueError(f"{place} holds too few pictures of {', '.join(missing)}: none is left to train on")
    # Start values look at the first training pictures, which lie class by class where nothing was held out of them.
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0)) if "val" in parts else slice(None)
    return train[order], validation, test


# --- The cache --------------------------------------------------------------------------------------------------------


def cached(source: Source, key: str, make: Callable[[], Pictures]) -> Pictures:
    """What `make` gives, kept in the data folder under this key; where it cannot be kept, it is said."""

    def made() -> dict[str, np.ndarray]:
        found = make()
        sides, counts = np.array(list(found.sides)), np.array(list(found.sides.values()))
        return {"pixels": found.pixels, "labels": found.labels, "sides": sides, "counts": counts}

    file = cache.arrays(source.folder / "cache" / f"cifar10-{VERSION}-{key}.npz", made)
    kept = dict(zip(file["sides"].tolist(), file["counts"].tolist(), strict=True))
    return Pictures(file["pixels"], file["labels"], kept)


def _hash(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


# --- The release's batches --------------------------------------------------------------------------------------------


def batches(place: Path, official: bool) -> Pictures:
    """Read the six batches, pickled or plain, of a folder or an archive; nothing is unpacked to disk.

    Raises:
        FileNotFoundError: A batch is missing.
        ValueError: A batch or the archive is damaged, or not the official one where it should be; names it.
    """
    if place.is_file() and official and md5(place) != ARCHIVES[place.name]:
        raise ValueError(f"{place} is damaged or cut short: its checksum is wrong; delete it and run again")
    contents = _archive(place) if place.is_file() else _folder(place)
    names = PLAIN if PLAIN[0] in contents else list(PICKLED)
    pixels, labels = [], []
    for name in names:
        if name not in contents:
            advice = "; delete it and run again, or put the whole release there" if official else ""
            raise FileNotFoundError(f"{place} has no {name}, a batch of CIFAR-10{advice}")
        content = contents[name]
        if official and name in PICKLED and hashlib.md5(content, usedforsecurity=False).hexdigest() != PICKLED[name]:
            raise ValueError(f"{place / name} is damaged: its checksum is wrong; delete {place} and run again")
        rows = plain_batch(content, place / name) if name in PLAIN else pickled_batch(content, place / name)
        pixels.append(rows[0])
        labels.append(rows[1])
    sides = {"train": sum(map(len, labels[:-1])), "test": len(labels[-1])}
    if official and sides != COUNTS:
        raise ValueError(f"{place} holds {sides} pictures, not {COUNTS}: delete it and run again")
    return Pictures(np.concatenate(pixels), np.concatenate(labels), sides)


def _folder(place: Path) -> dict[str, bytes]:
    names = [name for name in (*PLAIN, *PICKLED) if (place / name).exists()]
    return {name: files.content(place / name, LARGEST) for name in names}


def _archive(place: Path) -> dict[str, bytes]:
    """The batches in a tar file, by name."""
    contents = {}
    for member, file in files.members(place, LARGEST, 100):
        name = Path(member).name
        if name in PICKLED or name in PLAIN:
            with files.telling(place):
                contents[name] = file.read()
    return contents


def plain_batch(content: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a label's byte and 3,072 bytes of pixels: red, green, blue, each row by row.

    Format: https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version".

    Returns:
        uint8 (N, 3, 32, 32) and int64 (N,).

    Raises:
        ValueError: The size does not fit, or a label is none of 0 to 9.
    """
    if not content or len(content) % (SIZE + 1):
        raise ValueError(f"{path} is damaged or cut short: {len(content)} bytes are no whole number of {SIZE + 1}")
    rows = np.frombuffer(content, np.uint8).reshape(-1, SIZE + 1)
    return _checked(rows[:, 1:], rows[:, 0], path)


def pickled_batch(content: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A pickled dict with `data`, uint8 (N, 3072), and `labels`. Nothing in the pickle is run.

    Returns:
        uint8 (N, 3, 32, 32) and int64 (N,).

    Raises:
        ValueError: It is no such pickle, or asks for anything but arrays.
    """
    try:
        batch = pickled.read(content)
        if type(batch) is not dict or not {"data", "labels"} <= set(batch):
            raise ValueError("it holds no table with data and labels")
        pixels, labels = pickled.array(batch["data"]), batch["labels"]
        if type(labels) is not list:
            labels = pickled.array(labels)
        elif not all(type(label) is int and 0 <= label < len(CLASSES) for label in labels):
            raise ValueError(f"its labels are none of 0 to {len(CLASSES) - 1}")
    except ValueError as error:
        raise ValueError(f"{path} is no batch of CIFAR-10: {error}") from None
    return _checked(pixels, np.asarray(labels), path)


def _checked(pixels: np.ndarray, labels: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray]:
    if pixels.dtype != np.uint8 or labels.ndim != 1 or pixels.shape != (len(labels), SIZE):
        raise ValueError(f"{path} holds {pixels.dtype} {pixels.shape}, not uint8 (N, {SIZE}) with N labels")
    if not len(labels) or labels.min() < 0 or labels.max() >= len(CLASSES):
        raise ValueError(f"{path} has labels that are none of 0 to {len(CLASSES) - 1}, or none at all")
    return pixels.reshape(-1, 3, photo.SIDE, photo.SIDE), labels.astype(np.int64)
