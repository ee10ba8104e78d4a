"""Sample scenes, drawn: a few objects of PASCAL VOC's classes at varied sizes, some over others, in VOC's layout.

The objects are the shapes of `shapes.py`, each class in colours of its own, so that a small network learns to detect
them within minutes. Backgrounds are uneven and cluttered: brightness alone does not give a box away.
"""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from decathlon.data.io import atomic
from decathlon.data.synthetic.shapes import SHAPES, ellipse

VERSION = "1"  # of the sample data, in their folder's name: raise it when they change
COUNTS = {"trainval": 192, "test": 48}  # scenes
WIDTH, HEIGHT, OVERSAMPLING = 160, 120, 2  # drawn twice as large, then scaled down: smooth edges
MAX_OBJECTS = 4  # objects in a scene
MAX_OVERLAP = 0.25  # of the smaller box that another may cover
# VOC's name of a kind, the shape in `shapes.SHAPES`, and the hues of its body, from 0 to 1.
KINDS = {
    "aeroplane": ("airplane", 0.50, 0.62),
    "boat": ("ship", 0.93, 1.03),
    "car": ("automobile", 0.25, 0.42),
    "cat": ("cat", 0.07, 0.15),
}

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels from 0


def write_scenes(folder: Path) -> Path:
    """Write the drawn scenes as `VOCdevkit/VOC2007/{Annotations,JPEGImages,ImageSets/Main}`. Returns the folder."""
    if folder.is_dir():
        return folder
    with atomic.naming_errors(folder), atomic.temporary_path(folder) as part:
        tree = part / "VOCdevkit" / "VOC2007"
        for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (tree / name).mkdir(parents=True)
        draw, number = np.random.default_rng(0), 0
        for side, count in COUNTS.items():
            names = []
            for _ in range(count):
                number += 1
                names.append(f"{number:06}")
                image, objects = draw_scene(draw)
                image.save(tree / "JPEGImages" / f"{names[-1]}.jpg", quality=92)
                (tree / "Annotations" / f"{names[-1]}.xml").write_text(to_xml(names[-1], objects))
            (tree / "ImageSets" / "Main" / f"{side}.txt").write_text("".join(f"{name}\n" for name in names))
        atomic.replace_path(part, folder)
    return folder


def draw_scene(draw: np.random.Generator) -> tuple[Image.Image, list[tuple[str, Box]]]:
    """One scene: the image, and the name and box of each object in it."""
    canvas = _ground(draw)
    brush = ImageDraw.Draw(canvas)
    objects: list[tuple[str, Box]] = []
    for _ in range(draw.integers(1, MAX_OBJECTS + 1)):
        name = str(draw.choice(list(KINDS)))
        parts, box = _placed(name, draw)
        if all(_covered(box, other) <= MAX_OVERLAP for _, other in objects):
            for corners, colour in parts:
                brush.polygon([(float(x) * OVERSAMPLING, float(y) * OVERSAMPLING) for x, y in corners], fill=colour)
            objects.append((name, box))
    pixels = np.asarray(canvas.resize((WIDTH, HEIGHT), Image.Resampling.BOX), np.float64)
    pixels = pixels + draw.normal(0, draw.uniform(2, 9), pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), objects


def to_xml(name: str, objects: list[tuple[str, Box]]) -> str:
    """What VOC writes of an image. It counts pixels from 1, and the last one belongs to the box."""
    entries = "".join(
        f"<object><name>{kind}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult><bndbox>"
        f"<xmin>{round(left) + 1}</xmin><ymin>{round(top) + 1}</ymin><xmax>{round(right)}</xmax>"
        f"<ymax>{round(bottom)}</ymax></bndbox></object>\n"
        for kind, (left, top, right, bottom) in objects
    )
    return (
        f"<annotation>\n<folder>VOC2007</folder>\n<filename>{name}.jpg</filename>\n"
        f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>\n"
        f"<segmented>0</segmented>\n{entries}</annotation>\n"
    )


def _ground(draw: np.random.Generator) -> Image.Image:
    """Greyish, uneven, with pale spots."""
    coarse = draw.uniform(70, 190) + draw.uniform(-28, 28, (4, 5, 1)) + draw.uniform(-12, 12, (4, 5, 3))
    rough = Image.fromarray(coarse.clip(0, 255).astype(np.uint8))
    canvas = rough.resize((WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING), Image.Resampling.BICUBIC)
    brush = ImageDraw.Draw(canvas)
    for _ in range(draw.integers(3, 9)):
        spot = ellipse(*draw.uniform(0, (WIDTH, HEIGHT)), *draw.uniform(3, 22, 2))[0]
        grey = draw.uniform(40, 220) + draw.uniform(-15, 15, 3)
        brush.polygon([(float(x) * OVERSAMPLING, float(y) * OVERSAMPLING) for x, y in spot], fill=_rgb(grey))
    return canvas


def _placed(name: str, draw: np.random.Generator) -> tuple[list[tuple[np.ndarray, tuple[int, int, int]]], Box]:
    """The parts of an object with their colours, in pixels of the scene, and the box around them, cut at its edges."""
    shape, low, high = KINDS[name]
    size = 10 * 4.2 ** draw.uniform(0, 1)  # half its width: 20 to 84 pixels, as many small ones as large
    tilt, side = draw.uniform(-0.2, 0.2), draw.choice([-1, 1])
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    stretch = np.exp(draw.uniform(-0.15, 0.15))
    centre = draw.uniform((0.6 * size, 0.6 * size), (WIDTH - 0.6 * size, HEIGHT - 0.6 * size))
    body = 255 * np.array(
        colorsys.hsv_to_rgb(draw.uniform(low, high) % 1, draw.uniform(0.6, 0.95), draw.uniform(0.55, 1))
    )
    colours = {"body": body, "dark": 0.3 * body, "light": 0.25 * body + 190}
    parts = [
        (corners * (side * stretch, 1 / stretch) @ turn * size + centre, _rgb(colours[colour]))
        for corners, colour in SHAPES[shape]
    ]
    points = np.concatenate([corners for corners, _ in parts])
    (left, top), (right, bottom) = points.min(0).clip(0), points.max(0).clip(None, (WIDTH, HEIGHT))
    return parts, (float(left), float(top), float(right), float(bottom))


def _covered(first: Box, second: Box) -> float:
    """What two boxes share, as a part of the smaller one."""
    wide = max(0.0, min(first[2], second[2]) - max(first[0], second[0]))
    high = max(0.0, min(first[3], second[3]) - max(first[1], second[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return wide * high / min(areas)


def _rgb(colour: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in colour.clip(0, 255))
    return red, green, blue
