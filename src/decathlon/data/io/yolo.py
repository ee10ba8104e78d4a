"""Boxes as YOLO's tools write them: a text file an image, with a line `class centre_x centre_y width height` a box."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from decathlon.data.io import files
from decathlon.data.io.images import IMAGE_SUFFIXES
from decathlon.data.io.listing import (
    SPLIT_NAMES,
    FileIndex,
    choose_splits,
    clean_name,
    find_folder,
    find_splits,
    has_suffix,
    list_folder,
    raise_errors,
    split_name,
    walk,
)
from decathlon.data.io.voc_coco import Annotation, Box
from decathlon.messages import pluralize, some, warn

CONFIG_SUFFIXES = (".yaml", ".yml")
CLASS_LISTS = ("classes.txt", "obj.names")  # of labelImg and Label Studio, and of Darknet
MAX_CONFIG_BYTES, MAX_LIST_BYTES = 1 << 20, 1 << 28
TOLERANCE = 1e-3  # by which rounding may push a fraction beyond 1
Folders = dict[str, tuple[Path, Path]]  # of each split the folders of its images and of its labels


def find_yolo(path: Path) -> Folders:
    """The folders of each split; none where `path` is not in YOLO's layout.

    Layouts: `images/` and `labels/`; `train/`, `val/` and `test/` in each of these, or these in each of them; both in
    `obj_train_data/` and the like; or both in one folder, beside `classes.txt`.
    """
    images, labels = find_folder(path, "images"), find_folder(path, "labels")
    if images is not None and labels is not None:
        if not (tops := find_splits(images)):
            return {"train": (images, labels)} if FileIndex(labels, (".txt",)).files else {}
        inner = find_splits(labels)
        if missing := [side for side in tops if side not in inner and side != "test"]:
            raise ValueError(f"{labels} has no folder for the {missing[0]} split, but {images} has")
        return {side: (top, inner[side]) for side, top in tops.items() if side in inner}
    folders: Folders = {}
    for side, top in find_splits(path).items():
        images, labels = find_folder(top, "images"), find_folder(top, "labels")
        if images is not None and labels is not None:
            folders[side] = images, labels
    if folders:
        return folders if "train" in folders else {}
    darknet: Folders = {}  # CVAT's YOLO 1.1
    for side in ("train", "val", "test"):
        if folder := find_folder(path, *(f"obj_{name}_data" for name in SPLIT_NAMES[side])):
            darknet[side] = folder, folder
    if "train" in darknet:
        return darknet
    texts = [file for file in list_folder(path)[0] if has_suffix(file, (".txt",))] if path.is_dir() else []
    return {"train": (path, path)} if len(texts) > 1 and any(class_lists(path)) else {}


def class_lists(path: Path) -> tuple[list[Path], list[Path]]:
    """The files in a folder that name classes: YAML files with `names`; and `classes.txt` or `obj.names`."""
    top = list_folder(path)[0] if path.is_dir() else []
    configs = [file for file in top if has_suffix(file, CONFIG_SUFFIXES) and config_value(file, "names") is not None]
    return configs, [file for file in top if file.name.casefold() in CLASS_LISTS]


def find_class_list(path: Path, folders: Folders) -> Path | None:
    """The file that names the classes: in the folder, or among the labels, as labelImg writes it.

    A YAML file comes first. Of several lists the longest counts: labelImg adds to the one beside the labels at hand.

    Raises:
        ValueError: Several YAML files, or several lists where there is none, name different classes.
    """
    labels = [top for _, top in folders.values()]
    places = dict.fromkeys((path, *labels, *(top.parent for top in labels)))
    pairs = [class_lists(place) for place in places if place.is_relative_to(path)]
    configs = [file for in_place, _ in pairs for file in in_place]
    lists = [file for _, in_place in pairs for file in in_place]
    if len(candidates := configs or lists) < 2 and not (configs and lists):
        return candidates[0] if candidates else None
    names_of = {file: _listed_names(file) for file in (*configs, *lists)}
    longest = max(candidates, key=lambda file: len(names_of[file]))
    names = names_of[longest]
    if any(names_of[file] != names[: None if configs else len(names_of[file])] for file in candidates):
        held = some(file.relative_to(path) for file in candidates)
        way = "name the one to read as --data FILE" if configs else "number the classes alike in all labels"
        raise ValueError(f"{path} holds {held}, which name different classes: {way}")
    if configs and (others := [file.name for file in lists if names_of[file] != names[: len(names_of[file])]]):
        warn(f"{path}: {others[0]} names other classes than {longest.name}, whose names are taken")
    return longest


def _listed_names(file: Path) -> list[str]:
    """The names of a file that is one of several; none where they cannot be read, which is said if it is taken."""
    try:
        return read_names(file)
    except ValueError:
        return []


def config_value(file: Path, key: str) -> str | None:
    """What stands behind a key at the beginning of a line of a YAML file; None where there is no such line."""
    lines = _without_comments(files.read_text(file, MAX_CONFIG_BYTES))
    match = next((match for line in lines if (match := re.match(rf"{key}\s*:(.*)", line))), None)
    return _unquote(match[1].strip()) if match else None


def has_keypoints(path: Path, config: Path | None) -> bool:
    """Whether the labels are poses: a box and behind it keypoints, as a YAML file says by `kpt_shape`."""
    configs = [config] if config else [file for file in list_folder(path)[0] if has_suffix(file, CONFIG_SUFFIXES)]
    return any(config_value(file, "kpt_shape") is not None for file in configs)


def read_names(file: Path) -> list[str]:
    """The class names that a file lists, in the order of their numbers.

    Of YAML only `names` is read, as a list or numbered, on one line or several: what YOLO's tools write.

    Raises:
        ValueError: There are none, numbers are missing, or two are the same.
    """
    text = files.read_text(file, MAX_CONFIG_BYTES)
    # An empty line within a list is an error: without it the numbers would be others.
    listed = _names_of_config(text, file) if has_suffix(file, CONFIG_SUFFIXES) else text.rstrip().splitlines()
    names = [clean_name(name) for name in listed]
    files.check_class_names(names, file)
    if not names or not all(names):
        raise ValueError(f"{file} names no classes, or one without a name")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{file} names two classes {twice[0]!r}")
    return names


def _without_comments(text: str) -> list[str]:
    return [re.sub(r"(^|\s)#.*", "", line).rstrip() for line in text.splitlines()]


def _names_of_config(text: str, file: Path) -> list[str]:
    lines = _without_comments(text)
    start = next((n for n, line in enumerate(lines) if re.match(r"names\s*:", line)), None)
    if start is None:
        raise ValueError(f"{file} has no names")
    value = lines[start].partition(":")[2].strip()
    rest = []
    for line in lines[start + 1 :]:
        if line and not line[0].isspace() and not line.startswith("-") and not (value and "]" in line):
            break
        rest.append(line.strip())
    if value.startswith(("[", "{")):
        whole = " ".join([value, *rest])
        inner = whole[1 : max(whole.find("]"), whole.find("}"))]
        entries = [entry.strip() for entry in re.findall(r"""(?:[^,'"]|'[^']*'|"[^"]*")+""", inner) if entry.strip()]
    elif value:
        raise ValueError(f"{file}: its names are {value!r}, neither a list nor numbered lines")
    else:
        entries = [entry.removeprefix("-").strip() for entry in rest if entry]
    numbered = [re.fullmatch(r"""(['"]?)(\d+)\1\s*:\s*(.+)""", entry) for entry in entries]
    if entries and all(numbered):
        by_number = {int(match[2]): match[3] for match in numbered if match}
        if sorted(by_number) != list(range(len(entries))):
            raise ValueError(f"{file}: the numbers of its names are not 0 to {len(entries) - 1}")
        entries = [by_number[number] for number in range(len(entries))]
    return [_unquote(entry) for entry in entries]


