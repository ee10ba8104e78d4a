"""Images of many sizes with boxes, decoded once into one file of plain bytes, mapped into memory."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from decathlon.data.io import atomic, cache
from decathlon.data.io.files import file_stamp
from decathlon.data.io.images import DECODING_THREADS, ImageRemarks, content_hash, open_image, to_rgb
from decathlon.data.io.listing import raise_errors
from decathlon.data.io.voc_coco import Annotation
from decathlon.messages import recording_warnings, say, some, warn

VERSION = "2"  # of what the cache holds: raise it when reading changes
ASPECT_TOLERANCE = 0.02  # by which two aspect ratios may differ and count as the same
ReadImage = tuple[np.ndarray, tuple[int, int], int, str]  # pixels, width and height, EXIF orientation, hash


@dataclass(frozen=True)
class DecodedImages:
    """Decoded images and the boxes in them.

    Attributes:
        pixels: uint8, flat: image after image, each (height, width, 3). A file, mapped into memory.
        offsets: int64 (N + 1,), where each begins in `pixels`.
        sizes: int64 (N, 2), height and width of each as decoded.
        originals: int64 (N, 2), height and width of its file, upright.
        boxes: float32 (M, 4), left, top, right, bottom in pixels of the file, upright.
        labels: int64 (M,), 1 is the first class: 0 is the background.
        difficult: bool (M,).
        rows: int64 (N + 1,), where the boxes of each image begin.
        classes: Names of the classes.
        sides: Names of the splits into which the images are divided, one after the other.
        counts: int64, how many images each split has.
        digests: A hash of each image, str (N,), of a user's own; else (0,).
        names: The file of each image, str (N,), of a user's own; else (0,).
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
    digests: np.ndarray = field(default_factory=lambda: np.array([], str))
    names: np.ndarray = field(default_factory=lambda: np.array([], str))

    def image(self, number: int) -> Tensor:
        """uint8 (3, height, width), a copy."""
        height, width = self.sizes[number]
        part = np.array(self.pixels[self.offsets[number] : self.offsets[number + 1]])
        return torch.from_numpy(part.reshape(height, width, 3)).permute(2, 0, 1)  # (H, W, 3) -> (3, H, W)


# --- One image --------------------------------------------------------------------------------------------------------


def read_image(path: Path, remarks: ImageRemarks | None = None) -> tuple[Image.Image, int]:
    """Read an image of any kind, upright and as RGB, and how its camera was held (EXIF orientation, 1 to 8).

    Args:
        path: The file.
        remarks: Takes what was assumed of it.

    Raises:
        FileNotFoundError, ValueError: As `open_image`.
    """
    image = open_image(str(path))
    if remarks is not None:
        remarks.add(image, path.name)
    try:
        return to_rgb(image), image.info["orientation"]
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be converted to RGB: {error}") from None


def shrink(image: Image.Image, longest: int) -> Image.Image:
    """The image, made smaller where its longer side has more than `longest` pixels."""
    factor = longest / max(image.size)
    if factor >= 1:
        return image
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    return image.resize(size, Image.Resampling.BICUBIC)  # antialiased


def orient_boxes(boxes: np.ndarray, orientation: int, width: float, height: float) -> np.ndarray:
    """Boxes (M, 4) on an image of this size as stored -> on the same image upright (EXIF 2.32, tag 0112)."""
    left, top, right, bottom = boxes.T
    if orientation in (5, 6, 7, 8):  # rows become columns
        left, top, right, bottom, width, height = top, left, bottom, right, height, width
    if orientation in (2, 3, 6, 7):
        left, right = width - right, width - left
    if orientation in (3, 4, 7, 8):
        top, bottom = height - bottom, height - top
    return np.stack([left, top, right, bottom], 1)


def is_square(size: tuple[int, int]) -> bool:
    """Whether width and height are the same, as far as sizes in annotations are compared."""
    return bool(abs(np.log(size[0] / size[1])) < ASPECT_TOLERANCE)


def fit_boxes(annotation: Annotation, size: tuple[int, int], orientation: int) -> tuple[np.ndarray, bool]:
    """The boxes of an annotation in pixels of its image, upright, with width and height `size`; not yet clipped.

    The size in the annotation says to what they refer: to the upright image, to the image as stored (which they
    are turned with), or to one that was scaled since (which they are scaled with).

    Returns:
        float64 (M, 4), and whether they had to be scaled.

    Raises:
        ValueError: The annotation's size is of an image of another shape.
    """
    boxes = np.array(annotation.boxes, np.float64).reshape(-1, 4)
    if annotation.normalized:
        return boxes * (*size, *size), False
    claimed = annotation.size or size
    stored = size[::-1] if orientation >= 5 else size
    for meant, turn in ((size, 1), (stored, orientation)):
        # A size of the same shape; where upright and stored are of one shape, upright it is.
        if abs(np.log(claimed[0] * meant[1] / (claimed[1] * meant[0]))) < ASPECT_TOLERANCE:
            factor = meant[0] / claimed[0], meant[1] / claimed[1]
            return orient_boxes(boxes * (factor * 2), turn, *meant), claimed != meant
    raise ValueError(
        f"{annotation.where} is of an image of {claimed[0]}×{claimed[1]}, but {annotation.image_path} is "
        f"{size[0]}×{size[1]}"
    )


