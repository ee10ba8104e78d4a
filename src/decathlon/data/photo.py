"""Any picture, as anybody may have it, brought to 32×32 in colour; and folders of pictures, a folder a class."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import track
from torch import Tensor

from decathlon.data import files as files_
from decathlon.data import say
from decathlon.data.digit import open_image

SIDE = 32
READING = (
    "upright (EXIF), RGB, transparency on white; shorter side scaled to 32 (bicubic), longer one cropped to its middle"
)
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
SIDES = ("train", "test", "val")
THREADS = 2  # decoding holds Python's lock in part: more bring nothing


@dataclass(frozen=True)
class Folder:
    """A folder of pictures, listed but not read.

    Attributes:
        path: The folder.
        classes: Names of the classes, sorted.
        files: Of each side, the files below `path` with the number of their class; undivided pictures are all `train`.
        key: Hash of all names, sizes and times of change, for caches.
    """

    path: Path
    classes: list[str]
    files: dict[str, list[tuple[str, int]]]
    key: str


def picture(path: str | Path) -> tuple[Tensor, list[str]]:
    """Read one picture for `predict`.

    Returns:
        uint8 (3, 32, 32), and what was done to the picture that the user should know.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is no picture, damaged, or larger than 50 million pixels.
    """
    pixels, (wide, high) = read(path)
    notes = [] if min(wide, high) == SIDE else [f"scaled from {wide}×{high} to {SIDE}×{SIDE}"]
    if wide != high:
        notes.append(f"cropped to its middle: the network sees squares, this is {wide}×{high}")
    return torch.from_numpy(pixels), notes


def answers(inputs: list[str], ask: Callable[[Tensor], dict[str, Any]]) -> list[dict[str, Any]]:
    """One answer a photo: the path, what `ask` gives for its picture uint8 (3, 32, 32), and what was done to it."""
    found = []
    for path in inputs:
        image, notes = picture(path)
        found.append({"input": path, **ask(image), "notes": notes})
    return found


def read(path: str | Path) -> tuple[np.ndarray, tuple[int, int]]:
    """Read a picture upright and in colour, its shorter side scaled to 32, the longer one cropped to its middle.

    Returns:
        uint8 (3, 32, 32), and the width and height it had.

    Raises:
        FileNotFoundError, ValueError: As `picture`.
    """
    image = open_image(str(path))
    size = image.size
    try:
        image = in_colour(image)
        if size != (SIDE, SIDE):
            image = ImageOps.fit(image, (SIDE, SIDE), Image.Resampling.BICUBIC)  # antialiased where it shrinks
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be brought to {SIDE}×{SIDE} in colour: {error}") from None
    return np.asarray(image).transpose(2, 0, 1).copy(), size  # (32, 32, 3) -> (3, 32, 32)


def in_colour(image: Image.Image) -> Image.Image:
    """Any picture as RGB; what is transparent becomes white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    if image.mode.startswith(("I", "F")):  # 16 bits and more, which convert() would clip
        values = np.nan_to_num(np.asarray(image, np.float32))
        whole = 1.0 if image.mode == "F" and values.max() <= 1 else 255.0  # fractions are written from 0 to 1
        top = 65535.0 if image.mode.startswith("I;16") else max(whole, float(values.max()))
        image = Image.fromarray((values * (255 / top)).clip(0, 255).astype(np.uint8))
    return image.convert("RGB")


def listed(path: Path) -> Folder:
    """List a folder of pictures: `<class>/*`, or `train/<class>/*` with `test/` or `val/` or both beside it.

    Raises:
        ValueError: There are no two classes, a class is missing on a side, or its folder is empty: names it.
    """
    divided = (path / "train").is_dir() and bool(_folders(path / "train"))  # else `train` is a class, of trains
    sides = [side for side in SIDES if (path / side).is_dir()] if divided else [""]
    classes = _folders(path / sides[0])
    files_.class_names(classes, path / sides[0])
    if len(classes) < 2:
        held = ", ".join(classes) or "none"
        raise ValueError(
            f"{path / sides[0]} must hold a folder of pictures for each of two or more classes, not {held}"
        )
    files: dict[str, list[tuple[str, int]]] = {}
    digest, passed_over = hashlib.sha256(), 0
    if more := sorted(set(_folders(path)) - set(sides)) if divided else []:
        say(f"{path}: passed over {', '.join(more)}: what is divided lies in {', '.join(SIDES)}")
    for side in sides:
        for name in sorted(set(classes) ^ set(_folders(path / side))):
            has, lacks = (sides[0], side) if name in classes else (side, sides[0])
            raise ValueError(f"{path / lacks} has no folder {name!r}, but {path / has} has: both need the same classes")
        files[side or "train"] = found = []
        for number, name in enumerate(classes):
            names, others = _pictures(path / side / name)
            if not names:
                inner = "; sides must be called " + ", ".join(SIDES) if _folders(path / side / name) else ""
                raise ValueError(f"{path / side / name} holds no picture ({', '.join(ENDINGS)}){inner}")
            passed_over += others
            found += [(f"{side or '.'}/{name}/{file}", number) for file, *_ in names]
            digest.update(repr((side, name, names)).encode())
    if passed_over:
        say(f"{path}: passed over {passed_over:,} in the folders of the classes: not {', '.join(ENDINGS)}")
    return Folder(path, classes, files, digest.hexdigest()[:16])


def _folders(path: Path) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not hidden(entry.name))


def hidden(name: str) -> bool:
    """Whether a file or folder is not the user's: `.DS_Store`, or what macOS puts into an archive."""
    return name.startswith(".") or name == "__MACOSX"


def _pictures(path: Path) -> tuple[list[tuple[str, int, int, int]], int]:
    """Name and stamp of each picture in a folder; and how many other files and folders there are."""
    found, others = [], 0
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_file() and not hidden(entry.name) and entry.name.lower().endswith(ENDINGS):
                found.append((entry.name, *files_.stamp(entry.stat())))
            else:
                others += not hidden(entry.name)
    return sorted(found), others


def decode(folder: Folder) -> tuple[np.ndarray, np.ndarray]:
    """Read all pictures of a folder, side after side, with a progress bar; says how many had another size.

    Returns:
        Pixels, uint8 (N, 3, 32, 32), and labels, int64 (N,).

    Raises:
        ValueError: A picture cannot be read: names it.
    """
    files = [file for side in folder.files.values() for file in side]
    pixels = np.empty((len(files), 3, SIDE, SIDE), np.uint8)
    scaled = 0
    with ThreadPoolExecutor(THREADS) as pool:
        read_all = pool.map(lambda file: read(folder.path / file[0]), files)
        what = f"reading {len(files):,} pictures (once; cached)"
        rows = track(read_all, what, total=len(files), console=Console(stderr=True), transient=True)
        for number, (image, size) in enumerate(rows):
            pixels[number] = image
            scaled += size != (SIDE, SIDE)
    if scaled:
        say(f"{folder.path}: {scaled:,} of {len(files):,} pictures scaled and cropped to {SIDE}×{SIDE}")
    return pixels, np.array([label for _, label in files], np.int64)
