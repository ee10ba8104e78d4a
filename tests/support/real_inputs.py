"""Small inputs of the kinds that people really have, drawn anew: images, masks, annotations, texts."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from decathlon.data import cifar10, imdb, mnist, pets, voc
from decathlon.data.base import Data, Source
from decathlon.data.read_options import ReadOptions

WIDTH, HEIGHT, BOX = 60, 40, (10, 8, 30, 28)


def own(path: Path, **options: Any) -> Source:
    """A user's own path, with a cache beside it."""
    return Source("own", path, path.parent / "data", download=False, options=ReadOptions(**options))


def read(dataset: str, path: Path, **options: Any) -> Data:
    """The data as the data set's reader gives them."""
    source = own(path, **options)
    if dataset == "pets":
        return pets.load(source, 32)
    return {"mnist": mnist, "cifar10": cifar10, "voc": voc}[dataset].load(source)  # type: ignore[attr-defined]


def texts(path: Path, **options: Any) -> imdb.Texts:
    return imdb.load(own(path, **options))


def sizes(data: Data) -> list[int]:
    """Examples for training, validation and test."""
    return list(data.sizes.values())


def scene(number: int, box: tuple[int, int, int, int] = BOX, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    """Noise, other for each number, with a bright box."""
    noise = np.random.default_rng(number).integers(60, 90, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(noise)
    image.paste((250, 120, 0), box)
    return image


def save(image: Image.Image, path: Path, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def mask(
    box: tuple[int, int, int, int] = BOX, size: tuple[int, int] = (WIDTH, HEIGHT), value: int = 255
) -> Image.Image:
    image = Image.new("L", size)
    image.paste(value, box)
    return image


def masked(folder: Path, numbers: Iterable[int], drawn: Any = None, ending: str = ".png") -> Path:
    """images/ and masks/ in a folder."""
    for number in numbers:
        save(scene(number), folder / "images" / f"{number:02}.png")
        save(drawn(number) if drawn else mask(), folder / "masks" / f"{number:02}{ending}")
    return folder


def classed(folder: Path, numbers: Iterable[int], classes: tuple[str, ...] = ("blue", "red")) -> Path:
    """A folder of images a class."""
    for number in numbers:
        for c, name in enumerate(classes):
            save(scene(1000 * c + number), folder / name / f"{number:02}.png")
    return folder


def xml(boxes: Iterable[tuple[str, tuple[int, int, int, int]]] = (("red", BOX),), filename: str = "") -> str:
    objects = "".join(
        f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{left + 1}</xmin><ymin>{top + 1}</ymin>"
        f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
        for name, (left, top, right, bottom) in boxes
    )
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
    return f"<annotation><filename>{filename}</filename>{size}{objects}</annotation>"


def voc_tree(
    folder: Path, names: Iterable[str], xmls: str = "Annotations", images: str = "JPEGImages", ending: str = ".png"
) -> Path:
    """XML files and images in folders of these names."""
    for name in names:
        number = sum(ord(letter) * 31**place for place, letter in enumerate(name)) % 100_000
        save(scene(number), folder / images / f"{name}{ending}", format="PNG")
        path = folder / xmls / f"{name}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(xml(filename=f"{Path(name).name}{ending}"))
    return folder


def lists(folder: Path, **names: Iterable[str]) -> Path:
    """ImageSets/Main/*.txt."""
    main = folder / "ImageSets" / "Main"
    main.mkdir(parents=True, exist_ok=True)
    for side, lines in names.items():
        (main / f"{side}.txt").write_text("".join(f"{line}\n" for line in lines))
    return folder


def coco(numbers: Iterable[int], name: str = "{:02}.png", **changes: Any) -> str:
    """COCO's JSON, a box an image."""
    numbers = list(numbers)
    box = [BOX[0], BOX[1], BOX[2] - BOX[0], BOX[3] - BOX[1]]
    root = {
        "images": [{"id": n, "file_name": name.format(n), "width": WIDTH, "height": HEIGHT} for n in numbers],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "bbox": box, "iscrowd": 0} for n in numbers],
        "categories": [{"id": 1, "name": "red"}],
    }
    return json.dumps(root | changes)


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def images(folder: Path, numbers: Iterable[int]) -> Path:
    for number in numbers:
        save(scene(number), folder / f"{number:02}.png")
    return folder


def yolo(folder: Path, numbers: Iterable[int], image_folder: str = "images", label_folder: str = "labels") -> Path:
    """Images and label files, the box as fractions."""
    left, top, right, bottom = BOX
    values = (left + right) / 2 / WIDTH, (top + bottom) / 2 / HEIGHT, (right - left) / WIDTH, (bottom - top) / HEIGHT
    for number in numbers:
        save(scene(number), folder / image_folder / f"{number:02}.png")
        write(folder / label_folder / f"{number:02}.txt", "0 " + " ".join(f"{value:.6f}" for value in values) + "\n")
    return folder


def boxes(data: Data) -> list[list[int]]:
    """All boxes of all splits, rounded, each once."""
    rounded = set()
    for split in (data.train, data.validation, data.test):
        for index in range(len(split)):
            rounded |= {tuple(round(v) for v in box) for box in split.example(index)[1]["boxes"].tolist()}  # type: ignore[attr-defined]
    return sorted(map(list, rounded))


def sentence(number: int) -> tuple[str, str]:
    """A text, other for each number, and its label."""
    good = number % 2 == 0
    return f"film {number} was {'warm and funny' if good else 'cold and dull'}", "pos" if good else "neg"


def text_tree(folder: Path, numbers: Iterable[int], ending: str = ".txt") -> Path:
    for number in numbers:
        text, label = sentence(number)
        write(folder / label / f"{number:03}{ending}", text)
    return folder


def table(path: Path, numbers: Iterable[int], header: str = "text,label", line: str = "{text},{label}") -> Path:
    rows = [line.format(text=text, label=label) for text, label in map(sentence, numbers)]
    return write(path, "\n".join([header, *rows]) + "\n")


def apple_double(path: Path) -> None:
    """The ._ file that macOS puts beside a file on a foreign disk."""
    head = struct.pack(">II16sH", 0x00051607, 0x00020000, b"Mac OS X        ", 2)
    path.with_name("._" + path.name).write_bytes(head.ljust(163, b"\0"))


def litter(folder: Path) -> Path:
    """What systems and programs leave in every folder below."""
    for path in [file for file in folder.rglob("*") if file.is_file()]:
        apple_double(path)
    for path in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
            (path / name).write_bytes(b"\0\1")
        for name in ("__MACOSX", ".ipynb_checkpoints"):
            inside = path / name
            inside.mkdir()
            for file in [file for file in path.iterdir() if file.is_file()][:3]:
                shutil.copyfile(file, inside / f"{file.stem}-checkpoint{file.suffix}")
    return folder
