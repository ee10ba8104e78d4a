"""Batches for detectors: images with boxes, scaled, cropped and flipped at random."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from decathlon.data.base import EpochShard, derive_seed, steps_per_epoch
from decathlon.data.voc import DetectionSplit
from decathlon.errors import require

Target = dict[str, Tensor]
Batch = tuple[list[Tensor], list[Target]]  # images uint8 (3, H, W); boxes float (M, 4) and labels int64 (M,) of each

MIN_VISIBLE = 0.3  # fraction of an object's area that must be left after cropping for its box to be kept
ASPECT_BINS = 6  # for each doubling of the aspect ratio


class Examples(Dataset[tuple[Tensor, Target]]):
    """Augmented examples by (index in the split, seed): the same in any process and order."""

    def __init__(
        self, split: DetectionSplit, size: tuple[int, int], scale_range: tuple[float, float], color_jitter: float
    ) -> None:
        self.split, self.size, self.scale_range, self.color_jitter = split, size, scale_range, color_jitter

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, Target]:
        index, seed = item
        image, target = self.split.example(index)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # not of a GPU's generators, from which a training step draws
            return augment(image, target, self.size, self.scale_range, self.color_jitter)


def batches(
    split: DetectionSplit,
    batch_size: int,
    epoch: EpochShard,
    size: tuple[int, int],
    scale_range: tuple[float, float],
    workers: int,
    color_jitter: float = 0.0,
    repeat_threshold: float = 0.0,
) -> Iterator[Batch]:
    """The batches of an epoch, this process's share of each. A batch has images of a similar aspect ratio.

    Args:
        split: What to draw from.
        batch_size: Images in a batch of all processes.
        epoch: Seed, number and share of the epoch.
        size: Pixels of the shorter side, and at most of the longer one, as a detector scales them.
        scale_range: Side of the random crop relative to the image, from and to; above 1 the image is padded with black.
        workers: Processes that load; with 0 this one does.
        color_jitter: Most change of brightness, contrast and saturation, as a fraction.
        repeat_threshold: As in `repeat_factors`; 0 draws every image once.
    """
    generator = epoch.generator()
    indices = torch.arange(len(split))
    if repeat_threshold:
        factors = repeat_factors(split, repeat_threshold)
        counts = factors.floor() + (torch.rand(len(factors), generator=generator) < factors.frac())
        indices = indices.repeat_interleave(counts.long())
    # An epoch has as many steps as without repeats: it leaves out some images, different ones in each epoch.
    length = steps_per_epoch(split, batch_size) * batch_size
    order = indices[torch.randperm(len(indices), generator=generator)][:length]
    chunks = list(order[order_by_aspect(split.shapes()[order])].split(batch_size))
    chunks = [chunks[number] for number in torch.randperm(len(chunks), generator=generator).tolist()]
    batch_sampler = [
        # A repeated image is augment differently each time, and the same after a resume.
        [
            (index, derive_seed(epoch.seed, epoch.number, index, *([number, turn] if repeat_threshold else [])))
            for turn, index in list(enumerate(chunk.tolist()))[epoch.rank :: epoch.world]
        ]
        for number, chunk in enumerate(chunks[epoch.start :], epoch.start)
    ]
    loader = DataLoader(
        Examples(split, size, scale_range, color_jitter),
        batch_sampler=batch_sampler,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),  # from pinned memory copies to the GPU are asynchronous
        generator=generator,
    )
    return iter(loader)


def collate(examples: list[tuple[Tensor, Target]]) -> Batch:
    """Images and targets as two lists: images of several sizes do not fit in one tensor."""
    return [image for image, _ in examples], [target for _, target in examples]


def repeat_factors(split: DetectionSplit, threshold: float) -> Tensor:
    """How often each image is drawn in an epoch, float (N,), at least 1: more often the rarer its classes are.

    For a class in a fraction f of the images sqrt(threshold / f), for an image the maximum over its classes
    (Gupta, Dollár and Girshick 2019, LVIS, arXiv:1908.03195, section 5, "repeat factor sampling").
    """
    labels = torch.from_numpy(split.source.labels)
    classes = torch.zeros(len(split), len(split.source.classes) + 1)
    for number, (start, end) in enumerate(split.targets.tolist()):
        classes[number, labels[start:end]] = 1
    factors = (threshold / classes.mean(0).clamp(min=1 / len(split))).sqrt().clamp(min=1)
    return (classes * factors).amax(1).clamp(min=1)


def order_by_aspect(shapes: Tensor) -> Tensor:
    """Indices that sort images, by height and width (N, 2), by aspect ratio; within a bin they keep their order."""
    ratio = torch.log2(shapes[:, 0] / shapes[:, 1])
    return (ratio * ASPECT_BINS).round().argsort(stable=True)


def scaled_size(height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width to which a detector scales an image: the shorter side to `size`[0], the longer below `size`[1].

    (Girshick 2015, Fast R-CNN, section 4.6)
    """
    factor = min(size[0] / min(height, width), size[1] / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def augment(
    image: Tensor,
    target: Target,
    size: tuple[int, int],
    scale_range: tuple[float, float],
    color_jitter: float = 0.0,
) -> tuple[Tensor, Target]:
    """Crop or pad an image at random, scale it, flip it half of the time and jitter its colours.

    Args:
        image: uint8 (3, H, W).
        target: `boxes` (M, 4), `labels`, `difficult` (M,); difficult objects are not trained on.
        size: As in `batches`.
        scale_range: As in `batches`.
        color_jitter: As in `batches`.

    Returns:
        uint8 (3, h, w) as `scaled_size` says, with `boxes` and `labels` of the objects that are still visible.
    """
    height, width = image.shape[1:]
    scale = math.exp(math.log(scale_range[0]) + torch.rand(()).item() * math.log(scale_range[1] / scale_range[0]))
    crop = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (round(torch.rand(()).item() * room) for room in (height - crop[0], width - crop[1]))
    new = scaled_size(height, width, size)
    easy = ~target["difficult"]
    sample: dict[str, Any] = {
        "image": tv_tensors.Image(image),
        "boxes": tv_tensors.BoundingBoxes(target["boxes"][easy], format="XYXY", canvas_size=(height, width)),
        "labels": target["labels"][easy],
        # Area of each object in the new image if nothing were cropped: filtered with the boxes.
        "full_area": area(target["boxes"][easy]) * (new[0] / crop[0]) * (new[1] / crop[1]),
    }
    for name in ("image", "boxes"):
        sample[name] = F.resized_crop(sample[name], top, left, *crop, list(new), antialias=True)
    sample = PIPELINE(sample)
    if color_jitter:
        sample["image"] = v2.ColorJitter(color_jitter, color_jitter, color_jitter)(sample["image"])
    boxes = sample["boxes"].as_subclass(Tensor)
    visible = area(boxes) >= MIN_VISIBLE * sample["full_area"]
    return sample["image"].as_subclass(Tensor), {"boxes": boxes[visible], "labels": sample["labels"][visible]}


def area(boxes: Tensor) -> Tensor:
    """(M, 4) -> (M,)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


PIPELINE = v2.Compose(
    [
        v2.RandomHorizontalFlip(),
        v2.ClampBoundingBoxes(),
        v2.SanitizeBoundingBoxes(min_size=2, labels_getter=lambda sample: (sample["labels"], sample["full_area"])),
    ]
)


def check_recipe(recipe: Any, max_layers: int, backbone: str) -> None:
    """Raise UsageError where fields that both detectors' recipes have make no sense; make the path of weights absolute.

    Args:
        recipe: The recipe.
        max_layers: Stages of the backbone.
        backbone: Name of the task's own backbone.
    """
    if recipe.weights not in ("coco", "imagenet", "none") and (file := Path(recipe.weights).expanduser()).exists():
        object.__setattr__(recipe, "weights", str(file.resolve()))  # the run may be resumed from elsewhere
    timm = recipe.backbone.startswith("timm/")
    require("--trainable-layers", recipe.trainable_layers <= max_layers, f"at most {max_layers}, all stages")
    low, high = recipe.scale_range
    require("--scale-range", 0 < low <= 1 <= high, "one number up to 1, and one from 1")
    require("--score-threshold", recipe.score_threshold <= 1, "from 0 to 1")
    require("--max-size", recipe.max_size >= recipe.min_size, "at least --min-size")
    trained = "batch" if timm else "batch or group"
    require("--norm", recipe.norm != "frozen" or recipe.weights != "none", f"{trained} without --weights")
    require("--norm", recipe.norm != "group" or recipe.weights == "none", "batch or frozen with --weights")
    require("--norm", recipe.norm != "group" or not timm, "batch or frozen with timm/NAME")
    require("--backbone", recipe.backbone in (backbone, "small") or timm, f"{backbone}, small or timm/NAME")
    require("--color-jitter", recipe.color_jitter <= 1, "from 0 to 1")
    require("--repeat-threshold", recipe.repeat_threshold <= 1, "from 0 to 1")
    require("--weights", recipe.weights != "coco" or not timm, "another than coco with timm/NAME (as in --recipe best)")
    if recipe.backbone == "small":
        require("--weights", recipe.weights == "none", "none with the small backbone")
        require("--norm", recipe.norm == "batch", "batch with the small backbone")
        require("--trainable-layers", recipe.trainable_layers == max_layers, f"{max_layers} with the small backbone")