# --- All of them ------------------------------------------------------------------------------------------------------


@dataclass
class BoxCounts:
    """What was done to boxes, to be said once: the images of the boxes concerned."""

    clipped: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    scaled: list[str] = field(default_factory=list)
    turned: list[str] = field(default_factory=list)

    def report(self, what: str) -> None:
        """Say what is not nothing."""
        if n := len(self.clipped):
            names = some(self.clipped)
            warn(f"{what}: {n:,} boxes reached out of their images and were clipped to them ({names})")
        if n := len(self.dropped):
            names = some(self.dropped)
            warn(f"{what}: {n:,} boxes outside of their images, or below half a pixel, were left out ({names})")
        if n := len(self.turned):
            warn(
                f"{what}: {n:,} images are stored turned (EXIF), and their annotations do not tell whether boxes are "
                f"of the stored or the upright image: the upright one is taken, so look at some ({some(self.turned)})"
            )
        if n := len(self.scaled):
            warn(
                f"{what}: {n:,} images are not of the size in their annotations; boxes were scaled to fit "
                f"({some(self.scaled)})"
            )


class _Tables:
    """Sizes and boxes of the images that were decoded so far, in the order of the splits."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes, self.counts = list(classes), BoxCounts()
        self.numbers = {name: number for number, name in enumerate(classes, 1)}
        self.sizes, self.originals = list[tuple[int, ...]](), list[tuple[int, int]]()
        self.boxes, self.rows = list[np.ndarray](), [0]
        self.labels, self.difficult, self.digests = list[int](), list[bool](), list[str]()

    def add(self, annotation: Annotation, image: ReadImage) -> None:
        """Take an image and its boxes. Raises ValueError, before anything is taken, as `fit_boxes`."""
        pixels, size, orientation, digest = image
        fit, was_scaled = fit_boxes(annotation, size, orientation)
        inside, valid = clip_boxes(fit, size, self.counts, annotation.image_path.name)
        self.counts.scaled += [annotation.image_path.name] * (was_scaled and len(fit) > 0)
        size_tells = (
            annotation.size is not None and not annotation.normalized and orientation >= 5 and not is_square(size)
        )
        self.counts.turned += [annotation.image_path.name] * (orientation != 1 and len(fit) > 0 and not size_tells)
        self.sizes.append(pixels.shape[:2])
        self.originals.append(size[::-1])
        self.boxes.append(inside[valid])
        self.labels += [self.numbers[name] for name, keep in zip(annotation.names, valid, strict=True) if keep]
        self.difficult += [hard for hard, keep in zip(annotation.difficult, valid, strict=True) if keep]
        self.rows.append(len(self.labels))
        self.digests.append(digest)

    def finish(self, sides: dict[str, list[Annotation]], own: Path | None) -> DecodedImages:
        """All of it as arrays; the pixels are in the file."""
        shapes = np.array(self.sizes, np.int64)
        paths = [annotation.image_path for side in sides.values() for annotation in side]
        return DecodedImages(
            pixels=np.empty(0, np.uint8),
            offsets=np.concatenate([[0], np.cumsum(shapes.prod(1) * 3)]),
            sizes=shapes,
            originals=np.array(self.originals, np.int64),
            boxes=np.concatenate(self.boxes).astype(np.float32),
            labels=np.array(self.labels, np.int64),
            difficult=np.array(self.difficult, bool),
            rows=np.array(self.rows, np.int64),
            classes=np.array(self.classes),
            sides=np.array(list(sides)),
            counts=np.array([len(side) for side in sides.values()], np.int64),
            digests=np.array(self.digests if own is not None else [], str),
            names=np.array([_name(path, own) for path in paths] if own is not None else [], str),
        )


def decode_images(
    sides: dict[str, list[Annotation]],
    classes: Sequence[str],
    longest: int,
    out: Path,
    what: str,
    own: Path | None = None,
) -> DecodedImages:
    """Decode the images of all splits into the file `out`, with a progress bar, and bring their boxes to them.

    Args:
        sides: The annotations of each split.
        classes: Names of the classes.
        longest: Pixels of a longer side.
        out: The file for the pixels.
        what: Names the set in messages.
        own: The user's folder, where they are his own: then copies of images can be found.

    Raises:
        ValueError: Images cannot be read, a class is unknown, or boxes are of an image of another shape: names ten.
        OSError: The disk is full.
    """
    from rich.progress import track

    from decathlon.data.io.console import CONSOLE

    tables, remarks, errors = _Tables(classes), ImageRemarks(), list[Exception]()
    annotations = [annotation for side in sides.values() for annotation in side]
    for annotation in annotations:
        if unknown := [name for name in annotation.names if name not in tables.numbers]:
            known = ", ".join(classes)
            raise ValueError(f"{annotation.where} names an unknown class {unknown[0]!r}; known are: {known}")

    with ThreadPoolExecutor(DECODING_THREADS) as pool, out.open("wb") as file:
        message = f"reading {len(annotations):,} images (once; cached)"
        read = partial(_read_and_shrink, longest=longest, remarks=remarks if own is not None else None)
        ahead, console = _ahead(pool, read, annotations), CONSOLE
        results = track(ahead, message, len(annotations), console=console, transient=True)
        for annotation, result in zip(annotations, results, strict=True):
            try:
                if isinstance(result, Exception):
                    raise result
                tables.add(annotation, result)
            except (ValueError, OSError) as error:
                errors.append(error)
            else:
                file.write(result[0].tobytes())
    raise_errors(errors, Path(what))
    tables.counts.report(what)
    remarks.report(Path(what))
    return tables.finish(sides, own)


def _read_and_shrink(annotation: Annotation, longest: int, remarks: ImageRemarks | None) -> ReadImage | Exception:
    """The image of an annotation, with a hash where remarks are wanted; or the error why it cannot be read."""
    try:
        image, orientation = read_image(annotation.image_path, remarks)
        digest = content_hash(image) if remarks is not None else ""
        return np.asarray(shrink(image, longest)), image.size, orientation, digest
    except (ValueError, OSError) as error:
        return error


def _name(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else path.name


def clip_boxes(
    boxes: np.ndarray, size: tuple[int, int], counts: BoxCounts, name: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (M, 4) cut at the edges of an image of this width and height, and which have anything left: bool (M,).

    One pixel too far is not counted: half the world counts pixels from 0 and half from 1.
    """
    inside = boxes.clip(0, (*size, *size))
    valid = (inside[:, 2] - inside[:, 0] > 0.5) & (inside[:, 3] - inside[:, 1] > 0.5)
    counts.clipped += [name] * int(((abs(inside - boxes) > 1.01).any(1) & valid).sum())
    counts.dropped += [name] * int((~valid).sum())
    return inside, valid


