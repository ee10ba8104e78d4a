"""Oxford-IIIT Pet: images of cats and dogs with a trimap each (Parkhi, Vedaldi, Zisserman and Jawahar 2012, CVPR).

Read from the official layout, `oxford-iiit-pet/{images,annotations}`. A user's own images: that layout, or a folder
`images/` beside a folder `masks/`, or masks beside their images, divided into splits or not (`data/io/own_masks.py`).

There is no DataLoader: an image is needed at the network's input size only, and 7,349 of them at 128×128 are 0.5 GB.
All are decoded once, kept in the data folder's `cache`, and indexed and augmented a batch at a time in memory. What
must keep its own size is the truth to measure with; compressed it takes some 5 kB an image, and is unpacked when asked.
"""

from __future__ import annotations

import hashlib
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from decathlon.data.base import Data, DataInfo, Source, Split
from decathlon.data.divide import Contents, split_three_ways
from decathlon.data.io import archives, atomic, cache, files
from decathlon.data.io.download import fetch, require_checksum
from decathlon.data.io.images import (
    DECODING_THREADS,
    ImageRemarks,
    content_hash,
    open_image,
    to_rgb,
)
from decathlon.data.io.listing import SPLITS, raise_errors
from decathlon.data.io.own_masks import compare_foregrounds, list_own_masks, name_values, read_foreground
from decathlon.data.synthetic import pets
from decathlon.messages import say, some, warn

VERSION = "2"  # of what the cache holds: raise it when reading changes
OWN_VERSION = "own-4"  # the same of a user's own
URL = "https://www.robots.ox.ac.uk/~vgg/data/pets/data/"
ARCHIVES = {"images": "5c4f3ee8e5d25df40f4fd59a7f44e54c", "annotations": "95a8c909bbe2e81eed6a22bccdf3f68f"}
COUNTS = {"train": 3680, "test": 3669}
PET, BACKGROUND, BOUNDARY = 1, 2, 3  # values of a trimap
MAX_UNPACKED = (1 << 32, 100_000)  # bytes and files that an archive may have: some five times as many as they have


@dataclass(frozen=True)
class SegmentationSplit(Split):
    """Images uint8 (N, 3, S, S), and how much of each pixel is pet, 0 to 255: uint8 (N, 1, S, S).

    Attributes:
        packed: The trimaps of all images at their own size, each compressed, one after the other: uint8 (bytes,).
        slices: From where to where in `packed` each image's trimap lies, and its height and width: int64 (N, 4).
    """

    packed: np.ndarray
    slices: Tensor

    def __getitem__(self, index: Any) -> SegmentationSplit:
        return replace(self, inputs=self.inputs[index], targets=self.targets[index], slices=self.slices[index])

    def to(self, device: torch.device | str) -> SegmentationSplit:
        """The same images on this device; the trimaps stay packed where they are."""
        inputs, targets, slices = (part.to(device) for part in (self.inputs, self.targets, self.slices))
        return replace(self, inputs=inputs, targets=targets, slices=slices)

    def trimap(self, number: int) -> Tensor:
        """The truth of one image at its own size: uint8 (H, W) of 1 pet, 2 background, 3 boundary."""
        start, end, height, width = self.slices[number].tolist()
        values = zlib.decompress(self.packed[start:end].tobytes())
        return torch.frombuffer(bytearray(values), dtype=torch.uint8).view(height, width)


class Pair(NamedTuple):
    """An image and its mask, which `official` masks have as a trimap."""

    side: str
    image: Path
    mask: Path
    official: bool


