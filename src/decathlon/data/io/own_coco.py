"""A user's own boxes in COCO's format: which JSON file is of which split, and where its images lie."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from decathlon.data.io import files
from decathlon.data.io.images import IMAGE_SUFFIXES
from decathlon.data.io.listing import (
    SPLITS,
    FileIndex,
    find_folder,
    find_splits,
    fold,
    has_suffix,
    list_folder,
    split_name,
)
from decathlon.data.io.voc_coco import Annotation, read_coco
from decathlon.messages import pluralize, some, warn

# Names of COCO's JSON files that do not name a split: of this package, Label Studio, Roboflow, CVAT.
COCO_NAMES = ("annotations", "result", "_annotations.coco", "instances_default", "instances", "coco")
OTHER_COCO = ("captions", "person_keypoints", "image_info", "panoptic", "stuff")  # beside boxes in COCO's own release
Listing = tuple[dict[str, list[Annotation]], list[str]]  # the annotations of each split, and the classes


def find_coco(path: Path) -> dict[str, Path]:
    """The JSON file of each split: `path` itself, or one in it whose name is a split's or one that tools give.

    As tools lay it out: `annotations/instances_default.json` (CVAT), `annotations/instances_train2017.json` (COCO),
    `train/_annotations.coco.json` (Roboflow), `result.json` (Label Studio); or `train.json`, or `annotations.json`.

    Raises:
        ValueError: Several files could be meant.
    """
    if path.is_file():
        return {"train": path} if has_suffix(path, (".json",)) else {}
    jsons_of: dict[str, Path] = {}
    for side, top in find_splits(path).items():
        if jsons := _jsons(top):
            jsons_of[side] = _choose_json(jsons, top)
    if "train" in jsons_of:
        return jsons_of
    for folder in (path, find_folder(path, "annotations")):
        jsons = _jsons(folder) if folder else []
        sides: dict[str, list[Path]] = {}
        for file in jsons:
            if (named := _side_of(file)) and not file.stem.casefold().startswith(OTHER_COCO):
                sides.setdefault(named, []).append(file)
        if "train" in sides:
            used = {side: _choose_json(sides[side], folder or path) for side in SPLITS if side in sides}
            if spare := [file.name for file in jsons if file not in used.values()]:
                warn(f"{folder}: ignored {some(spare)}: no boxes of a split")
            return used
        if plain := [file for file in jsons if not _side_of(file)]:
            chosen = _choose_json(plain, folder or path)
            if others := [file.name for file in jsons if _side_of(file)]:
                warn(f"{folder}: reads {chosen.name}, ignored {some(others)}: there is no train.json")
            return {"train": chosen}
    return {}


def _jsons(folder: Path) -> list[Path]:
    return [file for file in list_folder(folder)[0] if has_suffix(file, (".json",))]


def _side_of(file: Path) -> str | None:
    """The split that a JSON file's name holds as a word: `instances_val2017` is val."""
    words = re.split(r"[^a-z]+", file.stem.casefold())
    sides = {side for word in words if (side := split_name(word))}
    return sides.pop() if len(sides) == 1 else None


def is_labelme(start: bytes) -> bool:
    """Whether a JSON file that starts so is labelme's own, one for each image."""
    return b'"shapes"' in start and b'"imagePath"' in start


def read_start(file: Path) -> bytes:
    """The first megabyte of a file, without a byte-order mark and blanks before it."""
    with files.check_file(file).open("rb") as stream:
        return stream.read(1 << 20).removeprefix(b"\xef\xbb\xbf").lstrip()


def _choose_json(jsons: list[Path], folder: Path) -> Path:
    of_labelme = is_labelme(read_start(jsons[0]))
    if len(jsons) == 1 and not of_labelme:
        return jsons[0]
    known = [file for file in jsons if file.stem.casefold() in COCO_NAMES or "instances" in file.stem.casefold()]
    if len(known) != 1 and of_labelme:
        raise ValueError(f"{jsons[0]} is labelme's own format, which is not read: export COCO, PASCAL VOC or YOLO")
    if len(known) != 1:
        raise ValueError(f"{folder} holds {some(file.name for file in jsons)}: name the one to read as --data FILE")
    others = [file.name for file in jsons if file not in known]
    warn(f"{folder}: reads {known[0].name}, ignored {some(others)}")
    return known[0]


