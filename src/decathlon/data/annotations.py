"""Boxes around things, as people write them down: PASCAL VOC's XML files, and COCO's JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, ElementTree

from decathlon.data import files

FARTHEST = 1_000_000  # pixels: no number beyond it is a place in a picture
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels; the picture's corner is (0, 0)


@dataclass(frozen=True)
class Annotation:
    """What is written of one picture.

    Attributes:
        picture: Its file.
        where: What its annotation is called in complaints.
        size: Width and height to which the boxes refer; None where it is not said.
        boxes: As written: neither clipped nor scaled.
        names: Class of each box.
        difficult: Whether a box is not to count: VOC's `difficult`, COCO's `iscrowd`.
    """

    picture: Path
    where: str
    size: tuple[int, int] | None
    boxes: list[Box]
    names: list[str]
    difficult: list[bool]


# --- VOC --------------------------------------------------------------------------------------------------------------


def listed(tree: Path, side: str) -> list[tuple[Path, Path]] | None:
    """Picture and XML file of each name in ImageSets/Main/`side`.txt; None where there is no such list.

    Raises:
        FileNotFoundError: A name is listed whose picture or XML file is absent: names it.
        ValueError: The list is empty, or a name leads outside the tree.
    """
    path = tree / "ImageSets" / "Main" / f"{side}.txt"
    if not path.is_file():
        return None
    names = [line.split()[0] for line in files.text(path).splitlines() if line.strip()]
    if not names:
        raise ValueError(f"{path} lists no picture")
    return [pair(tree, name, str(path)) for name in names]


def pair(tree: Path, name: str, said: str) -> tuple[Path, Path]:
    """Picture and XML file of one name that `said` lists.

    Raises:
        FileNotFoundError, ValueError: As `listed`.
    """
    if Path(name).name != name or name == ".." or "\0" in name:
        raise ValueError(f"{said} lists {name!r}, which is no plain name of a picture")
    xml, stem = tree / "Annotations" / f"{name}.xml", tree / "JPEGImages" / name
    if not xml.is_file():
        raise FileNotFoundError(f"{said} lists {name}, but there is no {xml}")
    for ending in ENDINGS:
        picture = stem.with_name(name + ending)
        if picture.is_file():
            return picture, xml
    raise FileNotFoundError(f"{said} lists {name}, but there is no {stem}.jpg")


def read_xml(picture: Path, path: Path) -> Annotation:
    """Read one XML file of VOC. It counts pixels from 1, and the last belongs to the box: 1 is taken off the first.

    Raises:
        ValueError: It is no such file, asks for entities (which can be bombs), or a box is missing or reversed.
    """
    try:
        root = ElementTree.fromstring(files.content(path), forbid_dtd=True)
    except DefusedXmlException:
        raise ValueError(f"{path} declares entities or a document type, which no annotation needs: refused") from None
    except (ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{path} is no XML that can be read: {error}") from None
    boxes, names, difficult = list[Box](), list[str](), list[bool]()
    for number, thing in enumerate(root.findall("object"), 1):
        name = (thing.findtext("name") or "").strip()
        if not name:
            raise ValueError(f"{path}: object {number} has no name")
        left, top, right, bottom = _corners(thing.find("bndbox"), f"{path}: object {number} ({name})")
        boxes.append((left - 1, top - 1, right, bottom))
        names.append(name)
        difficult.append((thing.findtext("difficult") or "0").strip() == "1")
    size = root.find("size")
    claimed = None
    if size is not None:
        wide, high = (_number(size.findtext(name), 0.0) for name in ("width", "height"))
        claimed = (round(wide), round(high)) if 1 <= wide < 1e6 and 1 <= high < 1e6 else None  # some tools write 0
    return Annotation(picture, str(path), claimed, boxes, names, difficult)


def _corners(box: Element | None, thing: str) -> Box:
    if box is None:
        raise ValueError(f"{thing} has no bndbox")
    left, top, right, bottom = (_number(box.findtext(name)) for name in ("xmin", "ymin", "xmax", "ymax"))
    if not all(abs(value) <= FARTHEST for value in (left, top, right, bottom)):
        raise ValueError(f"{thing} has a bndbox without four numbers xmin, ymin, xmax, ymax")
    if right < left or bottom < top:
        raise ValueError(f"{thing} has a reversed box: x from {left:g} to {right:g}, y from {top:g} to {bottom:g}")
    return left, top, right, bottom


def _number(text: str | None, default: float = math.nan) -> float:
    try:
        return float(text or "")
    except ValueError:
        return default


# --- COCO -------------------------------------------------------------------------------------------------------------


def read_coco(path: Path, folders: list[Path]) -> tuple[list[Annotation], list[str]]:
    """Read a JSON file in COCO's format; its pictures lie in one of `folders`.

    Returns:
        The pictures with their boxes, and the names of the categories in the order of their ids.

    Raises:
        FileNotFoundError: A picture is absent: names it.
        ValueError: It is no such file, or a box is missing, reversed or of an unknown picture or category.
    """
    try:
        root = files.from_json(files.text(path))
        categories = {int(one["id"]): _text(one["name"]) for one in root["categories"]}
        images = {
            one["id"]: Annotation(_found(one["file_name"], folders, path), "", _size(one), [], [], [])
            for one in root["images"]
        }
        things = list(root["annotations"])
    except FileNotFoundError:
        raise
    except KeyError as error:
        raise ValueError(f"{path} is not in COCO's format: it lacks {error}") from None
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{path} is not in COCO's format: {str(error).removeprefix(f'{path} ')}") from None
    files.class_names(list(categories.values()), path)
    if not images or not categories:
        raise ValueError(f"{path} lists no images, or no categories")
    for number, thing in enumerate(things):
        told = thing.get("id") if isinstance(thing, dict) else None
        name = f"{path}: annotation {told if isinstance(told, (int, str)) else number}"
        image, category, box, crowd = _thing(thing, name)
        if image not in images or category not in categories:
            raise ValueError(f"{name} is of image {image!r} and category {category!r}, which the file does not list")
        images[image].boxes.append(box)
        images[image].names.append(categories[category])
        images[image].difficult.append(crowd)
    found = [
        Annotation(one.picture, f"{path}: {one.picture.name}", one.size, one.boxes, one.names, one.difficult)
        for one in images.values()
    ]
    return found, [categories[number] for number in sorted(categories)]


def _thing(thing: Any, name: str) -> tuple[Any, int, Box, bool]:
    try:
        left, top, wide, high = (float(value) for value in thing["bbox"])
        image, category, crowd = thing["image_id"], int(thing["category_id"]), bool(thing.get("iscrowd", 0))
        hash(image)
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError):
        raise ValueError(f"{name} lacks image_id, category_id, or a bbox of four numbers") from None
    if not (all(abs(value) <= FARTHEST for value in (left, top, wide, high)) and wide > 0 and high > 0):
        raise ValueError(f"{name} has a reversed or empty bbox: {[left, top, wide, high]}")
    return image, category, (left, top, left + wide, top + high), crowd


def _text(name: Any) -> str:
    if not isinstance(name, str):
        raise ValueError("a category's name is no text")
    return name


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    wide, high = image.get("width"), image.get("height")
    if not isinstance(wide, int) or not isinstance(high, int):
        return None
    return (wide, high) if 0 < wide <= FARTHEST and 0 < high <= FARTHEST else None


def _found(name: str, folders: list[Path], said: Path) -> Path:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"it lists {name!r}, which leads outside its folder")
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{said} lists {name}, which is in none of {', '.join(map(str, folders))}")
