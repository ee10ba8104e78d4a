"""The tabs that take a photo: its class with the places that speak for it, its pet, and the things in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from decathlon import classify, detection, masks
from decathlon.augment import to_float
from decathlon.data.pets import scaled
from decathlon.data.photo import SIDE
from decathlon.demo import models
from decathlon.models.skipnet import SkipNet
from decathlon.tasks.cifar10_skip import looked_at

CIFAR = ("cifar10-cnn", "cifar10-skip")
PETS = "pets-unet"
DETECTORS = ("voc-faster-rcnn", "voc-retinanet")
HEAT = np.array([217, 119, 6])  # the amber of the tasks' own overlays
LEAST = 0.05  # score of a detection that is sent to the page, whose slider hides the less sure ones
FEWEST = 300  # pixels: smaller photos are shown enlarged


@dataclass(frozen=True)
class Things:
    """What the CIFAR-10 networks say of a photo.

    Attributes:
        seen: The middle of the photo, as sharp as it is; the networks see it at 32×32.
        small: What the networks see.
        heat: `seen` with the places tinted that speak for what `cifar10-skip` says; None for a network of another kind.
        probabilities: Of each task, by class with the likeliest first.
    """

    seen: Image.Image
    small: Image.Image
    heat: Image.Image | None
    probabilities: dict[str, dict[str, float]]


def things(photo: Image.Image) -> Things:
    """Ask both CIFAR-10 networks about a photo of any size, RGB."""
    small = ImageOps.fit(photo, (SIDE, SIDE), Image.Resampling.BICUBIC)
    image = torch.from_numpy(np.asarray(small).transpose(2, 0, 1).copy())  # (32, 32, 3) -> (3, 32, 32)
    said = {
        name: classify.predict(classify.mirrored(models.network(name).model), image, models.network(name).meta)
        for name in CIFAR
    }
    side = max(FEWEST, min(photo.size))
    seen = ImageOps.fit(photo, (side, side), Image.Resampling.BICUBIC)
    skip = models.network(CIFAR[1]).model
    best = torch.tensor([models.network(CIFAR[1]).meta["classes"].index(said[CIFAR[1]]["label"])])
    heat = tinted(seen, looked_at(skip, image[None], best)[0]) if isinstance(skip, SkipNet) else None
    return Things(seen, small, heat, {name: one["probabilities"] for name, one in said.items()})


def tinted(image: Image.Image, heat: Tensor) -> Image.Image:
    """A picture, grey, with the places tinted where `heat` (h, w), from 0 to 1, is high."""
    amount = Image.fromarray((255 * heat).byte().numpy()).resize(image.size, Image.Resampling.BICUBIC)
    share = 0.75 * np.asarray(amount, np.float32)[..., None] / 255
    ground = np.asarray(image.convert("L"), np.float32)[..., None]
    return Image.fromarray(((1 - share) * ground + share * HEAT).clip(0, 255).astype(np.uint8))


@dataclass(frozen=True)
class Pet:
    """What `pets-unet` says of a photo.

    Attributes:
        photo: The photo.
        cutout: The pet alone, RGBA, with a soft edge.
        share: The part of the picture that is pet, from 0 to 1.
    """

    photo: Image.Image
    cutout: Image.Image
    share: float


def pet(photo: Image.Image) -> Pet:
    """Cut the pet out of a photo of any size and shape, RGB."""
    ready = models.network(PETS)
    small = torch.from_numpy(scaled(photo, ready.loaded.recipe.size).copy())  # type: ignore[attr-defined]
    with torch.no_grad():
        sure = masks.at_size(masks.scores(ready.model, small[None])[0], photo.height, photo.width).sigmoid().numpy()
    return Pet(photo, Image.fromarray(masks.cutout(np.asarray(photo), sure)), float((sure > 0.5).mean()))


@dataclass(frozen=True)
class Found:
    """A thing that a detector found: its class, its score, and its box as parts of the photo's width and height."""

    name: str
    score: float
    left: float
    top: float
    wide: float
    high: float


def found(photo: Image.Image) -> dict[str, list[Found]]:
    """The things that each detector finds in a photo, the surest first; those of a score below `LEAST` are left out."""
    image = to_float(torch.from_numpy(np.array(photo)).permute(2, 0, 1))  # (H, W, 3) -> (3, H, W)
    return {name: _found(models.network(name), image) for name in DETECTORS}


def _found(ready: models.Network, image: Tensor) -> list[Found]:
    with torch.no_grad():
        (output,) = ready.model([image])
    high, wide = image.shape[1:]
    sure: dict[str, Any] = {key: values.tolist() for key, values in detection.shown(output, LEAST).items()}
    return [
        Found(ready.classes[label - 1], score, x / wide, y / high, (right - x) / wide, (bottom - y) / high)
        for label, score, (x, y, right, bottom) in zip(sure["labels"], sure["scores"], sure["boxes"], strict=True)
    ]