def read_coco_sides(folder: Path, jsons: dict[str, Path]) -> Listing:
    """All annotations, by split, and the classes: the categories of the training file."""
    index = FileIndex(folder, IMAGE_SUFFIXES)
    annotations_of, names, elsewhere = dict[str, list[Annotation]](), list[str](), list[str]()
    misplaced: dict[str, list[Path]] = {}  # found by their names alone, in the folder of another split
    for side, file in jsons.items():

        def find(name: str, side: str = side, file: Path = file) -> Path | None:
            matching = index.find(name, anywhere=True)
            if len(matching) > 1:  # the same name in several splits
                matching = [p for p in matching if side in _sides_above(p, folder)]
            if len(matching) > 1:
                raise ValueError(f"it lists {name!r}, which may be {some(p.relative_to(folder) for p in matching)}")
            if matching and (above := _sides_above(matching[0], folder)) and side not in above:
                misplaced.setdefault(side, []).append(matching[0])
            if matching and is_elsewhere(name, matching[0]):
                elsewhere.append(f"{name}: {matching[0].relative_to(folder)}")
            return matching[0] if matching else None

        annotations_of[side], classes = read_coco(file, coco_folders(folder, side, file), find)
        names = names or classes
    if elsewhere:
        warn(
            f"{folder}: {len(elsewhere):,} images are not where they are listed, others of their names are taken "
            f"({some(elsewhere)})"
        )
    for side, images in misplaced.items():
        if len(jsons) > 1 and any(side in _sides_above(a.image_path, folder) for a in annotations_of[side]):
            raise FileNotFoundError(
                f"{folder}: {pluralize(len(images), 'image')} of {side} absent; in the folder of another split there "
                f"are others of the same names ({some(image.relative_to(folder) for image in images)})"
            )
    if list(annotations_of) == ["train"] and not _side_of(jsons["train"]):
        annotations_of = _divide_by_folders(annotations_of["train"], folder)
    used = {annotation.image_path for annotations in annotations_of.values() for annotation in annotations}
    if spare := [str(image.relative_to(folder)) for image in index.files if image not in used]:
        warn(f"{folder}: {len(spare):,} images are in no annotation file and are left out ({some(spare)})")
    return annotations_of, names


def coco_folders(folder: Path, side: str, file: Path) -> list[Path]:
    """Where the images of an annotation file may be, by the paths that it lists."""
    return list(dict.fromkeys((file.parent, folder, folder / "images", folder / "images" / side, folder / side)))


def is_elsewhere(name: str, image: Path) -> bool:
    """Whether an image lies in another folder than listed; a path of another machine tells nothing."""
    listed = PurePosixPath(name)
    machine = listed.is_absolute() or ".." in listed.parts or ":" in listed.parts[0] or "?d=" in name
    return not machine and len(listed.parts) > 1 and fold(listed.parent.name) != fold(image.parent.name)


def _sides_above(image: Path, folder: Path) -> set[str]:
    """The splits that the folders above an image name: `train2017` is train."""
    return {side for part in image.relative_to(folder).parts[:-1] if (side := split_name(part))}


def _divide_by_folders(annotations: list[Annotation], folder: Path) -> dict[str, list[Annotation]]:
    """The annotations of one file by the splits that the folders of their images name, where all of them do."""
    divided: dict[str, list[Annotation]] = {}
    for annotation in annotations:
        sides = _sides_above(annotation.image_path, folder)
        divided.setdefault(sides.pop() if len(sides) == 1 else "", []).append(annotation)
    if "" not in divided and "train" in divided:
        return {side: divided[side] for side in SPLITS if side in divided}
    if len(divided) > 1:
        warn(f"{folder}: some folders are named like splits, but not those of all images: they are divided at random")
    return {"train": annotations}
