"""Small trees of PASCAL VOC's layout, with a bright patch where the box must be."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from decathlon.data import voc
from decathlon.data.base import Data, Source

WIDTH, HEIGHT = 60, 40
PLACE = (10, 5, 30, 25)  # left, top, right, bottom of the bright patch, pixels from 0


def patch(box: tuple[int, int, int, int] = PLACE, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    """A dark image with a bright patch: where that is, the box must be."""
    image = Image.new("RGB", size, (20, 20, 20))
    image.paste((250, 250, 250), box)
    return image


def mark(image: Image.Image, number: int) -> Image.Image:
    """The image with a dark pixel of its own, so that no two images are copies."""
    image = image.copy()
    image.putpixel((image.width - 1, image.height - 1), (20, number % 100, number // 100))
    return image


def object_xml(name: str = "cat", box: tuple[float, ...] = PLACE, more: str = "<difficult>0</difficult>") -> str:
    left, top, right, bottom = box
    corners = f"<xmin>{left + 1}</xmin><ymin>{top + 1}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax>"
    return f"<object><name>{name}</name>{more}<bndbox>{corners}</bndbox></object>"


def xml(*objects: str, size: tuple[int, int] | None = (WIDTH, HEIGHT)) -> str:
    said = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
    return f"<annotation>{said}{''.join(objects)}</annotation>"


def tree(place: Path, annotations: dict[str, str], picture: Image.Image | None = None) -> Path:
    """A user's tree of VOC's layout, without lists; every annotation has an image."""
    for name in ("Annotations", "JPEGImages"):
        (place / name).mkdir(parents=True, exist_ok=True)
    for number, (name, text) in enumerate(annotations.items()):
        (place / "Annotations" / f"{name}.xml").write_text(text)
        mark(picture or patch(), number).save(place / "JPEGImages" / f"{name}.png")
    return place


def many(**first: str) -> dict[str, str]:
    """Enough annotations to be divided; those given first."""
    return first | {f"z{number}": xml(object_xml()) for number in range(8)}


def own(path: Path, longest: int = 500) -> Data:
    return voc.load(Source("own", path, path.parent / "data"), longest)


def whole(data: Data) -> dict[int, tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    """All examples by the number of their image."""
    parts = (data.train, data.validation, data.test)
    return {int(part.inputs[place]): part.example(place) for part in parts for place in range(len(part))}  # type: ignore[attr-defined]


def bright(picture: torch.Tensor) -> list[int]:
    """The box around what is bright."""
    rows, columns = (torch.nonzero((picture[0] > 128).any(axis))[:, 0] for axis in (1, 0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


# --- Good input -------------------------------------------------------------------------------------------------------
