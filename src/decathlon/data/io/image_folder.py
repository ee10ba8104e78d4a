"""Any image, converted to 32×32 in colour; and image folders with a folder for each class."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from decathlon.data.io.cifar_image import IMAGE_SIZE as IMAGE_SIZE  # the tasks take both from here
from decathlon.data.io.cifar_image import PREPROCESSING as PREPROCESSING
from decathlon.data.io.cifar_image import prepare_cifar_image, resize_and_crop
from decathlon.data.io.files import check_class_names, file_stamp
from decathlon.data.io.images import DECODING_THREADS, IMAGE_SUFFIXES, ImageRemarks, content_hash, open_image
from decathlon.data.io.listing import (
    ONLY_SPLITS,
    SPLITS,
    check_no_splits,
    clean_name,
    find_splits,
    has_suffix,
    list_folder,
    raise_errors,
    similar_names,
    warn_unused,
)
from decathlon.messages import some, warn

# Folders of data with boxes or masks, which would be taken for two or three classes: one of the first, or two.
VOC_FOLDERS = {"jpegimages", "segmentationclass", "segmentationobject", "imagesets"}
LAYOUT_FOLDERS = VOC_FOLDERS | {"images", "masks", "labels", "annotations"}


@dataclass(frozen=True)
class ImageFolder:
    """A folder of images, listed but not read.

    Attributes:
        path: The folder.
        classes: Names of the classes, sorted.
        files: Of each split, the files below `path` with the number of their class; undivided images are all `train`.
        key: Hash of all names, sizes and times of change, for caches.
    """

    path: Path
    classes: list[str]
    files: dict[str, list[tuple[str, int]]]
    key: str


def read_image(path: str | Path) -> tuple[Tensor, list[str]]:
    """The image at a path, as `prepare_cifar_image` gives it. Raises as `open_image` as well."""
    return prepare_cifar_image(open_image(str(path)), str(path))


def list_images(path: Path, own: bool = False) -> ImageFolder:
    """List a folder of images: `<class>/*`, or `train/<class>/*` with `test/` or `val/` or both beside it.

    Args:
        path: The folder.
        own: Whether it is a user's own, whose class names are cleaned and compared.

    Raises:
        ValueError: There are no two classes, a class is missing in a split, its folder is empty, or two class names
            are the same but for blanks: names it.
    """
    splits = find_splits(path, lambda folder: bool(_folders(folder)))  # else `train` is a class, of trains
    tops = splits or {"train": path}
    folders = _folders(tops["train"])
    classes = [clean_name(name) for name in folders] if own else folders
    check_class_names(classes, tops["train"])
    other = LAYOUT_FOLDERS & {name.casefold() for name in classes}
    if other & VOC_FOLDERS or len(other) > 1:
        raise ValueError(
            f"{path} holds {some(sorted(other))}: folders of data with boxes or masks, not of classes; for these "
            "there are other tasks"
        )
    check_no_splits(classes, tops["train"])
    if len(classes) < 2:
        held = ", ".join(classes) or "none"
        raise ValueError(f"{tops['train']} must hold a folder of images for each of two or more classes, not {held}")
    digest, passed_over, files = hashlib.sha256(), list[str](), dict[str, list[tuple[str, int]]]()
    if splits:
        warn_unused(path, splits.values(), ONLY_SPLITS)
    for split, top in tops.items():
        side = top.name if splits else ""
        here = _folders(top)
        warn_unused(top, list_folder(top)[1], "only the folders of the classes are read")
        for name in sorted(set(folders) ^ set(here)):
            has, lacks = (tops["train"], top) if name in folders else (top, tops["train"])
            raise ValueError(f"{lacks} has no folder {name!r}, but {has} has: both need the same classes")
        files[split] = listed = []
        for number, name in enumerate(folders):
            names, others = _images(top / name)
            if not names:
                inner = "; splits must be named " + ", ".join(SPLITS) if _folders(top / name) else ""
                raise ValueError(f"{top / name} contains no images ({', '.join(IMAGE_SUFFIXES)}){inner}")
            passed_over += [str((top / name / other).relative_to(path)) for other in others]
            listed += [(f"{side or '.'}/{name}/{file}", number) for file, *_ in names]
            digest.update(repr((side, name, names)).encode())
    if passed_over:
        phones = any(has_suffix(Path(other), (".heic", ".heif")) for other in passed_over)
        warn(
            f"{path}: ignored {len(passed_over):,} in the folders of the classes ({some(passed_over)}): "
            f"not {', '.join(IMAGE_SUFFIXES)}" + ("; convert HEIC to JPEG" if phones else "")
        )
    if own:
        for remark in similar_names(classes):
            warn(f"{path}: the classes {remark}")
    return ImageFolder(path, classes, files, digest.hexdigest()[:16])


def _folders(path: Path) -> list[str]:
    return [folder.name for folder in list_folder(path)[1]]


def _images(path: Path) -> tuple[list[tuple[str, int, int, int]], list[str]]:
    """Name and stamp of each image in a folder; and the names of other files and of folders."""
    files, folders = list_folder(path)
    images = [file for file in files if has_suffix(file, IMAGE_SUFFIXES) and file.is_file()]
    others = sorted({file.name for file in [*files, *folders]} - {file.name for file in images})
    return [(file.name, *file_stamp(file.stat())) for file in images], others


def decode_images(folder: ImageFolder) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read all images of a folder, split after split, with a progress bar; says how many had another size.

    Returns:
        Pixels, uint8 (N, 3, 32, 32); labels, int64 (N,); and a hash of each image at its own size, str (N,).

    Raises:
        ValueError: Images cannot be read: names ten of them.
    """
    from rich.progress import track

    from decathlon.data.io.console import CONSOLE

    files = [file for side in folder.files.values() for file in side]
    pixels = np.empty((len(files), 3, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    scaled, digests, remarks, errors = 0, list[str](), ImageRemarks(), list[Exception]()

    def read(file: tuple[str, int]) -> tuple[np.ndarray, tuple[int, int], str] | Exception:
        path = folder.path / file[0]
        try:
            image = open_image(str(path))
            remarks.add(image, file[0].removeprefix("./"))
            return resize_and_crop(image, str(path)), image.size, content_hash(image)
        except (ValueError, OSError) as error:
            return error

    with ThreadPoolExecutor(DECODING_THREADS) as pool:
        what = f"reading {len(files):,} images (once; cached)"
        results = track(pool.map(read, files), what, len(files), console=CONSOLE, transient=True)
        for number, result in enumerate(results):
            if isinstance(result, Exception):
                errors.append(result)
                continue
            pixels[number], size, digest = result
            digests.append(digest)
            scaled += size != (IMAGE_SIZE, IMAGE_SIZE)
    raise_errors(errors, folder.path)
    if scaled:
        warn(f"{folder.path}: {scaled:,} of {len(files):,} images scaled and cropped to {IMAGE_SIZE}×{IMAGE_SIZE}")
    remarks.report(folder.path)
    return pixels, np.array([label for _, label in files], np.int64), np.array(digests)
