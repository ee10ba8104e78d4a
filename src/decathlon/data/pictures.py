"""Pictures of many sizes with boxes, decoded once into one file of plain bytes, of which an example reads its part."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor

from decathlon import writing
from decathlon.data import cache, say
from decathlon.data.annotations import Annotation
from decathlon.data.digit import held, open_image
from decathlon.data.files import stamp
from decathlon.data.photo import in_colour

VERSION = "2"  # of what the cache holds: raise it when reading changes
THREADS = 2  # decoding holds Python's lock in part: more bring nothing
ALIKE = 0.02  # by which two aspect ratios may differ and count as the same


@dataclass(frozen=True)
class Pictures:
    """Decoded pictures and the boxes in them.

    Attributes:
        pixels: uint8, flat: picture after picture, each (height, width, 3). A file, mapped into memory.
        offsets: int64 (N + 1,), where each begins in `pixels`.
        sizes: int64 (N, 2), height and width of each as decoded.
        originals: int64 (N, 2), height and width of its file, upright.
        boxes: float32 (M, 4), left, top, right, bottom in pixels of the file, upright.
        labels: int64 (M,), 1 is the first class: 0 is the background.
        difficult: bool (M,).
        rows: int64 (N + 1,), where the boxes of each picture begin.
        classes: Names of the classes.
        sides: Names of the sides into which the pictures are divided, one after the other.
        counts: int64, how many pictures each side has.
    """

    pixels: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    originals: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    rows: np.ndarray
    classes: np.ndarray
    sides: np.ndarray
    counts: np.ndarray

    def picture(self, number: int) -> Tensor:
        """uint8 (3, height, width), a copy."""
        high, wide = self.sizes[number]
        part = np.array(self.pixels[self.offsets[number] : self.offsets[number + 1]])
        return torch.from_numpy(part.reshape(high, wide, 3)).permute(2, 0, 1)  # (H, W, 3) -> (3, H, W)


# --- One picture ------------------------------------------------------------------------------------------------------


def read(path: Path) -> tuple[Image.Image, int]:
    """Read a picture of any kind, upright and in colour, and how its camera was held (EXIF orientation, 1 to 8).

    Raises:
        FileNotFoundError, ValueError: As `open_image`.
    """
    image = open_image(str(path))
    try:
        return in_colour(image), held(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be brought into colour: {error}") from None


def scaled(image: Image.Image, longest: int) -> Image.Image:
    """The picture, made smaller where its longer side has more than `longest` pixels."""
    factor = longest / max(image.size)
    if factor >= 1:
        return image
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    return image.resize(size, Image.Resampling.BICUBIC)  # antialiased


def turned(boxes: np.ndarray, orientation: int, wide: float, high: float) -> np.ndarray:
    """Boxes (M, 4) on a picture of this size as stored -> on the same picture upright (EXIF 2.32, tag 0112)."""
    left, top, right, bottom = boxes.T
    if orientation in (5, 6, 7, 8):  # rows become columns
        left, top, right, bottom, wide, high = top, left, bottom, right, high, wide
    if orientation in (2, 3, 6, 7):
        left, right = wide - right, wide - left
    if orientation in (3, 4, 7, 8):
        top, bottom = high - bottom, high - top
    return np.stack([left, top, right, bottom], 1)


def fitted(found: Annotation, size: tuple[int, int], orientation: int) -> tuple[np.ndarray, bool]:
    """The boxes of an annotation in pixels of its picture, upright, with width and height `size`; not yet clipped.

    The size in the annotation says to what they refer: to the upright picture, to the picture as stored (which they
    are turned with), or to one that was scaled since (which they are scaled with).

    Returns:
        float64 (M, 4), and whether they had to be scaled.

    Raises:
        ValueError: The annotation's size is of a picture of another shape.
    """
    boxes = np.array(found.boxes, np.float64).reshape(-1, 4)
    claimed = found.size or size
    stored = size[::-1] if orientation >= 5 else size
    for meant, turn in ((size, 1), (stored, orientation)):
        # A size of the same shape; where upright and stored are of one shape, upright it is.
        if abs(np.log(claimed[0] * meant[1] / (claimed[1] * meant[0]))) < ALIKE:
            factor = meant[0] / claimed[0], meant[1] / claimed[1]
            return turned(boxes * (factor * 2), turn, *meant), claimed != meant
    raise ValueError(
        f"{found.where} is of a picture of {claimed[0]}×{claimed[1]}, but {found.picture} is {size[0]}×{size[1]}"
    )


# --- All of them ------------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What was done to boxes, to be said once."""

    clipped: int = 0
    dropped: int = 0
    scaled: int = 0

    def told(self, what: str) -> None:
        """Say what is not nothing."""
        if self.clipped:
            say(f"{what}: {self.clipped:,} boxes reached out of their pictures and were clipped to them")
        if self.dropped:
            say(f"{what}: {self.dropped:,} boxes lay outside of their pictures and were left out")
        if self.scaled:
            say(f"{what}: {self.scaled:,} pictures are not of the size in their annotations; boxes were scaled to fit")