def load(source: Source, size: int) -> Data:
    """Read Oxford-IIIT Pet, the drawn sample, or the user's own images and masks, scaled to `size` × `size`.

    Returns:
        Splits of `SegmentationSplit`; `info.classes` are background and pet (mask where the masks are the user's own).

    Raises:
        FileNotFoundError: Nothing is there and nothing may be downloaded, or a listed image or its mask is absent.
        ConnectionError: It could not be downloaded.
        ValueError: A file is not as it must be: names it.
    """
    own = source.kind == "own"
    if own:
        assert source.path is not None
        name, folder = f"own:{source.path.resolve().name}", source.path
    elif source.kind == "sample":
        name, folder = "pets-sample", pets.write_pets(source.folder / "sample" / f"pets-{pets.VERSION}")
    else:
        name, folder = "pets", find_official(source)
    pairs = list_pairs(folder, source.options.mask_suffix)
    counts = {side: sum(pair.side == side for pair in pairs) for side in SPLITS}
    if source.kind == "official" and {side: count for side, count in counts.items() if count} != COUNTS:
        name = f"pets-{len(pairs)}"
    stamps = [
        (pair.side, pair.official, *((str(path.absolute()), files.file_stamp(path.stat())) for path in pair[1:3]))
        for pair in pairs
    ]
    key = hashlib.sha256((OWN_VERSION if own else "").encode() + repr(stamps).encode())
    path = source.folder / "cache" / f"pets-{VERSION}-{size}-{key.hexdigest()[:16]}.npz"
    arrays = cache.load_or_make(path, lambda: decode_pairs(pairs, size, folder if own else None), keep_warnings=own)
    whole = SegmentationSplit(
        torch.from_numpy(arrays["images"]),
        torch.from_numpy(arrays["masks"]),
        arrays["packed"],
        torch.from_numpy(arrays["slices"]),
    )
    numbers = {side: [number for number, pair in enumerate(pairs) if pair.side == side] for side in SPLITS}
    numbers = {side: chosen for side, chosen in numbers.items() if chosen}
    contents = None
    if own:
        known = Contents(arrays["digests"].tolist(), [str(pair.image.relative_to(folder)) for pair in pairs])
        contents = {side: known.select(chosen) for side, chosen in numbers.items()}
    splits = {side: whole[chosen] for side, chosen in numbers.items()}
    train, validation, test = split_three_ways(splits, folder, contents=contents)
    return Data(name, train, validation, test, DataInfo(["background", "pet" if pairs[0].official else "mask"]))


