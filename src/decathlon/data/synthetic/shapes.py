"""Sample images, drawn: simple shapes of CIFAR-10's ten classes, 32×32, in the layout of an image folder.

Place, size, tilt, side and colours of a shape are drawn alike for all classes, and a shape is as often darker as
brighter than its ground: a weighted sum of pixels tells little, and a network that sees parts can learn it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from decathlon.data.io import atomic

VERSION = "1"  # of the sample data, in their folder's name: raise it when they change
COUNTS = {"train": 200, "test": 50}  # images of a class
SIDE, FINE = 32, 3  # drawn three times as large, then scaled down: smooth edges

Shape = tuple[np.ndarray, str]  # corners (N, 2) with x to the right and y down, about -1 to 1; and which colour


def ellipse(x: float, y: float, wide: float, high: float, colour: str = "body", tilt: float = 0) -> Shape:
    """An ellipse about (x, y), turned by `tilt` radians."""
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    a, b = wide * np.cos(angle), high * np.sin(angle)
    return np.stack([x + a * np.cos(tilt) - b * np.sin(tilt), y + a * np.sin(tilt) + b * np.cos(tilt)], 1), colour


def polygon(*corners: float, colour: str = "body") -> Shape:
    """A polygon; `corners` are x, y of one after the other."""
    return np.reshape(corners, (-1, 2)), colour


def bar(x: float, y: float, to_x: float, to_y: float, width: float = 0.13, colour: str = "body") -> Shape:
    """A straight limb of this width."""
    start, end = np.array([x, y]), np.array([to_x, to_y])
    side = (end - start)[::-1] * (1, -1) * (width / 2 / np.hypot(*(end - start)))
    return np.stack([start + side, end + side, end - side, start - side]), colour


def legs(*places: float, top: float, foot: float, width: float = 0.13) -> list[Shape]:
    """Legs at these x."""
    return [bar(x, top, x, foot, width) for x in places]


def wheels(*places: float, y: float) -> list[Shape]:
    """Wheels at these x."""
    return [part for x in places for part in (ellipse(x, y, 0.22, 0.22, "dark"), ellipse(x, y, 0.09, 0.09, "light"))]


SHAPES: dict[str, list[Shape]] = {
    "airplane": [
        polygon(0.3, 0, -0.3, -0.9, -0.55, -0.9, -0.2, 0, -0.55, 0.9, -0.3, 0.9),
        polygon(-0.65, 0, -0.9, -0.4, -1.05, -0.4, -0.9, 0, -1.05, 0.4, -0.9, 0.4),
        ellipse(0, 0, 1, 0.14),
        ellipse(0.75, 0, 0.12, 0.07, "dark"),
    ],
    "automobile": [
        polygon(-0.6, 0, -0.4, -0.45, 0.25, -0.45, 0.55, 0),
        polygon(-1, 0, 0.75, 0, 1, 0.15, 1, 0.4, -1, 0.4),
        polygon(-0.45, -0.03, -0.3, -0.35, -0.08, -0.35, -0.08, -0.03, colour="light"),
        polygon(0.02, -0.03, 0.02, -0.35, 0.2, -0.35, 0.4, -0.03, colour="light"),
        *wheels(-0.55, 0.55, y=0.4),
    ],
    "bird": [
        polygon(-0.3, 0.1, -1, -0.1, -0.95, 0.3),
        ellipse(0, 0.1, 0.5, 0.24),
        ellipse(0.5, -0.12, 0.21, 0.2),
        polygon(0.68, -0.2, 1, -0.08, 0.68, -0.02, colour="light"),
        polygon(0.3, 0.05, 0.15, -0.4, -0.75, -0.85, -0.3, 0.15, colour="dark"),
        ellipse(0.55, -0.16, 0.06, 0.06, "dark"),
        *legs(-0.05, 0.12, top=0.25, foot=0.65, width=0.07),
    ],
    "cat": [
        bar(0.3, 0.85, 0.75, 0.6),
        bar(0.72, 0.65, 0.62, 0.05),
        ellipse(0, 0.5, 0.4, 0.48),
        polygon(-0.42, -0.3, -0.4, -0.95, 0, -0.5, 0.4, -0.95, 0.42, -0.3),
        ellipse(0, -0.3, 0.44, 0.36),
        *(ellipse(x, -0.36, 0.09, 0.11, "light") for x in (-0.18, 0.18)),
        *(bar(x / 3, -0.15, x, y, 0.05, "dark") for x in (-0.75, 0.75) for y in (-0.25, 0)),
    ],
    "deer": [
        *(bar(0.55, -0.5, x, -1, 0.07, "dark") for x in (0.3, 0.75)),
        *(bar(x, -0.78, to, -0.9, 0.06, "dark") for x, to in ((0.43, 0.15), (0.66, 0.98))),
        *legs(-0.42, -0.25, 0.22, 0.38, top=0.1, foot=0.95, width=0.09),
        ellipse(-0.02, 0.08, 0.52, 0.2),
        bar(0.36, 0.05, 0.58, -0.42, 0.15),
        ellipse(0.7, -0.42, 0.22, 0.1, tilt=0.3),
        ellipse(-0.55, 0, 0.1, 0.07, "light"),
    ],
    "dog": [
        bar(-0.55, 0.1, -0.95, -0.4),
        *legs(-0.5, -0.28, 0.22, 0.42, top=0.2, foot=0.75, width=0.16),
        ellipse(-0.05, 0.15, 0.62, 0.27),
        ellipse(0.52, -0.25, 0.3, 0.28),
        ellipse(0.85, -0.16, 0.2, 0.13),
        ellipse(1, -0.2, 0.07, 0.07, "dark"),
        ellipse(0.38, -0.15, 0.12, 0.3, "dark"),
        ellipse(0.62, -0.32, 0.06, 0.06, "light"),
    ],
    "frog": [
        *(ellipse(x, 0.4, 0.42, 0.22, tilt=-x) for x in (-0.65, 0.65)),
        *(bar(x * 0.6, 0.6, x, 0.78, 0.14) for x in (-1, 1)),
        ellipse(0, 0.2, 0.62, 0.45),
        *(ellipse(x, -0.25, 0.22, 0.22) for x in (-0.36, 0.36)),
        *(ellipse(x, -0.27, 0.14, 0.14, "light") for x in (-0.36, 0.36)),
        *(ellipse(x, -0.27, 0.06, 0.08, "dark") for x in (-0.36, 0.36)),
        bar(-0.4, 0.15, 0.4, 0.15, 0.07, "dark"),
    ],
    "horse": [
        polygon(-0.5, -0.1, -0.95, 0.1, -0.9, 0.65, -0.75, 0.2, -0.5, 0.1, colour="dark"),
        *legs(-0.48, -0.28, 0.28, 0.46, top=0.1, foot=0.95),
        ellipse(-0.03, 0.05, 0.6, 0.28),
        bar(0.38, 0, 0.62, -0.6, 0.3),
        bar(0.2, -0.2, 0.5, -0.8, 0.14, "dark"),
        ellipse(0.78, -0.52, 0.3, 0.14, tilt=0.7),
    ],
    "ship": [
        bar(0, 0.4, 0, -0.95, 0.07, "dark"),
        polygon(0.07, -0.9, 0.75, 0.2, 0.07, 0.2, colour="light"),
        polygon(-0.07, -0.7, -0.07, 0.2, -0.55, 0.2, colour="light"),
        polygon(-1, 0.3, 1, 0.3, 0.65, 0.75, -0.7, 0.75),
    ],
    "truck": [
        polygon(-1, -0.7, 0.3, -0.7, 0.3, 0.4, -1, 0.4),
        polygon(0.36, -0.3, 0.75, -0.3, 1, 0.05, 1, 0.4, 0.36, 0.4),
        polygon(0.5, -0.2, 0.7, -0.2, 0.87, 0.05, 0.5, 0.05, colour="light"),
        *wheels(-0.7, -0.2, 0.65, y=0.42),
    ],
}


def write_images(folder: Path) -> Path:
    """Write the drawn images as `{train,test}/<class>/NNN.png`. Returns the folder."""
    if folder.is_dir():
        return folder
    with atomic.naming_errors(folder), atomic.temporary_path(folder) as part:
        draw = np.random.default_rng(0)
        for split, count in COUNTS.items():
            for name in SHAPES:
                (part / split / name).mkdir(parents=True)
                for number in range(count):
                    draw_image(name, draw).save(part / split / name / f"{number:03}.png")
        atomic.replace_path(part, folder)
    return folder


def draw_image(name: str, draw: np.random.Generator) -> Image.Image:
    """One image of this class: a ground with clutter, the shape, something in front of it, noise."""
    body, ground = draw.uniform(0, 255, (2, 3))
    while abs(body.mean() - ground.mean()) < 60:
        body, ground = draw.uniform(0, 255, (2, 3))
    colours = {"body": body, "dark": 0.3 * body, "light": 0.25 * body + 190}
    canvas = Image.new("RGB", (SIDE * FINE, SIDE * FINE), _rgb(ground))
    brush = ImageDraw.Draw(canvas)
    for _ in range(draw.integers(2, 6)):
        colour = 0.7 * ground + 0.3 * draw.uniform(0, 255, 3)
        _fill(brush, ellipse(*draw.uniform(-1, 1, 2), *draw.uniform(0.1, 0.6, 2))[0], 1, np.zeros(2), colour)
    size, tilt, offset = draw.uniform(0.55, 0.9), draw.uniform(-0.3, 0.3), draw.uniform(-1, 1, 2)
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    flip = (draw.choice([-1, 1]), 1)
    for corners, colour in SHAPES[name]:
        _fill(brush, corners * flip @ turn, size, offset * (1 - size), colours[colour])
    for _ in range(draw.integers(0, 3)):
        colour = draw.uniform(0, 255, 3)
        _fill(brush, ellipse(*draw.uniform(-1, 1, 2), *draw.uniform(0.05, 0.2, 2))[0], 1, np.zeros(2), colour)
    pixels = np.asarray(canvas.resize((SIDE, SIDE), Image.Resampling.BOX), np.float64)
    pixels = pixels + draw.normal(0, draw.uniform(4, 16), pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _fill(brush: ImageDraw.ImageDraw, corners: np.ndarray, size: float, offset: np.ndarray, colour: np.ndarray) -> None:
    points = (corners * size + offset + 1) * (SIDE * FINE / 2)
    brush.polygon([(float(x), float(y)) for x, y in points], fill=_rgb(colour))


def _rgb(colour: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in colour.clip(0, 255))
    return red, green, blue
