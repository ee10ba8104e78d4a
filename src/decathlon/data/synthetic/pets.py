"""Sample pets, drawn: cats and dogs before objects of all kinds, with trimaps, in the layout of Oxford-IIIT Pet.

A pet has a coat of its own, striped or plain, over a ground of patches and stripes in any colours, so that no colour
tells what is pet; objects that are no pets lie about, as sharply drawn. A network that sees shapes can learn it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from decathlon.data.io import atomic
from decathlon.data.synthetic.shapes import SHAPES, ellipse

VERSION = "1"  # of the sample data, in their folder's name: raise it when they change
COUNTS = {"trainval": 132, "test": 48}
BREEDS = {"Tabby": "cat", "terrier": "dog"}  # as in the real set, cats are written with a capital letter
OVERSAMPLING = 2  # drawn twice as large, then scaled down: smooth edges
MARGIN = 3  # pixels: width of the boundary


def write_pets(folder: Path) -> Path:
    """Write images, trimaps and lists. Returns the folder, which holds `images` and `annotations`."""
    if folder.is_dir():
        return folder
    with atomic.naming_errors(folder), atomic.temporary_path(folder) as part:
        (part / "images").mkdir(parents=True)
        (part / "annotations/trimaps").mkdir(parents=True)
        draw = np.random.default_rng(0)
        for split, count in COUNTS.items():
            lines = []
            for number in range(count):
                breed = list(BREEDS)[number % len(BREEDS)]
                name = f"{breed}_{number + (1000 if split == 'test' else 1)}"
                image, trimap = draw_pet(BREEDS[breed], draw)
                image.save(part / "images" / f"{name}.jpg", quality=90)
                trimap.save(part / "annotations/trimaps" / f"{name}.png")
                lines.append(f"{name} {number % 2 + 1} {number % 2 + 1} 1\n")  # name, class, species, breed
            (part / "annotations" / f"{split}.txt").write_text("".join(lines))
        atomic.replace_path(part, folder)
    return folder


def draw_pet(name: str, draw: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """An image of one pet, 80 to 144 pixels a side, and its trimap: 1 pet, 2 background, 3 boundary."""
    wide, high = (int(side) * OVERSAMPLING for side in draw.integers(80, 145, 2))
    canvas = draw_texture(wide, high, draw)
    for _ in range(draw.integers(4, 9)):  # what lies about
        blot = Image.new("L", (wide, high))
        corners = ellipse(0, 0, draw.uniform(0.08, 0.35), draw.uniform(0.08, 0.35), tilt=draw.uniform(0, 3))[0]
        if draw.random() < 0.5:
            corners = corners[:: draw.integers(4, 8)]  # a polygon
        fill_polygon(blot, corners + draw.uniform(-1, 1, 2), 255)
        canvas.paste(draw_texture(wide, high, draw), mask=blot)
    size, tilt = draw.uniform(0.7, 1.05), draw.uniform(-0.4, 0.4)
    offset = draw.uniform(-0.3, 0.3, 2)
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    flip = (draw.choice([-1, 1]), 1)
    coat, pet = draw_texture(wide, high, draw), Image.new("L", (wide, high))
    marks = ImageDraw.Draw(coat)
    for corners, colour in SHAPES[name]:
        points = corners * flip @ turn * size + offset
        fill_polygon(pet, points, 255)
        if colour != "body":
            tone = 245 if colour == "light" else 25
            marks.polygon(_pixels(points, wide, high), fill=(tone, tone, tone))
    canvas.paste(coat, mask=pet)
    small = (wide // OVERSAMPLING, high // OVERSAMPLING)
    pixels = np.asarray(canvas.resize(small, Image.Resampling.BOX), np.float64)
    pixels = pixels * draw.uniform(0.7, 1.1) + draw.normal(0, draw.uniform(3, 10), pixels.shape)
    mask = pet.resize(small, Image.Resampling.BOX).point(lambda value: 255 * (value > 127))
    inner, outer = mask.filter(ImageFilter.MinFilter(MARGIN)), mask.filter(ImageFilter.MaxFilter(MARGIN))
    trimap = np.where(np.asarray(inner) > 0, 1, np.where(np.asarray(outer) > 0, 3, 2)).astype(np.uint8)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), Image.fromarray(trimap)


def draw_texture(wide: int, high: int, draw: np.random.Generator) -> Image.Image:
    """Two near colours in soft stripes or soft patches, RGB."""
    first = draw.uniform(20, 235, 3)
    second = (first + draw.normal(0, 35, 3)).clip(0, 255)
    if draw.random() < 0.5:
        y, x = np.mgrid[:high, :wide] / (OVERSAMPLING * 10)
        angle = draw.uniform(0, np.pi)
        amount = 0.5 + 0.5 * np.sin((x * np.cos(angle) + y * np.sin(angle)) * draw.uniform(2, 9))
    else:
        coarse = Image.fromarray((255 * draw.random((draw.integers(3, 12), draw.integers(3, 12)))).astype(np.uint8))
        amount = np.asarray(coarse.resize((wide, high), Image.Resampling.BICUBIC)) / 255
    return Image.fromarray((first + amount[..., None] * (second - first)).astype(np.uint8))


def fill_polygon(canvas: Image.Image, corners: np.ndarray, value: int) -> None:
    """Fill a polygon; `corners` (N, 2) count from -1 to 1 over the shorter side, about the middle."""
    ImageDraw.Draw(canvas).polygon(_pixels(corners, *canvas.size), fill=value)


def _pixels(corners: np.ndarray, wide: int, high: int) -> list[tuple[float, float]]:
    points = corners * (min(wide, high) / 2) + (wide / 2, high / 2)
    return [(float(x), float(y)) for x, y in points]