def find_official(source: Source) -> Path:
    """The folder oxford-iiit-pet, unpacked from its two archives where it is missing, and they downloaded.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: As `load`.
    """
    folder = source.folder / "oxford-iiit-pet"
    for name, checksum in ARCHIVES.items():
        if (folder / name).is_dir():
            continue
        archive = folder / f"{name}.tar.gz"
        if not archive.exists() and not source.download:
            raise FileNotFoundError(f"Oxford-IIIT Pet is not in {source.folder}: neither {folder / name} nor {archive}")
        require_checksum(archive, checksum)
        try:
            unpack(archive if archive.exists() else fetch([URL + archive.name], archive, checksum), folder / name)
        except ConnectionError as error:
            raise ConnectionError(
                f"{error}, or unpacked as {folder / name}; or use --data sample, which needs no network"
            ) from None
    return folder


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive whose files all lie in a folder of the name of `folder`; it is there whole or not at all.

    Raises:
        ValueError: The archive is damaged, or its files would land elsewhere.
    """
    say(f"unpacking {archive}")
    with atomic.naming_errors(folder), atomic.temporary_path(folder) as part:
        archives.unpack(archive, part, lambda name: name, *MAX_UNPACKED)
        if not (part / folder.name).is_dir():
            raise ValueError(f"{archive} is damaged: it contains no folder {folder.name}; delete it and run again")
        atomic.replace_path(part / folder.name, folder)


# --- Which images there are -------------------------------------------------------------------------------------------


def list_pairs(folder: Path, suffix: str = "") -> list[Pair]:
    """The images with their masks, split after split.

    Args:
        folder: Of the official layout, or as `own_masks.list_own_masks` describes.
        suffix: Of a mask's name after its image's, in a user's own folder.

    Raises:
        FileNotFoundError: An image or mask is absent: names it.
        ValueError: It is neither layout, or there are too few images.
    """
    if (folder / "oxford-iiit-pet").is_dir():
        folder = folder / "oxford-iiit-pet"
    if (folder / "annotations" / "trimaps").is_dir() or (folder / "annotations" / "trainval.txt").exists():
        pairs = _official_pairs(folder)
    else:
        pairs = [Pair(*paths, False) for paths in list_own_masks(folder, suffix)]
    if sum(pair.side == "train" for pair in pairs) < 3:
        raise ValueError(f"{folder} holds too few images to train on and to measure with: {len(pairs)}")
    return pairs


def _official_pairs(folder: Path) -> list[Pair]:
    """What annotations/trainval.txt and test.txt list: a name first in each line."""
    pairs, errors = [], list[Exception]()
    for side, file in (("train", "trainval.txt"), ("test", "test.txt")):
        lists = folder / "annotations" / file
        if not lists.exists():
            raise FileNotFoundError(f"{lists} is missing: it lists the images of the split")
        for line in files.read_text(lists).splitlines():
            if line.strip() and not line.startswith("#"):
                name = line.split()[0]
                if "/" in name or "\\" in name or name.startswith("."):
                    raise ValueError(f"{lists} lists {name!r}, which is not the name of an image")
                mask = folder / "annotations/trimaps" / f"{name}.png"
                pair = Pair(side, folder / "images" / f"{name}.jpg", mask, True)
                for path in pair[1:3]:
                    if not path.exists():
                        errors.append(FileNotFoundError(f"{path} is missing, but {lists} lists {name}"))
                pairs.append(pair)
    raise_errors(errors, folder)
    return pairs


# --- Reading ----------------------------------------------------------------------------------------------------------


def decode_pairs(pairs: list[Pair], size: int, own: Path | None = None) -> dict[str, np.ndarray]:
    """Read all images and masks, with a progress bar.

    Args:
        pairs: The images and masks.
        size: To which they are scaled.
        own: The user's folder, where they are his own: then copies of images can be found, and colours are compared.

    Returns:
        images, masks, packed and slices, as `SegmentationSplit` has them; of a user's own `digests`, too.

    Raises:
        ValueError: Files cannot be read, or masks do not fit their images: names ten of them.
    """
    from rich.progress import track

    from decathlon.data.io.console import CONSOLE

    count, errors, remarks = len(pairs), list[Exception](), ImageRemarks()
    images, masks = (np.empty((count, channels, size, size), np.uint8) for channels in (3, 1))
    slices, packed, start, turned = np.empty((count, 4), np.int64), list[bytes](), 0, dict[str, list[str]]()
    digests, foregrounds = list[str](), dict[str, list[str]]()

    def read(pair: Pair) -> Prepared | Exception:
        try:
            return _prepare(pair, size, remarks if own is not None else None)
        except (ValueError, OSError) as error:
            return error

    with ThreadPoolExecutor(DECODING_THREADS) as pool:
        what = f"reading {count:,} images and masks (once; cached)"
        rows = track(pool.map(read, pairs), what, total=count, console=CONSOLE, transient=True)
        for number, row in enumerate(rows):
            if isinstance(row, Exception):
                errors.append(row)
                continue
            images[number], masks[number] = row.pixels, row.mask
            packed.append(row.trimap)
            slices[number] = start, start + len(row.trimap), *row.shape
            start += len(row.trimap)
            turned.setdefault(row.turned, []).append(pairs[number].image.name)
            digests.append(row.digest)
            foregrounds.setdefault(row.foreground, []).append("/".join(pairs[number].mask.parts[-2:]))
    raise_errors(errors, own or pairs[0].image.parents[1])
    if names := turned.get("turned"):
        warn(
            f"{len(names):,} masks turned as their images' EXIF data say: they fitted the image as stored, not upright"
        )
    arrays: dict[str, np.ndarray] = {"images": images, "masks": masks, "slices": slices}
    arrays["packed"] = np.frombuffer(b"".join(packed), np.uint8)
    if own is not None:
        if names := turned.get("assumed"):
            warn(
                f"{own}: {len(names):,} images are stored turned (EXIF), and their masks fit them either way: they are "
                f"taken to be of the upright images, so look at some ({some(names)})"
            )
        compare_foregrounds(foregrounds, own)
        remarks.report(own)
    return arrays | ({"digests": np.array(digests)} if own is not None else {})


class Prepared(NamedTuple):
    """An image and its mask, scaled; the trimap, compressed, with its height and width; what is to be said of them."""

    pixels: np.ndarray
    mask: np.ndarray
    trimap: bytes
    shape: tuple[int, ...]
    turned: str
    digest: str
    foreground: str


def _prepare(pair: Pair, size: int, remarks: ImageRemarks | None) -> Prepared:
    image, mask, turned = _open_pair(pair)
    if remarks is not None:
        remarks.add(image, pair.image.name)
    trimap, foreground = to_trimap(mask, pair)
    rgb = _to_rgb(image, pair.image)
    scaled = Image.fromarray(np.where(trimap == BACKGROUND, 0, 255).astype(np.uint8))
    shape, content = trimap.shape, zlib.compress(trimap.tobytes())
    digest = content_hash(rgb) if remarks is not None else ""
    return Prepared(resize(rgb, size), resize(scaled, size), content, shape, turned, digest, foreground)


def resize(image: Image.Image, size: int) -> np.ndarray:
    """An image stretched to `size` × `size`, antialiased where it shrinks: uint8 (C, size, size)."""
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)  # (S, S, C) -> (C, S, S)


def read_pair(pair: Pair) -> tuple[Image.Image, np.ndarray, bool]:
    """Read an image upright and as RGB, and its trimap.

    Returns:
        The image, its trimap uint8 (H, W), and whether that was turned, as `_open_pair` does it.

    Raises:
        ValueError: A file cannot be read, the mask does not fit or holds foreign values: names it.
    """
    image, mask, turned = _open_pair(pair)
    return _to_rgb(image, pair.image), to_trimap(mask, pair)[0], turned == "turned"


def _open_pair(pair: Pair) -> tuple[Image.Image, Image.Image, str]:
    """Open an image and its mask, upright.

    A mask belongs to the image as one sees it, upright. One that fits only the image as its file stores it is turned
    with it. Where both fit, as in a square image or one that was held upside down, the mask is taken to be upright.

    Returns:
        The image, the mask, and whether that was `turned`, or its frame `assumed`; else an empty string.

    Raises:
        ValueError: A file cannot be read, or the mask does not fit: names it.
    """
    opened, errors = list[Image.Image](), list[Exception]()
    for path in (pair.image, pair.mask):
        try:
            opened.append(open_image(str(path)))
        except (ValueError, OSError) as error:
            errors.append(error)
    if len(errors) > 1:
        raise ValueError("; ".join(map(str, errors)))
    if errors:
        raise errors[0]
    image, mask = opened
    how, turned = image.info["orientation"], ""
    if mask.size == image.size:
        turned = "assumed" if 1 < how < 5 or (how >= 5 and image.width == image.height) else ""
    elif how >= 5 and mask.size == image.size[::-1]:  # the values that swap width and height
        mask, turned = mask.transpose(_TURNS[how]), "turned"
    if mask.size != image.size:
        width, height = image.size
        raise ValueError(
            f"{pair.mask} has {mask.width}×{mask.height} pixels, its image {pair.image.name} {width}×{height}"
        )
    return image, mask, turned


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    try:
        return to_rgb(image)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be converted to RGB: {error}") from None


# EXIF's values for images held sideways, and what brings them upright (CIPA DC-008, "Orientation").
_TURNS = {
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def to_trimap(mask: Image.Image, pair: Pair) -> tuple[np.ndarray, str]:
    """A mask as a trimap uint8 (H, W): an official one as it is, an own one by `own_masks.read_foreground`.

    Returns:
        The trimap; and of an own one what its foreground is drawn in, "" where it has none.

    Raises:
        ValueError: It holds other values: names them.
    """
    if not pair.official:
        foreground, value = read_foreground(mask, pair.mask)
        return np.where(foreground, PET, BACKGROUND).astype(np.uint8), value
    if mask.mode not in ("1", "L", "P", "I;16", "I"):
        mask = mask.convert("RGB").convert("L")
    values = np.asarray(mask).astype(np.int64)  # of a palette the numbers count, not its colours
    if not set(np.unique(values).tolist()) <= {PET, BACKGROUND, BOUNDARY}:
        raise ValueError(
            f"{pair.mask} holds the values {name_values(values)}; a trimap has 1 pet, 2 background, 3 boundary"
        )
    return values.astype(np.uint8), ""
