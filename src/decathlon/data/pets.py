"""Oxford-IIIT Pet: photos of cats and dogs with a trimap each (Parkhi, Vedaldi, Zisserman and Jawahar 2012, CVPR).

Read from the official layout, `oxford-iiit-pet/{images,annotations}`. A user's own photos: that layout, or a folder
`images/` beside a folder `masks/` with files of the same names, divided into `train/`, `test/` (and `val/`) or not.

There is no DataLoader: a photo is needed at the network's input size only, and 7,349 of them at 128×128 are 0.5 GB.
All are decoded once, kept in the data folder's `cache`, and indexed and augmented a batch at a time in memory. What
must keep its own size is the truth to measure with; compressed it takes some 5 kB a photo, and is unpacked when asked.
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
from rich.console import Console
from rich.progress import track
from torch import Tensor

from decathlon import writing
from decathlon.data import Data, Source, Split, cache, divided, drawn_pets, files, say
from decathlon.data.digit import held, open_image
from decathlon.data.download import fetch, md5
from decathlon.data.photo import ENDINGS, SIDES, THREADS, in_colour

VERSION = "1"  # of what the cache holds: raise it when reading changes
URL = "https://www.robots.ox.ac.uk/~vgg/data/pets/data/"
ARCHIVES = {"images": "5c4f3ee8e5d25df40f4fd59a7f44e54c", "annotations": "95a8c909bbe2e81eed6a22bccdf3f68f"}
COUNTS = {"train": 3680, "test": 3669}
PET, BACKGROUND, BOUNDARY = 1, 2, 3  # values of a trimap
UNPACKED = (1 << 32, 100_000)  # bytes and files that an archive may have: some five times as many as they have


@dataclass(frozen=True)
class Pets(Split):
    """Photos uint8 (N, 3, S, S), and how much of each pixel is pet, 0 to 255: uint8 (N, 1, S, S).

    Attributes:
        packed: The trimaps of all photos at their own size, each compressed, one after the other: uint8 (bytes,).
        places: From where to where in `packed` each photo's trimap lies, and its height and width: int64 (N, 4).
    """

    packed: np.ndarray
    places: Tensor

    def __getitem__(self, index: Any) -> Pets:
        return replace(self, inputs=self.inputs[index], targets=self.targets[index], places=self.places[index])

    def to(self, device: torch.device | str) -> Pets:
        """The same photos on this device; the trimaps stay packed where they are."""
        inputs, targets, places = (part.to(device) for part in (self.inputs, self.targets, self.places))
        return replace(self, inputs=inputs, targets=targets, places=places)

    def trimap(self, number: int) -> Tensor:
        """The truth of one photo at its own size: uint8 (H, W) of 1 pet, 2 background, 3 boundary."""
        start, end, high, wide = self.places[number].tolist()
        values = zlib.decompress(self.packed[start:end].tobytes())
        return torch.frombuffer(bytearray(values), dtype=torch.uint8).view(high, wide)


class Pair(NamedTuple):
    """A photo and its mask, which `official` masks have as a trimap."""

    side: str
    photo: Path
    mask: Path
    official: bool


def load(source: Source, size: int) -> Data:
    """Read Oxford-IIIT Pet, the drawn sample, or the user's own photos and masks, scaled to `size` × `size`.

    Returns:
        Splits of `Pets`; `meta` holds `classes`: background, and pet, or mask where the masks are the user's own.

    Raises:
        FileNotFoundError: Nothing is there and nothing may be downloaded, or a listed photo or its mask is absent.
        ConnectionError: It could not be downloaded.
        ValueError: A file is not as it must be: names it.
    """
    if source.kind == "own":
        assert source.path is not None
        name, place = f"own:{source.path.resolve().name}", source.path
    elif source.kind == "sample":
        name, place = "pets-sample", drawn_pets.pictures(source.folder / "sample" / f"pets-{drawn_pets.VERSION}")
    else:
        name, place = "pets", official(source)
    pairs = listed(place)
    counts = {side: sum(pair.side == side for pair in pairs) for side in SIDES}
    if source.kind == "official" and {side: count for side, count in counts.items() if count} != COUNTS:
        name = f"pets-{len(pairs)}"
    stamps = [(*pair, *files.stamp(pair.photo.stat()), *files.stamp(pair.mask.stat())) for pair in pairs]
    key = hashlib.sha256(repr(stamps).encode())
    path = source.folder / "cache" / f"pets-{VERSION}-{size}-{key.hexdigest()[:16]}.npz"
    found = cache.arrays(path, lambda: decode(pairs, size))
    whole = Pets(
        torch.from_numpy(found["photos"]),
        torch.from_numpy(found["masks"]),
        found["packed"],
        torch.from_numpy(found["places"]),
    )
    numbers = {side: [number for number, pair in enumerate(pairs) if pair.side == side] for side in SIDES}
    train, validation, test = divided({side: whole[chosen] for side, chosen in numbers.items() if chosen}, place)
    return Data(name, train, validation, test, {"classes": ["background", "pet" if pairs[0].official else "mask"]})


def official(source: Source) -> Path:
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
        if archive.exists() and md5(archive) != checksum:
            raise ValueError(f"{archive} is damaged or cut short: its checksum is wrong; delete it and run again")
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
    with writing.told(folder), writing.scratch(folder) as part:
        files.unpack(archive, part, lambda name: name, *UNPACKED)
        if not (part / folder.name).is_dir():
            raise ValueError(f"{archive} is damaged: it holds no folder {folder.name}; delete it and run again")
        writing.settle(part / folder.name, folder)


# --- Which photos there are -------------------------------------------------------------------------------------------


def listed(place: Path) -> list[Pair]:
    """The photos with their masks, side after side.

    Raises:
        FileNotFoundError: A photo or mask is absent: names it.
        ValueError: It is neither layout, or there are too few photos.
    """
    if (place / "oxford-iiit-pet").is_dir():
        place = place / "oxford-iiit-pet"
    if (place / "annotations").is_dir():
        pairs = _official_pairs(place)
    else:
        sides = [side for side in SIDES if (place / side).is_dir()] if (place / "train").is_dir() else [""]
        pairs = [pair for side in sides for pair in _own_pairs(place, side)]
    if sum(pair.side == "train" for pair in pairs) < 3:
        raise ValueError(f"{place} holds too few photos to train on and to measure with: {len(pairs)}")
    return pairs


def _official_pairs(place: Path) -> list[Pair]:
    """What annotations/trainval.txt and test.txt list: a name first in each line."""
    pairs = []
    for side, file in (("train", "trainval.txt"), ("test", "test.txt")):
        lists = place / "annotations" / file
        if not lists.exists():
            raise FileNotFoundError(f"{lists} is missing: it lists the photos of the split")
        for line in files.text(lists).splitlines():
            if line.strip() and not line.startswith("#"):
                name = line.split()[0]
                if "/" in name or "\\" in name or name.startswith("."):
                    raise ValueError(f"{lists} lists {name!r}, which is no name of a photo")
                pair = Pair(side, place / "images" / f"{name}.jpg", place / "annotations/trimaps" / f"{name}.png", True)
                for path in pair[1:3]:
                    if not path.exists():
                        raise FileNotFoundError(f"{path} is missing, but {lists} lists {name}")
                pairs.append(pair)
    return pairs


def _own_pairs(place: Path, side: str) -> list[Pair]:
    images, masks = place / side / "images", place / side / "masks"
    for folder in (images, masks):
        if not folder.is_dir():
            raise ValueError(
                f"{folder} is no folder: --data needs images/ and masks/, divided into train/ and test/ or not, "
                "or the layout of Oxford-IIIT Pet"
            )
    of_name = {path.stem: path for path in sorted(masks.iterdir()) if path.suffix.lower() in ENDINGS}
    photos = [path for path in sorted(images.iterdir()) if path.suffix.lower() in ENDINGS]
    for path in photos:
        if path.stem not in of_name:
            raise FileNotFoundError(f"{path} has no mask: there is no {masks / path.stem}.png")
    if alone := set(of_name) - {path.stem for path in photos}:
        say(f"{masks}: {len(alone):,} masks passed over, which have no photo ({min(alone)} for one)")
    return [Pair(side or "train", path, of_name[path.stem], False) for path in photos]


# --- Reading ----------------------------------------------------------------------------------------------------------


def decode(pairs: list[Pair], size: int) -> dict[str, np.ndarray]:
    """Read all photos and masks, with a progress bar.

    Returns:
        photos, masks, packed and places, as `Pets` has them.

    Raises:
        ValueError: A file cannot be read, or a mask does not fit its photo: names it.
    """
    count = len(pairs)
    photos, masks = np.empty((count, 3, size, size), np.uint8), np.empty((count, 1, size, size), np.uint8)
    places, packed, start, turned = np.empty((count, 4), np.int64), list[bytes](), 0, 0
    with ThreadPoolExecutor(THREADS) as pool:
        read_all = pool.map(lambda pair: _prepared(pair, size), pairs)
        what = f"reading {count:,} photos and masks (once; cached)"
        rows = track(read_all, what, total=count, console=Console(stderr=True), transient=True)
        for number, (photo, mask, truth, shape, was_turned) in enumerate(rows):
            photos[number], masks[number] = photo, mask
            packed.append(truth)
            places[number] = start, start + len(truth), *shape
            start, turned = start + len(truth), turned + was_turned
    if turned:
        say(f"{turned:,} masks turned as their photos' EXIF data say: they fitted the photo as stored, not upright")
    return {
        "photos": photos,
        "masks": masks,
        "packed": np.frombuffer(b"".join(packed), np.uint8),
        "places": places,
    }


def _prepared(pair: Pair, size: int) -> tuple[np.ndarray, np.ndarray, bytes, tuple[int, ...], bool]:
    """Photo and mask scaled, the trimap compressed, its height and width, and whether it was turned."""
    image, trimap, turned = read(pair)
    mask = Image.fromarray(np.where(trimap == BACKGROUND, 0, 255).astype(np.uint8))
    return scaled(image, size), scaled(mask, size), zlib.compress(trimap.tobytes()), trimap.shape, turned


def scaled(image: Image.Image, size: int) -> np.ndarray:
    """A picture stretched to `size` × `size`, antialiased where it shrinks: uint8 (C, size, size)."""
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)  # (S, S, C) -> (C, S, S)


def read(pair: Pair) -> tuple[Image.Image, np.ndarray, bool]:
    """Read a photo upright and in colour, and its trimap.

    A mask belongs to the photo as one sees it, upright. One that fits only the photo as its file stores it is turned
    with it. Where both fit, as in a square photo or one that was held upside down, the mask is taken to be upright.

    Returns:
        The photo, its trimap uint8 (H, W), and whether that was turned.

    Raises:
        ValueError: A file cannot be read, the mask does not fit or holds foreign values: names it.
    """
    image, mask = open_image(str(pair.photo)), open_image(str(pair.mask))
    turned = False
    if mask.size != image.size and mask.size == image.size[::-1]:
        how = held(pair.photo)
        if how >= 5:  # the values that swap width and height
            mask, turned = mask.transpose(_TURNS[how]), True
    if mask.size != image.size:
        wide, high = image.size
        raise ValueError(
            f"{pair.mask} has {mask.width}×{mask.height} pixels, its photo {pair.photo.name} {wide}×{high}"
        )
    try:
        photo = in_colour(image)
    except (ValueError, OSError) as error:
        raise ValueError(f"{pair.photo} cannot be brought to colour: {error}") from None
    return photo, trimap_of(mask, pair), turned


# EXIF's values for photos held sideways, and what brings them upright (CIPA DC-008, "Orientation").
_TURNS = {
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def trimap_of(mask: Image.Image, pair: Pair) -> np.ndarray:
    """A mask as a trimap uint8 (H, W): an official one as it is, an own one from 0 and 1 or 0 and 255.

    Raises:
        ValueError: It holds other values: names them.
    """
    if mask.mode not in ("1", "L", "P", "I;16", "I"):
        mask = mask.convert("RGB").convert("L")
    values = np.asarray(mask).astype(np.int64)  # of a palette the numbers count, not its colours
    found = np.unique(values)
    if pair.official:
        if not set(found) <= {PET, BACKGROUND, BOUNDARY}:
            raise ValueError(
                f"{pair.mask} holds the values {_few(found)}; a trimap has 1 pet, 2 background, 3 boundary"
            )
        return values.astype(np.uint8)
    if not any(set(found) <= {0, top} for top in (1, 255, 65535)):
        raise ValueError(
            f"{pair.mask} holds the values {_few(found)}; a mask has 0 for the background and one of 1, 255 for what "
            "is looked for (JPEG blurs them: save masks as PNG)"
        )
    return np.where(values > 0, PET, BACKGROUND).astype(np.uint8)


def _few(values: np.ndarray) -> str:
    words = [str(value) for value in values[:6].tolist()]
    return ", ".join(words) + (", …" if len(values) > 6 else "")
