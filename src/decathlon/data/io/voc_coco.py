"""Boxes around objects, as people write them down: PASCAL VOC's XML files, and COCO's JSON."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, ElementTree

from decathlon.data.io import files
from decathlon.data.io.images import IMAGE_SUFFIXES
from decathlon.data.io.listing import clean_name, raise_errors
from decathlon.messages import some, warn

MAX_COORDINATE = 1_000_000  # pixels: no number beyond it is a place in an image
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels; the image's corner is (0, 0)


@dataclass(frozen=True)
class Annotation:
    """What is written of one image.

    Attributes:
        image_path: Its file.
        where: What its annotation is called in complaints.
        size: Width and height to which the boxes refer; None where it is not said.
        boxes: As written: neither clipped nor scaled.
        names: Class of each box.
        difficult: Whether a box is not to count: VOC's `difficult`, COCO's `iscrowd`.
        normalized: Whether the boxes are fractions of the image's width and height, as YOLO writes them.
    """

    image_path: Path
    where: str
    size: tuple[int, int] | None
    boxes: list[Box]
    names: list[str]
    difficult: list[bool]
    normalized: bool = False


# --- VOC --------------------------------------------------------------------------------------------------------------


def read_image_set(tree: Path, side: str) -> list[tuple[Path, Path]] | None:
    """Image and XML file of each name in ImageSets/Main/`side`.txt; None where there is no such list.

    Raises:
        FileNotFoundError: A name is listed whose image or XML file is absent: names it.
        ValueError: The list is empty, or a name leads outside the tree.
    """
    path = tree / "ImageSets" / "Main" / f"{side}.txt"
    if not path.is_file():
        return None
    names = [line.split()[0] for line in files.read_text(path).splitlines() if line.strip()]
    if not names:
        raise ValueError(f"{path} lists no images")
    return [find_pair(tree, name, str(path)) for name in names]


def find_pair(tree: Path, name: str, listed_in: str) -> tuple[Path, Path]:
    """Image and XML file of one name that `listed_in` lists.

    Raises:
        FileNotFoundError, ValueError: As `listed`.
    """
    if Path(name).name != name or name == ".." or "\0" in name:
        raise ValueError(f"{listed_in} lists {name!r}, which is not the name of an image")
    xml, stem = tree / "Annotations" / f"{name}.xml", tree / "JPEGImages" / name
    if not xml.is_file():
        raise FileNotFoundError(f"{listed_in} lists {name}, but there is no {xml}")
    for ending in IMAGE_SUFFIXES:
        image_path = stem.with_name(name + ending)
        if image_path.is_file():
            return image_path, xml
    raise FileNotFoundError(f"{listed_in} lists {name}, but there is no {stem}.jpg")


def read_xml(image_path: Path, path: Path) -> Annotation:
    """Read one XML file of VOC. It counts pixels from 1, and the last belongs to the box: 1 is taken off the first.

    Raises:
        ValueError: It is no such file, asks for entities (which can be bombs), or a box is missing or reversed.
    """
    try:
        root = ElementTree.fromstring(files.read_bytes(path), forbid_dtd=True)
    except DefusedXmlException:
        raise ValueError(f"{path} declares entities or a document type, which no annotation needs: refused") from None
    except (ParseError, ValueError, LookupError) as error:
        is_empty = path.is_file() and not path.stat().st_size
        reason = "is empty: delete it, or annotate its image" if is_empty else f"is not valid XML: {error}"
        raise ValueError(f"{path} {reason}") from None
    boxes, names, difficult = list[Box](), list[str](), list[bool]()
    for number, item in enumerate(root.findall("object"), 1):
        name = clean_name(item.findtext("name") or "")
        if not name:
            raise ValueError(f"{path}: object {number} has no name")
        left, top, right, bottom = _corners(item.find("bndbox"), f"{path}: object {number} ({name})")
        boxes.append((left - 1, top - 1, right, bottom))
        names.append(name)
        difficult.append((item.findtext("difficult") or "0").strip() == "1")
    size = root.find("size")
    claimed = None
    if size is not None:
        width, height = (_number(size.findtext(name), 0.0) for name in ("width", "height"))
        claimed = (
            (round(width), round(height)) if 1 <= width < 1e6 and 1 <= height < 1e6 else None
        )  # some tools write 0
    return Annotation(image_path, str(path), claimed, boxes, names, difficult)


def _corners(box: Element | None, name: str) -> Box:
    if box is None:
        raise ValueError(f"{name} has no bndbox")
    left, top, right, bottom = (_number(box.findtext(name)) for name in ("xmin", "ymin", "xmax", "ymax"))
    if not all(abs(value) <= MAX_COORDINATE for value in (left, top, right, bottom)):
        raise ValueError(f"{name} has a bndbox without four numbers xmin, ymin, xmax, ymax")
    if right < left or bottom < top:
        raise ValueError(f"{name} has a reversed box: x from {left:g} to {right:g}, y from {top:g} to {bottom:g}")
    return left, top, right, bottom


def _number(text: str | None, default: float = math.nan) -> float:
    try:
        return float(text or "")
    except ValueError:
        return default


# --- COCO -------------------------------------------------------------------------------------------------------------


class NotUniqueError(ValueError):
    """Two images or categories share what must be their own."""


def read_coco(
    path: Path, folders: list[Path], find: Callable[[str], Path | None] | None = None
) -> tuple[list[Annotation], list[str]]:
    """Read a JSON file in COCO's format; its images lie in one of `folders`, or where `find` finds them.

    An annotation without a box gets that around its polygons. Boxes without area are left out and counted.

    Returns:
        The images with their boxes, and the names of the categories in the order of their ids.

    Raises:
        FileNotFoundError: Images are absent: names ten of them.
        ValueError: It is no such file; ids or names are not unique; a box is missing, reversed or of no category.
    """
    try:
        root = files.parse_json(files.read_text(path))
        categories = _read_categories(root["categories"])
        images = _read_images(root["images"], path, folders, find)
        objects = list(root["annotations"])
    except FileNotFoundError:
        raise
    except NotUniqueError as error:
        raise ValueError(f"{path}: {error}") from None
    except KeyError as error:
        raise ValueError(f"{path} is not in COCO's format: it lacks {error}") from None
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{path} is not in COCO's format: {str(error).removeprefix(f'{path} ')}") from None
    files.check_class_names(list(categories.values()), path)
    if not images or not categories:
        raise ValueError(f"{path} lists no images, or no categories")
    empty, drawn, ids, used = list[str](), 0, list[Any](), set[int]()
    for number, item in enumerate(objects):
        item_id = item.get("id") if isinstance(item, dict) else None
        title = item_id if isinstance(item_id, (int, str)) else number
        name = f"{path}: annotation {title}"
        image, category, box, crowd, from_polygon = _parse_object(item, name)
        if image not in images or category not in categories:
            raise ValueError(f"{name} is of image {image!r} and category {category!r}, which the file does not list")
        drawn += from_polygon
        used.add(category)
        if isinstance(item_id, (int, str)):
            ids.append(item_id)
        if box[2] <= box[0] or box[3] <= box[1]:
            empty.append(f"{title} of {images[image].image_path.name}")
            continue
        images[image].boxes.append(box)
        images[image].names.append(categories[category])
        images[image].difficult.append(crowd)
    _report_objects(path, len(objects), empty, drawn, len(ids) - len(set(ids)))
    return list(images.values()), _used_categories(path, root["categories"], categories, used)


def _report_objects(path: Path, count: int, empty: list[str], drawn: int, repeated: int) -> None:
    if empty:
        warn(
            f"{path}: {len(empty):,} of {count:,} annotations have a box without area and are left out ({some(empty)})"
        )
    if drawn:
        warn(f"{path}: {drawn:,} of {count:,} annotations have no box: the box around their polygons is taken")
    if repeated:
        warn(f"{path}: {repeated:,} of {count:,} annotations share their id with another; all are read")


def _read_categories(entries: Any) -> dict[int, str]:
    """Cleaned names of the categories by their ids. Raises ValueError where two share an id or a name."""
    names: dict[int, str] = {}
    for entry in entries:
        number, name = int(entry["id"]), clean_name(_text(entry["name"]))
        if number in names:
            raise NotUniqueError(f"the categories {names[number]!r} and {name!r} share the id {number}")
        names[number] = name
    return names


def _used_categories(path: Path, entries: Any, names: dict[int, str], used: set[int]) -> list[str]:
    """The names of the categories, in the order of their ids, without one that only stands above the others.

    Roboflow lists a first category that is the supercategory of all others, and has no boxes.

    Raises:
        ValueError: Two categories have one name.
    """
    above = {name for entry in entries if isinstance(name := entry.get("supercategory"), str)}
    roots = {
        int(entry["id"])
        for entry in entries
        if len(names) > 1 and entry.get("supercategory") == "none" and _text(entry["name"]) in above
    }
    class_names = [name for number, name in sorted(names.items()) if number not in roots - used]
    if twice := [name for name, count in Counter(class_names).items() if count > 1]:
        raise ValueError(f"{path}: two categories are called {twice[0]!r}: give them one id or two names")
    return class_names or list(names.values())


def _read_images(
    entries: Any, path: Path, folders: list[Path], find: Callable[[str], Path | None] | None
) -> dict[Any, Annotation]:
    """The images by their ids, without boxes. Raises ValueError where two share an id or are one file."""
    images: dict[Any, Annotation] = {}
    listed: dict[Path, Any] = {}
    errors = list[Exception]()
    for entry in entries:
        number = entry["id"]
        try:
            image_path = _find_image(entry["file_name"], folders, path, find)
        except FileNotFoundError as error:
            errors.append(error)
            continue
        if number in images:
            raise NotUniqueError(
                f"the images {images[number].image_path.name} and {image_path.name} share the id {number!r}"
            )
        if image_path in listed:
            raise NotUniqueError(f"the ids {listed[image_path]!r} and {number!r} are both of {image_path.name}")
        listed[image_path] = number
        images[number] = Annotation(image_path, f"{path}: {image_path.name}", _size(entry), [], [], [])
    raise_errors(errors, path.parent)
    return images


def _parse_object(item: Any, name: str) -> tuple[Any, int, Box, bool, bool]:
    """Image, category, box, whether it is a crowd, and whether its box is that around its polygons."""
    try:
        values, from_polygon = item.get("bbox"), False
        if not values and (polygons := item.get("segmentation")):
            values, from_polygon = _polygon_box(polygons, name), True
        left, top, width, height = (float(value) for value in values)
        image, category, crowd = item["image_id"], int(item["category_id"]), bool(item.get("iscrowd", 0))
        hash(image)
    except (KeyError, TypeError, AttributeError, OverflowError):
        raise ValueError(f"{name} lacks image_id, category_id, or a bbox of four numbers") from None
    except ValueError as error:
        reason = str(error) if str(error).startswith(name) else ""
        raise ValueError(reason or f"{name} lacks image_id, category_id, or a bbox of four numbers") from None
    if not (all(abs(value) <= MAX_COORDINATE for value in (left, top, width, height)) and width >= 0 and height >= 0):
        raise ValueError(f"{name} has a reversed or empty bbox: {[left, top, width, height]}")
    return image, category, (left, top, left + width, top + height), crowd, from_polygon


def _polygon_box(polygons: Any, name: str) -> tuple[float, float, float, float]:
    """Left, top, width and height of the box around polygons, each x, y, x, y, …, in pixels."""
    if not isinstance(polygons, list):
        raise ValueError(f"{name} has neither a bbox nor polygons")  # run lengths
    flat = polygons if polygons and not isinstance(polygons[0], list) else [v for polygon in polygons for v in polygon]
    values = [float(value) for value in flat]
    if len(values) < 6 or len(values) % 2 or not all(math.isfinite(value) for value in values):
        raise ValueError(f"{name} has a polygon without three corners")
    xs, ys = values[::2], values[1::2]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _text(name: Any) -> str:
    if not isinstance(name, str):
        raise ValueError("a category's name is no text")
    return name


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    width, height = image.get("width"), image.get("height")
    if not isinstance(width, int) or not isinstance(height, int):
        return None
    return (width, height) if 0 < width <= MAX_COORDINATE and 0 < height <= MAX_COORDINATE else None


def _find_image(name: str, folders: list[Path], listed_in: Path, find: Callable[[str], Path | None] | None) -> Path:
    # Label Studio writes /data/local-files/?d=FOLDER/NAME, and encodes characters as in addresses.
    leads_outside = False
    for written in dict.fromkeys([name, unquote(name), unquote(name.rpartition("?d=")[2])]):
        relative = PurePosixPath(written.replace("\\", "/"))  # as Windows writes it
        leads_outside = relative.is_absolute() or ".." in relative.parts
        for folder in () if leads_outside else folders:
            if os.path.isfile(folder / relative):  # noqa: PTH113, since Path.is_file fails at names that are too long
                return folder / relative
        if find is not None and (image := find(str(relative))) is not None:
            return image
    if leads_outside:
        raise ValueError(f"it lists {name[:200]!r}, which leads outside its folder")
    raise FileNotFoundError(f"{listed_in} lists {name[:200]}, which is in none of {', '.join(map(str, folders))}")
