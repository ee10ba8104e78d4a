"""The tabs that take an image: its class with a class activation map, the pet's mask, and detected objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from decathlon.data.io.cifar_image import IMAGE_SIZE
from decathlon.data.io.decoded_images import shrink
from decathlon.data.pets import resize
from decathlon.data.transforms.augment import to_float
from decathlon.demo import models
from decathlon.evaluation import mask_images, segmentation
from decathlon.evaluation.classification import TTA, classify_one
from decathlon.evaluation.detection import select_detections
from decathlon.models.skipnet import SkipNet
from decathlon.tasks.cifar10_skip import layer_cam

CIFAR = ("cifar10-cnn", "cifar10-skip")
PETS = "pets-unet"
DETECTORS = ("voc-faster-rcnn", "voc-retinanet")
AMBER = np.array([217, 119, 6])  # as in the tasks' own overlays
MIN_SCORE = 0.05  # of detections that are sent to the page, whose slider hides those below its threshold
MIN_SIDE = 300  # pixels: smaller images are enlarged for display


@dataclass(frozen=True)
class ImageClasses:
    """The predictions of the CIFAR-10 networks for an image.

    Attributes:
        crop: The centre of the image at full resolution.
        network_input: The input of the networks, 32×32.
        heatmap: `crop` with the class activation map of `cifar10-skip`; None for a network of another architecture.
        probabilities: For each task, by class, the most probable first.
    """

    crop: Image.Image
    network_input: Image.Image
    heatmap: Image.Image | None
    probabilities: dict[str, dict[str, float]]


def classify(image: Image.Image) -> ImageClasses:
    """Run both CIFAR-10 networks on an RGB image of any size."""
    small = ImageOps.fit(image, (IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.asarray(small).transpose(2, 0, 1).copy())  # (32, 32, 3) -> (3, 32, 32)
    networks = {name: models.get_network(name) for name in CIFAR}
    predictions = {
        name: classify_one(TTA(network.model, cast(Any, network.loaded.recipe).tta), pixels, network.classes)
        for name, network in networks.items()
    }
    side = max(MIN_SIDE, min(image.size))
    crop = ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC)
    skip = networks[CIFAR[1]]
    label = torch.tensor([skip.classes.index(predictions[CIFAR[1]]["label"])])
    heatmap = None
    if isinstance(skip.model, SkipNet):
        heatmap = overlay_heatmap(crop, layer_cam(skip.model, pixels[None], label)[0])
    return ImageClasses(crop, small, heatmap, {name: row["probabilities"] for name, row in predictions.items()})


def overlay_heatmap(image: Image.Image, activation_map: Tensor) -> Image.Image:
    """The image in grey, tinted where `activation_map` (h, w), from 0 to 1, is high."""
    resized = Image.fromarray((255 * activation_map).byte().numpy()).resize(image.size, Image.Resampling.BICUBIC)
    opacity = 0.75 * np.asarray(resized, np.float32)[..., None] / 255
    grey = np.asarray(image.convert("L"), np.float32)[..., None]
    return Image.fromarray(((1 - opacity) * grey + opacity * AMBER).clip(0, 255).astype(np.uint8))


@dataclass(frozen=True)
class PetMask:
    """The prediction of `pets-unet` for an image.

    Attributes:
        image: The image.
        cutout: The pet alone, RGBA, with a soft edge.
        fraction: The fraction of the image that is pet, from 0 to 1.
    """

    image: Image.Image
    cutout: Image.Image
    fraction: float


def segment(image: Image.Image) -> PetMask:
    """Cut the pet out of an RGB image of any size and shape."""
    network = models.get_network(PETS)
    size: int = cast(Any, network.loaded.recipe).image_size
    small = torch.from_numpy(resize(image, size).copy())
    with torch.no_grad():
        logits = segmentation.compute_logits(network.model, small[None])[0]
    probability = segmentation.resize_logits(logits, image.height, image.width).sigmoid().numpy()
    cutout = Image.fromarray(mask_images.cut_out(np.asarray(image), probability))
    return PetMask(image, cutout, float((probability > 0.5).mean()))


@dataclass(frozen=True)
class DetectedObject:
    """A detected object: its class, its score, and its box in fractions of the image's width and height."""

    name: str
    score: float
    left: float
    top: float
    width: float
    height: float


def detect(image: Image.Image) -> dict[str, list[DetectedObject]]:
    """The objects that each detector finds in an RGB image, by falling score; those below MIN_SCORE are left out."""
    return {name: _detect(models.get_network(name), image) for name in DETECTORS}


def _detect(network: models.Network, photo: Image.Image) -> list[DetectedObject]:
    recipe: Any = network.loaded.recipe
    small = shrink(photo, recipe.cache_size)  # as `predict` and the training
    image = to_float(torch.from_numpy(np.array(small)).permute(2, 0, 1))  # (H, W, 3) -> (3, H, W)
    with torch.no_grad():
        (output,) = network.model([image])
    height, width = image.shape[1:]
    rows: dict[str, Any] = {key: values.tolist() for key, values in select_detections(output, MIN_SCORE).items()}
    return [
        DetectedObject(
            network.classes[label - 1], score, x / width, y / height, (right - x) / width, (bottom - y) / height
        )
        for label, score, (x, y, right, bottom) in zip(rows["labels"], rows["scores"], rows["boxes"], strict=True)
    ]