def _ahead(pool: ThreadPoolExecutor, work: Callable, items: Sequence, many: int = 64) -> Iterable:
    """Like `pool.map`, but at most `many` results wait to be used: images are large."""
    waiting = []
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= many:
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()


# --- The cache --------------------------------------------------------------------------------------------------------


def hash_files(files: Iterable[Path], *more: object) -> str:
    """A key of these files' names and stamps, and of whatever else is given."""
    digest = hashlib.sha256(repr(more).encode())
    for path in files:
        digest.update(repr((str(path.absolute()), file_stamp(path.stat()))).encode())
    return digest.hexdigest()[:16]


def load_or_decode(path: Path, make: Callable[[Path], DecodedImages], keep_warnings: bool = False) -> DecodedImages:
    """The images kept at `path`.bin and `path`.npz, made where they are not there whole.

    Both are written beside and moved into place, the tables last.

    Args:
        path: Of the two files, without ending.
        make: Is given the file to write pixels to.
        keep_warnings: Whether what `make` warns of is kept as well, and said again at every start.

    Raises:
        OSError: They cannot be written: says how large they were to be.
    """
    tables, bytes_ = path.with_name(path.name + ".npz"), path.with_name(path.name + ".bin")
    if tables.exists():
        try:
            images, warnings = _opened(tables, bytes_)
        except Exception:  # damaged bytes fail in any way
            say(f"{path} is damaged: making it again")
        else:
            for warning in warnings:
                warn(warning)
            return images
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.temporary_path(bytes_) as pixels, atomic.temporary_path(tables) as rest:
            with recording_warnings() as recorded:
                made = vars(make(pixels))
            made |= {"checksum": _checksum(pixels)}
            if keep_warnings:
                made |= {"warnings": np.array(recorded, str)}
            with rest.open("wb") as file:
                np.savez(file, **{name: value for name, value in made.items() if name != "pixels"})
            atomic.replace_path(pixels, bytes_)
            atomic.replace_path(rest, tables)
    except OSError as error:
        is_of_user = error.filename is not None and not Path(str(error.filename)).is_relative_to(path.parent)
        if is_of_user or error.errno not in (*atomic.DISK_FULL, *atomic.READ_ONLY):
            raise
        raise OSError(f"the decoded images could not be kept in {path.parent}: {error.strerror}") from None
    return _opened(tables, bytes_)[0]


def _opened(tables: Path, bytes_: Path) -> tuple[DecodedImages, list[str]]:
    """The images, and the warnings that are kept with them."""
    arrays: dict[str, Any] = cache.read_arrays(tables)
    if _checksum(bytes_) != arrays.pop("checksum"):
        raise ValueError("the pixels were changed or cut short")
    warnings = arrays.pop("warnings", np.array([], str)).tolist()
    return DecodedImages(pixels=np.memmap(bytes_, np.uint8, "r"), **arrays), warnings


def _checksum(path: Path) -> int:
    """CRC-32: it finds damage, at a gigabyte a second or more, and brings the file into memory on the way."""
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