def decode(sides: dict[str, list[Annotation]], classes: Sequence[str], longest: int, out: Path, what: str) -> Pictures:
    """Decode the pictures of all sides into the file `out`, with a progress bar, and bring their boxes to them.

    Raises:
        ValueError: A picture cannot be read, a class is unknown, or boxes are of a picture of another shape: names it.
        OSError: The disk is full.
    """
    numbers, tally = {name: number for number, name in enumerate(classes, 1)}, Tally()
    annotations = [found for side in sides.values() for found in side]
    sizes, originals, boxes, labels, difficult, rows = [], [], [], list[int](), list[bool](), [0]
    for found in annotations:
        if unknown := [name for name in found.names if name not in numbers]:
            raise ValueError(f"{found.where} names an unknown class {unknown[0]!r}; known are: {', '.join(classes)}")

    def one(found: Annotation) -> tuple[np.ndarray, tuple[int, int], int]:
        image, orientation = read(found.picture)
        return np.asarray(scaled(image, longest)), image.size, orientation

    with ThreadPoolExecutor(THREADS) as pool, out.open("wb") as file:
        message = f"reading {len(annotations):,} pictures (once; cached)"
        ahead, console = _ahead(pool, one, annotations), Console(stderr=True)
        results = track(ahead, message, len(annotations), console=console, transient=True)
        for found, (pixels, size, orientation) in zip(annotations, results, strict=True):
            file.write(pixels.tobytes())
            fit, was_scaled = fitted(found, size, orientation)
            inside, kept = clipped(fit, size, tally)
            tally.scaled += was_scaled and len(fit) > 0
            sizes.append(pixels.shape[:2])
            originals.append(size[::-1])
            boxes.append(inside[kept])
            labels += [numbers[name] for name, keep in zip(found.names, kept, strict=True) if keep]
            difficult += [hard for hard, keep in zip(found.difficult, kept, strict=True) if keep]
            rows.append(len(labels))
    tally.told(what)
    shapes = np.array(sizes, np.int64)
    return Pictures(
        pixels=np.empty(0, np.uint8),
        offsets=np.concatenate([[0], np.cumsum(shapes.prod(1) * 3)]),
        sizes=shapes,
        originals=np.array(originals, np.int64),
        boxes=np.concatenate(boxes).astype(np.float32),
        labels=np.array(labels, np.int64),
        difficult=np.array(difficult, bool),
        rows=np.array(rows, np.int64),
        classes=np.array(classes),
        sides=np.array(list(sides)),
        counts=np.array([len(side) for side in sides.values()], np.int64),
    )


def clipped(boxes: np.ndarray, size: tuple[int, int], tally: Tally) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (M, 4) cut at the edges of a picture of this width and height, and which have anything left: bool (M,).

    One pixel too far is not counted: half the world counts pixels from 0 and half from 1.
    """
    inside = boxes.clip(0, (*size, *size))
    kept = (inside[:, 2] - inside[:, 0] > 0.5) & (inside[:, 3] - inside[:, 1] > 0.5)
    tally.clipped += int(((abs(inside - boxes) > 1.01).any(1) & kept).sum())
    tally.dropped += int((~kept).sum())
    return inside, kept


def _ahead(pool: ThreadPoolExecutor, work: Callable, items: Sequence, many: int = 64) -> Iterable:
    """Like `pool.map`, but at most `many` results wait to be used: pictures are large."""
    waiting = []
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= many:
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()


# --- The cache --------------------------------------------------------------------------------------------------------


def hashed(files: Iterable[Path], *more: object) -> str:
    """A key of these files' names and stamps, and of whatever else is given."""
    digest = hashlib.sha256(repr(more).encode())
    for path in files:
        digest.update(repr((str(path), stamp(path.stat()))).encode())
    return digest.hexdigest()[:16]


def cached(path: Path, make: Callable[[Path], Pictures]) -> Pictures:
    """The pictures kept at `path`.bin and `path`.npz, made where they are not there whole.

    `make` is given the file to write pixels to. Both are written beside and moved into place, the tables last.

    Raises:
        OSError: They cannot be written: says how large they were to be.
    """
    tables, bytes_ = path.with_name(path.name + ".npz"), path.with_name(path.name + ".bin")
    if tables.exists():
        try:
            return _opened(tables, bytes_)
        except Exception:  # damaged bytes fail in any way
            say(f"{path} is damaged: making it again")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing.scratch(bytes_) as pixels, writing.scratch(tables) as rest:
            made = vars(make(pixels)) | {"checksum": _checksum(pixels)}
            with rest.open("wb") as file:
                np.savez(file, **{name: value for name, value in made.items() if name != "pixels"})
            writing.settle(pixels, bytes_)
            writing.settle(rest, tables)
    except OSError as error:
        if error.errno not in (*writing.FULL, *writing.SHUT):
            raise
        raise OSError(f"the decoded pictures could not be kept in {path.parent}: {error.strerror}") from None
    return _opened(tables, bytes_)


def _opened(tables: Path, bytes_: Path) -> Pictures:
    kept: dict[str, Any] = cache.opened(tables)
    if _checksum(bytes_) != kept.pop("checksum"):
        raise ValueError("the pixels were changed or cut short")
    return Pictures(pixels=np.memmap(bytes_, np.uint8, "r"), **kept)


def _checksum(path: Path) -> int:
    """CRC-32: it finds damage, at a gigabyte a second or more, and brings the file into memory on the way."""
    found = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            found = zlib.crc32(chunk, found)
    return found