def _unquote(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def read_yolo(
    path: Path, folders: Folders, config: Path | None = None
) -> tuple[dict[str, list[Annotation]], list[str]]:
    """All annotations, by split, and the names of the classes.

    Args:
        path: The folder.
        folders: Of each split the folders of its images and of its labels.
        config: The YAML file to read, where the user named one.

    Raises:
        ValueError: Label files are not as they must be: names ten of them, with the line; or it is not clear which
            file names the classes.
    """
    _check_beside(path, folders)
    has_names = config is not None and config_value(config, "names") is not None
    listed = config if has_names else find_class_list(path, folders)
    names = read_names(listed) if listed is not None else []
    errors, highest, empty, polygons = list[Exception](), 0, list[str](), list[str]()
    keypoints = has_keypoints(path, config if has_names else None)
    sides: dict[str, list[Annotation]] = {}

    def name_of(number: int, where: str) -> str:
        nonlocal highest
        highest = max(highest, number)
        if names and number >= len(names):
            raise ValueError(f"{where}: class {number}, but {listed} names {len(names)}, from 0 to {len(names) - 1}")
        return names[number] if names else str(number)

    for side, (images, labels) in folders.items():
        sides[side] = []
        for image, label in _pair_files(images, labels, path):
            boxes, classes = list[Box](), list[str]()
            if label is not None:
                try:
                    boxes, classes = _read_label(label, name_of, empty, polygons, keypoints)
                except ValueError as error:
                    errors.append(error)
            where = str(label or image)
            sides[side].append(Annotation(image, where, None, boxes, classes, [False] * len(boxes), normalized=True))
    raise_errors(errors, path)
    if list(sides) == ["train"]:
        if lists := split_lists(path):
            sides = divide_by_lists(sides["train"], lists, path)
        elif listed is not None and has_suffix(listed, CONFIG_SUFFIXES) and _names_splits(listed):
            warn(f"{path}: splits are folders called train, val and test; those that {listed.name} names are not read")
    if empty:
        warn(f"{path}: {len(empty):,} boxes without area are left out ({some(empty)})")
    if polygons:
        warn(
            f"{path}: {pluralize(len(polygons), 'line')} with more than a box taken as polygons, with the box around "
            f"them ({some(polygons)}); poses need kpt_shape in data.yaml"
        )
    if not names:
        names = [str(number) for number in range(highest + 1)]
        warn(f"{path}: no data.yaml or classes.txt names the classes: they are called 0 to {highest}")
    return sides, names


def _names_splits(config: Path) -> bool:
    """Whether a YAML file has different images for its splits."""
    values = {config_value(config, key) for key in ("train", "val", "test")} - {None, ""}
    return len(values) > 1


def _check_beside(path: Path, folders: Folders) -> None:
    """Say which images lie beside the folders of the layout.

    Raises:
        ValueError: A split with labels is among them, which would be lost.
    """
    tops = {top for both in folders.values() for top in both}
    images = (file for file in walk(path) if has_suffix(file, IMAGE_SUFFIXES))
    spare = [image for image in images if not any(parent in tops for parent in image.parents)]
    if not spare:
        return
    known = {top.relative_to(path).parts[:1] for top in tops}
    for name in dict.fromkeys(parts[0] for image in spare if (parts := image.relative_to(path).parts)[:1] not in known):
        if split_name(name) and any(has_suffix(file, (".txt",)) for file in walk(path / name)):
            raise ValueError(
                f"{path} holds the split {name} beside images and labels: lay all splits out alike, as "
                "train/images and train/labels"
            )
    warn(f"{path}: {len(spare):,} images in other folders are left out ({some(i.relative_to(path) for i in spare)})")


def split_lists(path: Path) -> dict[str, Path]:
    """The files `train.txt`, `val.txt` and `test.txt` that list the images of the splits; none without the first."""
    texts = [file for file in list_folder(path)[0] if has_suffix(file, (".txt",)) and split_name(file.stem)]
    labels = {image.stem.casefold() for image in list_folder(path)[0] if has_suffix(image, IMAGE_SUFFIXES)}
    return choose_splits([file for file in texts if file.stem.casefold() not in labels], path)


def divide_by_lists(annotations: list[Annotation], lists: dict[str, Path], path: Path) -> dict[str, list[Annotation]]:
    """The annotations by split, as files list their images; says which are in none.

    Raises:
        FileNotFoundError, ValueError: A listed image is not there, or may be one of several: names ten of them.
    """
    index, errors = FileIndex(path, IMAGE_SUFFIXES), list[Exception]()
    of_image = {annotation.image_path: annotation for annotation in annotations}
    sides: dict[str, list[Annotation]] = {}
    for side, file in lists.items():
        sides[side] = []
        for line in files.read_text(file, MAX_LIST_BYTES).splitlines():
            if name := line.strip().removeprefix("./"):
                matching = [of_image[image] for image in index.find(name, anywhere=True) if image in of_image]
                if not matching:
                    errors.append(FileNotFoundError(f"{file} lists {name}, but there is no such image"))
                if len(matching) > 1:
                    may_be = some(annotation.image_path.relative_to(path) for annotation in matching)
                    errors.append(ValueError(f"{file} lists {name}, which may be {may_be}"))
                sides[side] += matching[:1]
    raise_errors(errors, path)
    listed = {annotation.image_path for side in sides.values() for annotation in side}
    if spare := [image.name for image in of_image if image not in listed]:
        warn(f"{path}: {len(spare):,} images are in no list and are left out ({some(spare)})")
    return {side: sides[side] for side in ("train", "val", "test") if sides.get(side)}


def _pair_files(images: Path, labels: Path, path: Path) -> list[tuple[Path, Path | None]]:
    """The images of a split with their label files, None for one without objects."""
    texts = FileIndex(labels, (".txt",))
    pairs, used = list[tuple[Path, Path | None]](), set[Path]()
    for image in FileIndex(images, IMAGE_SUFFIXES).files:
        matching = texts.find(image.relative_to(images).with_suffix("").as_posix())
        if len(matching) > 1:
            raise ValueError(f"{image} has several label files: {some(file.name for file in matching)}")
        pairs.append((image, matching[0] if matching else None))
        used.update(matching)
    if not used:
        raise ValueError(f"{labels} holds no label file of an image in {images}")
    if alone := [file.name for file in texts.files if file not in used and file.name.casefold() not in CLASS_LISTS]:
        warn(f"{labels}: {len(alone):,} text files ignored, which have no image ({some(alone)})")
    if bare := [str(image.relative_to(path)) for image, label in pairs if label is None]:
        warn(f"{path}: {len(bare):,} of {len(pairs):,} images have no label file and count as empty ({some(bare)})")
    return pairs


def _read_label(
    file: Path, name_of: Callable[[int, str], str], empty: list[str], polygons: list[str], keypoints: bool
) -> tuple[list[Box], list[str]]:
    """Boxes, as fractions of the image, and class names; of a polygon the box around it, of a pose its own box."""
    boxes, names = [], []
    for number, line in enumerate(files.read_text(file).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        where = f"{file}, line {number}"
        try:
            values = [float(word) for word in words]
        except ValueError:
            raise ValueError(f"{where}: {line.strip()[:40]!r} holds what is no number") from None
        values = values[:5] if keypoints else values
        if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
            raise ValueError(f"{where}: {len(values)} numbers; a box has 5: class, centre x, centre y, width, height")
        if not all(-TOLERANCE <= value <= 1 + TOLERANCE for value in values[1:]):
            raise ValueError(f"{where}: boxes are fractions of the image, from 0 to 1; this holds {max(values[1:]):g}")
        if not values[0].is_integer() or values[0] < 0:
            raise ValueError(f"{where}: the class {words[0]} is no number from 0")
        name = name_of(int(values[0]), where)
        if len(values) == 5:
            x, y, width, height = values[1:]
            box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        else:
            polygons.append(f"{file.name}, line {number}")
            box = (min(values[1::2]), min(values[2::2]), max(values[1::2]), max(values[2::2]))
        if box[2] <= box[0] or box[3] <= box[1]:
            empty.append(f"{file.name}, line {number}")
            continue
        boxes.append(box)
        names.append(name)
    return boxes, names
