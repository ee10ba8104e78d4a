"""What a task that finds masks needs: scores from two views, the masks at a photo's own size, and files for a user."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from decathlon import metrics
from decathlon.augment import to_float
from decathlon.data.digit import open_image
from decathlon.data.pets import Pets, scaled
from decathlon.data.photo import in_colour
from decathlon.portable import Graph

BATCH = 32  # photos at once: more is no faster
KINDS = ("mask", "overlay", "cutout")

Scorer = Callable[[Tensor], Tensor]  # float photos (N, 3, S, S) -> scores (N, 1, S, S)


def scores(model: Scorer, photos: Tensor) -> Tensor:
    """The mean of the scores of a photo and of its mirror image: uint8 (N, 3, S, S) -> float (N, 1, S, S)."""

    def both(batch: Tensor) -> Tensor:
        views = to_float(batch).contiguous(memory_format=torch.channels_last)
        return (model(views) + model(views.flip(3)).flip(3)) / 2

    return metrics.outputs(both, photos, BATCH)


def at_size(score: Tensor, high: int, wide: int) -> Tensor:
    """The scores (1, S, S) of one photo at its own size: (high, wide)."""
    return F.interpolate(score[None], (high, wide), mode="bilinear")[0, 0]  # (1, 1, H, W) -> (H, W)


def pairs(found: Tensor, photos: Pets) -> Iterator[tuple[Tensor, Tensor]]:
    """Of each photo, at its own size, the mask that the scores (N, 1, S, S) give, bool (H, W), and its trimap."""
    for number, score in enumerate(found.cpu()):
        trimap = photos.trimap(number)
        yield at_size(score, *trimap.shape) > 0, trimap


def answers(model: Scorer, inputs: list[str], size: int, what: str, folder: Path) -> list[dict[str, Any]]:
    """How much of each photo is `what`, pet for one, with the mask, an overlay and a cut-out written into `folder`.

    Photos of any size and shape; the network sees them stretched to `size` × `size`.

    Raises:
        FileNotFoundError: There is no such photo.
        ValueError: It is no picture, damaged, or larger than 50 million pixels.
        OSError: The files cannot be written.
    """
    found = []
    for path in inputs:
        image = in_colour(open_image(path))
        small = torch.from_numpy(scaled(image, size).copy())
        with torch.no_grad():
            pet = at_size(scores(model, small[None])[0], image.height, image.width).sigmoid().numpy()
        share = round(float((pet > 0.5).mean()), 4)
        names = [str(file) for file in write(image, pet, Path(path).stem, folder)]
        words = f"{what} on {100 * share:.1f} % of the picture"
        found.append({"input": path, "label": words, "share": share, **dict(zip(KINDS, names, strict=True))})
    return found


def graph(model: nn.Module, size: int, meta: dict[str, Any]) -> Graph:
    """A network from photos (N, 3, size, size) to scores (N, 1, size, size), to be written as ONNX."""
    facts = {
        "preprocessing": f"upright (EXIF), RGB, stretched to {size}×{size} (bilinear, antialiased); then divide by 255",
        "answer": "mean of the scores of the photo and of its mirror image, mirrored back; scaled to the photo's size "
        "(bilinear); above 0 is pet, the sigmoid says how surely",
        "labels": meta["classes"],
        "input": {
            "layout": "NCHW",
            "colours": "RGB",
            "size": [size, size],
            "scale": 1 / 255,
            "mean": [0.0],
            "std": [1.0],
        },
    }
    return Graph(model, torch.rand(2, 3, size, size), "photos", ("mask",), {0: "batch"}, facts)


def write(image: Image.Image, pet: np.ndarray, stem: str, folder: Path) -> list[Path]:
    """Write NAME-mask.png, NAME-overlay.png and NAME-cutout.png; a number is added where one of them is there already.

    Args:
        image: RGB.
        pet: How sure it is that a pixel is pet, float (H, W) from 0 to 1.
        stem: NAME.
        folder: Where to.

    Returns:
        The three files. None that was there is ever written over.
    """
    number = 1
    while True:
        name = stem if number == 1 else f"{stem}-{number}"
        paths = [folder / f"{name}-{kind}.png" for kind in KINDS]
        if not any(path.exists() for path in paths):
            break
        number += 1
    mask = pet > 0.5
    pixels = np.asarray(image)
    tint = pixels * 0.45 + np.array([217, 119, 6]) * 0.55
    overlay = np.where(mask[..., None], tint, pixels * 0.8).astype(np.uint8)
    for path, values in zip(paths, (mask.astype(np.uint8) * 255, overlay, cutout(pixels, pet)), strict=True):
        with path.open("xb") as file:
            Image.fromarray(values).save(file, format="PNG")
    return paths


def cutout(pixels: np.ndarray, pet: np.ndarray) -> np.ndarray:
    """A photo uint8 (H, W, 3) with what is no pet transparent: uint8 (H, W, 4).

    The edge is soft: opaque where the network is sure (`pet` near 1), nothing where it is sure of the contrary.
    """
    return np.dstack([pixels, (255 * (2 * pet - 0.5)).clip(0, 255).astype(np.uint8)])
