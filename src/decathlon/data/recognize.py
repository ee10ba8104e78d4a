"""Which data set's reader a user's own path is for."""

from __future__ import annotations

import itertools
from pathlib import Path

from decathlon.data import cifar10, mnist
from decathlon.data.io import yolo
from decathlon.data.io.images import IMAGE_SUFFIXES
from decathlon.data.io.listing import find_folder, find_splits, has_suffix, walk
from decathlon.data.io.own_coco import is_labelme, read_start
from decathlon.data.io.own_masks import IMAGE_FOLDERS, MASK_FOLDERS, find_pairs
from decathlon.data.io.text_tables import TABLE_SUFFIXES
from decathlon.data.read_options import ReadOptions

MAX_FILES = 10_000  # maximum number of files of a folder that are examined
KINDS = {
    "mnist": "IDX files",
    "cifar10": "folders of images",
    "pets": "images with masks",
    "voc": "images with boxes",
    "imdb": "texts",
}


def recognize(path: Path, options: ReadOptions) -> str:
    """Name of the data set whose reader reads such data: `mnist`, `cifar10`, `imdb`, `pets` or `voc`.

    Raises:
        ValueError: It is none of them.
    """
    if path.is_file():
        return _recognize_file(path)
    listed = list(itertools.islice(walk(path), MAX_FILES))
    if any(mnist.OWN_NAME.fullmatch(file.name) for file in listed):
        return "mnist"
    if options.mask_suffix or _has_masks(path):
        return "pets"
    has_images = any(has_suffix(file, IMAGE_SUFFIXES) for file in listed)
    if has_images and (any(_has_boxes(file) for file in listed) or yolo.find_yolo(path)):
        return "voc"
    if has_images or cifar10.find_release(path):
        return "cifar10"
    if any(has_suffix(file, (".txt", *TABLE_SUFFIXES)) for file in listed):
        return "imdb"
    raise ValueError(
        f"{path} holds nothing that can be read: neither images, with masks or boxes or in a folder a class, nor "
        "texts, nor IDX files"
    )


def _recognize_file(path: Path) -> str:
    if has_suffix(path, (".json",)):
        return "voc" if _has_boxes(path) else "imdb"
    if has_suffix(path, TABLE_SUFFIXES):
        return "imdb"
    if has_suffix(path, yolo.CONFIG_SUFFIXES):
        return "voc"
    if cifar10.find_release(path):
        return "cifar10"
    raise ValueError(f"{path} is neither a table of texts nor COCO's JSON: name the folder of the data")


def _has_boxes(file: Path) -> bool:
    """Whether a file is an XML file, COCO's JSON or labelme's, whose reader says what to export."""
    if not has_suffix(file, (".json",)):
        return has_suffix(file, (".xml",))
    start = read_start(file)
    is_coco = b'"images"' in start or b'"annotations"' in start  # the other may follow later
    return start.startswith(b"{") and (is_coco or is_labelme(start))


def _has_masks(path: Path) -> bool:
    if (path / "annotations" / "trimaps").is_dir() or (path / "oxford-iiit-pet").is_dir():
        return True
    if find_folder(path, "segmentationclass") and find_folder(path, "annotations"):
        return False  # PASCAL VOC with both: boxes
    for folder in (path, *find_splits(path).values()):
        if find_folder(folder, *MASK_FOLDERS) and find_folder(folder, *IMAGE_FOLDERS):
            return True
        if find_pairs(folder):
            return True
    return False
