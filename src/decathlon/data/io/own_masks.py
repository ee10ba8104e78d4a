"""A user's own segmentation masks: which image each belongs to, and what of it is foreground."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from decathlon.data.io.images import IMAGE_SUFFIXES
from decathlon.data.io.listing import (
    ONLY_SPLITS,
    find_folder,
    find_splits,
    has_suffix,
    list_folder,
    raise_errors,
    split_name,
    walk,
    warn_unused,
)
from decathlon.messages import some, warn

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages")
MASK_FOLDERS = ("masks", "mask", "segmentationclass")  # this and jpegimages as CVAT exports masks
MAX_VALUES = 6  # values of a wrong mask that an error lists
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
LAYOUTS = (
    "--data needs images/ and masks/, divided into train/ and test/ or not, masks beside the images with "
    "--mask-suffix, or the layout of Oxford-IIIT Pet"
)


# --- Which mask belongs to which image --------------------------------------------------------------------------------


def list_own_masks(folder: Path, suffix: str) -> list[tuple[str, Path, Path]]:
    """Split, image and mask of every image in a user's folder.

    Layouts: `images/` and `masks/`; both in each of `train/`, `val/` and `test/`, or these in each of them; or with a
    suffix masks beside their images. A mask has its image's name, with the suffix before the ending.

    Raises:
        FileNotFoundError: Images have no mask: names ten of them.
        ValueError: It is none of these layouts, or two images or masks have one name.
    """
    images, masks = find_folder(folder, *IMAGE_FOLDERS), find_folder(folder, *MASK_FOLDERS)
    if images is not None and masks is not None:
        _check_beside(folder, images, masks)
        if tops := find_splits(images):
            inner = find_splits(masks)
            if missing := sorted(set(tops) - set(inner)):
                raise ValueError(f"{masks} has no folder for the {missing[0]} split, but {images} has")
            return [triple for side, top in tops.items() for triple in pair_masks(side, top, inner[side], suffix)]
    if images is None and (tops := find_splits(folder)):
        warn_unused(folder, tops.values(), ONLY_SPLITS)
        return [triple for side, top in tops.items() for triple in _pair_folder(side, top, suffix)]
    if find_folder(folder, "imagesets"):
        warn(f"{folder}: the lists in ImageSets are not read: images are divided at random")
    return _pair_folder("train", folder, suffix)


def _check_beside(folder: Path, images: Path, masks: Path) -> None:
    """Say which folders beside those of the images and masks hold images.

    Raises:
        ValueError: A split with masks is among them, which would be lost.
    """
    others = [path for path in list_folder(folder)[1] if path not in (images, masks)]
    others = [path for path in others if path.name.casefold() != "segmentationobject"]  # CVAT's, of each object
    others = [path for path in others if any(has_suffix(file, IMAGE_SUFFIXES) for file in walk(path))]
    for path in others:
        if split_name(path.name) and (find_folder(path, *MASK_FOLDERS) or find_pairs(path)):
            raise ValueError(
                f"{folder} holds the split {path.name} beside {images.name} and {masks.name}: lay all splits out "
                "alike, as train/images and train/masks"
            )
    if others:
        warn(f"{folder}: ignored {some(path.name for path in others)}: only {images.name} and {masks.name} are read")


def _pair_folder(side: str, folder: Path, suffix: str) -> list[tuple[str, Path, Path]]:
    images, masks = find_folder(folder, *IMAGE_FOLDERS), find_folder(folder, *MASK_FOLDERS)
    if images is not None and masks is not None:
        return pair_masks(side, images, masks, suffix)
    top = images or folder
    beside = [path for path in list_folder(top)[0] if has_suffix(path, IMAGE_SUFFIXES)]
    guess = suffix or find_pairs(top)
    if beside and masks is None and suffix:
        return pair_masks(side, top, top, suffix)
    missing = folder / "images" if images is None else folder / "masks"
    hint = f"; for masks named like {beside[-1].name} give --mask-suffix {guess}" if beside and guess else ""
    raise ValueError(f"{missing} is not a folder: {LAYOUTS}{hint}")


def find_pairs(folder: Path) -> str:
    """The suffix of masks that lie beside their images in a folder, such as `_mask`; empty where there are none."""
    stems = [path.stem for path in list_folder(folder)[0] if has_suffix(path, IMAGE_SUFFIXES)]
    return _common_suffix(stems, stems)


def pair_masks(side: str, images: Path, masks: Path, suffix: str) -> list[tuple[str, Path, Path]]:
    """Split, image and mask of the images in a folder, whose masks lie in the same or another one.

    Raises:
        FileNotFoundError: Images have no mask.
        ValueError: Two images, or two masks, have one name.
    """
    image_files, mask_files = _images_in(images), _images_in(masks)
    if images == masks:
        image_files = [path for path in image_files if not path.stem.endswith(suffix)]
        mask_files = [path for path in mask_files if path.stem.endswith(suffix)]
    if not suffix and (guess := _common_suffix([p.stem for p in image_files], [p.stem for p in mask_files])):
        suffix = guess
        warn(f"{masks}: the masks' names end in {guess}")
    of_image = _by_stem(mask_files)
    _by_stem(image_files)
    pairs, errors, used = [], list[Exception](), set[Path]()
    for path in image_files:
        name = path.stem + suffix
        mask = of_image.get(name) or of_image.get(name.casefold())
        if mask is None:
            errors.append(FileNotFoundError(f"{path} has no mask: there is no {masks / name}.png"))
            continue
        used.add(mask)
        pairs.append((side, path, mask))
    raise_errors(errors, images.parent)
    if alone := [path.stem for path in mask_files if path not in used]:
        word = f"{alone[0]} for one" if len(alone) == 1 else some(alone)
        warn(f"{masks}: {len(alone):,} masks ignored, which have no image ({word})")
    return pairs


def _images_in(folder: Path) -> list[Path]:
    files, folders = list_folder(folder)
    images = [path for path in files if has_suffix(path, IMAGE_SUFFIXES)]
    others = [path.name for path in [*files, *folders] if path not in images]
    if others:
        warn(f"{folder}: ignored {len(others):,} which are no image files: {some(others)}")
    return images


def _by_stem(paths: list[Path]) -> dict[str, Path]:
    """The files by their names without ending, in their own case and folded where that is unique."""
    by_stem: dict[str, Path] = {}
    for path in paths:
        if path.stem in by_stem:
            names = f"{by_stem[path.stem]} and {path.name}"
            raise ValueError(f"{names} have the same name without ending: keep one of them")
        by_stem[path.stem] = path
    folded = Counter(path.stem.casefold() for path in paths)
    return {p.stem.casefold(): p for p in paths if folded[p.stem.casefold()] == 1} | by_stem


def _common_suffix(images: list[str], masks: list[str]) -> str:
    """What all masks' names have after an image's, where that is the same text for all images; else nothing.

    Among the files of one folder, where both lists are the same, those that have such a partner are the images.
    """
    known, folded = set(images), set(masks)
    if images != masks and known <= folded:
        return ""
    counts: Counter[str] = Counter()
    for mask in masks:
        for end in range(1, len(mask)):
            if mask[:end] in known:
                counts[mask[end:]] += 1
    wanted = len(images) // 2 if images == masks else len(images)
    suffix, number = max(counts.items(), key=lambda item: (item[1], len(item[0])), default=("", 0))
    return suffix if number and number >= wanted and not suffix[0].isdigit() else ""


# --- What is foreground -----------------------------------------------------------------------------------------------


def read_foreground(mask: Image.Image, path: Path) -> tuple[np.ndarray, str]:
    """What of a mask is foreground: of two colours the one that is not black, and what is not transparent.

    A palette's colours count; its numbers only where there is one colour, neither black nor white.

    Returns:
        bool (H, W); and what the foreground is drawn in, as `255` or `#ff0000`, "" where there is none.

    Raises:
        ValueError: There are more than two colours, none of two is black, or edges are half transparent: lists them.
    """
    if mask.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in mask.info:
        rgba = np.asarray(mask.convert("RGBA"))
        alpha = rgba[..., 3]
        if alpha.min() < 255:
            return _read_alpha(rgba, path)
        mask = Image.fromarray(np.ascontiguousarray(rgba[..., :3]))
    if mask.mode == "P":
        return _read_palette(mask, path)
    if mask.mode in ("1", "L", "I", "I;16", "I;16B", "F"):
        return _read_grey(np.asarray(mask).astype(np.float64 if mask.mode == "F" else np.int64), path)
    pixels = np.asarray(mask.convert("RGB"))
    if (pixels[..., :1] == pixels).all():
        return _read_grey(pixels[..., 0].astype(np.int64), path)
    return _read_colours(pixels, path)


def _read_grey(values: np.ndarray, path: Path) -> tuple[np.ndarray, str]:
    unique = set(np.unique(values).tolist())
    if not any(unique <= {0, top} for top in (1, 255, 65535)):
        blurred = ": JPEG blurs edges, save masks as PNG" if has_suffix(path, (".jpg", ".jpeg", ".jfif")) else ""
        several = ": save a mask with two values, for one kind of foreground" if len(unique) <= MAX_VALUES else ""
        many = several or (": export it without antialiasing" if not blurred else "")
        raise ValueError(
            f"{path} holds the values {name_values(values)}; a mask has 0 for the background and one of 1, 255 for "
            f"what is looked for{blurred or many}"
        )
    top = int(max(unique))
    return values > 0, str(top) if top else ""


def _read_colours(pixels: np.ndarray, path: Path) -> tuple[np.ndarray, str]:
    """Of RGB pixels uint8 (H, W, 3)."""
    colours = _unique_colours(pixels)
    if len(colours) > 2 or (len(colours) == 2 and BLACK not in colours):
        _refuse_colours(colours, path)
    if len(colours) == 1 and colours[0] not in (BLACK, WHITE):
        _refuse_colours(colours, path)
    foreground = [colour for colour in colours if colour != BLACK]
    return (pixels != 0).any(-1), _name_colour(foreground[0]) if foreground else ""


def _read_palette(mask: Image.Image, path: Path) -> tuple[np.ndarray, str]:
    pixels, numbers = np.asarray(mask.convert("RGB")), np.asarray(mask)
    colours = _unique_colours(pixels)
    if len(colours) == 1 and colours[0] not in (BLACK, WHITE) and set(np.unique(numbers).tolist()) <= {1, 255}:
        return np.ones(numbers.shape, bool), _name_colour(colours[0])  # the second of the palette's two colours
    if all(colour[0] == colour[1] == colour[2] for colour in colours) and len(colours) <= 2 and BLACK in colours:
        grey = colours[-1][0]
        name = str(grey) if grey in (1, 255) else _name_colour(colours[-1])  # these two are one class, others several
        return (pixels != 0).any(-1), name if grey else ""
    return _read_colours(pixels, path)


def _read_alpha(rgba: np.ndarray, path: Path) -> tuple[np.ndarray, str]:
    """Of RGBA pixels uint8 (H, W, 4), some transparent: these are background."""
    alpha = rgba[..., 3]
    if half := sorted(set(np.unique(alpha).tolist()) - {0, 255}):
        values = ", ".join(map(str, half[:MAX_VALUES])) + (", …" if len(half) > MAX_VALUES else "")
        raise ValueError(f"{path} is half transparent in places (alpha {values}): export it without antialiasing")
    opaque = alpha == 255
    colours = _unique_colours(rgba[opaque][:, :3])
    if not opaque.any():
        if len(_unique_colours(rgba[..., :3].reshape(-1, 3))) > 1:
            raise ValueError(f"{path} is transparent everywhere, but has colours below: save it without transparency")
        return opaque, ""
    if BLACK in colours and len(colours) == 1:
        raise ValueError(
            f"{path} is black where it is not transparent: draw the foreground in white, or save it without "
            "transparency"
        )
    if len(colours) > 2 or (len(colours) == 2 and BLACK not in colours):
        _refuse_colours([*colours], path, " where it is not transparent")
    foreground = [colour for colour in colours if colour != BLACK]
    return opaque & (rgba[..., :3] != 0).any(-1), _name_colour(foreground[0])


def _refuse_colours(colours: list[tuple[int, ...]], path: Path, where: str = "") -> None:
    names = ", ".join(_name_colour(colour) for colour in colours[:MAX_VALUES])
    more = f" and {len(colours) - MAX_VALUES:,} more" if len(colours) > MAX_VALUES else ""
    raise ValueError(
        f"{path} holds the colours {names}{more}{where}; a mask has black for the background and one other colour for "
        "what is looked for"
        + (
            "; with several classes make a mask of one of them, with edges export without antialiasing"
            if more or len(colours) > 2
            else ""
        )
    )


def compare_foregrounds(foregrounds: dict[str, list[str]], folder: Path) -> None:
    """Refuse masks whose foregrounds have several colours, which would be several classes; 1 and 255 are one.

    Args:
        foregrounds: The masks of each value or colour.
        folder: Of the set.

    Raises:
        ValueError: As above; lists the colours, each with a mask.
    """
    foregrounds = {value: names for value, names in foregrounds.items() if value}  # the others have none
    plain = {"1", "255", "65535", _name_colour(WHITE)}
    colours = [value for value in foregrounds if value not in plain]
    if len(colours) + bool(plain & set(foregrounds)) > 1:
        listed = ", ".join(f"{value} ({names[0]})" for value, names in list(foregrounds.items())[:MAX_VALUES])
        raise ValueError(
            f"{folder}: the masks are drawn in several colours, {listed}: make masks of one class, black and white"
        )
    if colours:
        warn(f"{folder}: the foreground of the masks is {colours[0]}, and black the background")
    if {"1", "255"} <= set(foregrounds):
        warn(
            f"{folder}: {len(foregrounds['1']):,} masks mark the foreground with 1 ({some(foregrounds['1'])}), "
            f"{len(foregrounds['255']):,} with 255"
        )


def name_values(values: np.ndarray) -> str:
    """The first of the different values of an array, for an error."""
    unique = np.unique(values)
    words = [f"{value:g}" for value in unique[:MAX_VALUES].tolist()]
    return ", ".join(words) + (", …" if len(unique) > MAX_VALUES else "")


def _unique_colours(pixels: np.ndarray) -> list[tuple[int, ...]]:
    """The different colours of uint8 (…, 3), sorted."""
    flat = pixels.reshape(-1, 3).astype(np.int64) @ np.array([65536, 256, 1])
    return [(value >> 16, value >> 8 & 255, value & 255) for value in np.unique(flat).tolist()]


def _name_colour(colour: tuple[int, ...]) -> str:
    return "#" + "".join(f"{value:02x}" for value in colour)
