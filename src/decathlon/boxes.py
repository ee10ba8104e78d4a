"""What detectors are trained on: batches of pictures with boxes, scaled, cropped and mirrored at random."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from decathlon.data import Epoch, steps_per_epoch, stream
from decathlon.data.voc import Scenes

Target = dict[str, Tensor]
Batch = tuple[list[Tensor], list[Target]]  # pictures uint8 (3, H, W); boxes float (M, 4) and labels int64 (M,) of each

VISIBLE = 0.3  # of a thing that must be inside for it to count as there
FINE = 6  # groups of shapes for each doubling of height by width


class Examples(Dataset[tuple[Tensor, Target]]):
    """Augmented examples by (place in the split, seed): the same whoever draws them, and when."""

    def __init__(self, split: Scenes, size: tuple[int, int], zoom: tuple[float, float]) -> None:
        self.split, self.size, self.zoom = split, size, zoom

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, Target]:
        place, seed = item
        picture, target = self.split.example(place)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # a GPU's generators, which a step draws from, are none of ours
            return augmented(picture, target, self.size, self.zoom)


def batches(
    split: Scenes, batch_size: int, epoch: Epoch, size: tuple[int, int], zoom: tuple[float, float], workers: int
) -> Iterator[Batch]:
    """The batches of an epoch, this process's share of each. A batch has pictures of about one shape.

    Args:
        split: What to draw from.
        batch_size: Pictures in a batch of all processes.
        epoch: Which one.
        size: Pixels of the shorter and at most of the longer side, as a detector scales them.
        zoom: How much smaller and how much larger than the picture the part of it may be that is shown.
        workers: Processes that read ahead; with 0 this one reads.
    """
    generator = epoch.generator()
    order = torch.randperm(len(split), generator=generator)[: steps_per_epoch(split, batch_size) * batch_size]
    chunks = list(order[grouped(split.shapes()[order])].split(batch_size))
    chunks = [chunks[number] for number in torch.randperm(len(chunks), generator=generator).tolist()]
    wanted = [
        [(place, stream(epoch.seed, epoch.number, place)) for place in chunk[epoch.rank :: epoch.world].tolist()]
        for chunk in chunks[epoch.start :]
    ]
    loader = DataLoader(
        Examples(split, size, zoom),
        batch_sampler=wanted,
        num_workers=workers,
        collate_fn=listed,
        generator=generator,
    )
    return iter(loader)


def listed(examples: list[tuple[Tensor, Target]]) -> Batch:
    """Pictures and targets as two lists: pictures of several sizes fit in no tensor."""
    return [picture for picture, _ in examples], [target for _, target in examples]


def grouped(shapes: Tensor) -> Tensor:
    """An order in which pictures (N, 2: height, width) of about one shape follow each other, else as they were."""
    ratio = torch.log2(shapes[:, 0] / shapes[:, 1])
    return (ratio * FINE).round().argsort(stable=True)


def fitting(height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width to which a detector scales a picture: the shorter side to `size`[0], the longer below `size`[1].

    (Girshick 2015, Fast R-CNN, section 4.6)
    """
    factor = min(size[0] / min(height, width), size[1] / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def augmented(
    picture: Tensor, target: Target, size: tuple[int, int], zoom: tuple[float, float]
) -> tuple[Tensor, Target]:
    """Show a part of a picture, or the picture on a larger black ground, mirrored half of the time, and scaled.

    Args:
        picture: uint8 (3, H, W).
        target: `boxes` (M, 4), `labels`, `difficult` (M,); what is difficult is not trained on.
        size: As in `batches`.
        zoom: As in `batches`.

    Returns:
        uint8 (3, h, w) as `fitting` says, with `boxes` and `labels` of what is still to be seen.
    """
    high, wide = picture.shape[1:]
    part = math.exp(math.log(zoom[0]) + torch.rand(()).item() * math.log(zoom[1] / zoom[0]))
    height, width = max(1, round(high * part)), max(1, round(wide * part))
    top, left = (round(torch.rand(()).item() * most) for most in (high - height, wide - width))
    new = fitting(high, wide, size)
    easy = ~target["difficult"]
    sample: dict[str, Any] = {
        "picture": tv_tensors.Image(picture),
        "boxes": tv_tensors.BoundingBoxes(target["boxes"][easy], format="XYXY", canvas_size=(high, wide)),
        "labels": target["labels"][easy],
        # How large each thing would be in the new picture if nothing were cut off: filtered with the boxes.
        "whole": area(target["boxes"][easy]) * (new[0] / height) * (new[1] / width),
    }
    for name in ("picture", "boxes"):
        sample[name] = F.resized_crop(sample[name], top, left, height, width, list(new), antialias=True)
    sample = PIPELINE(sample)
    boxes = sample["boxes"].as_subclass(Tensor)
    seen = area(boxes) >= VISIBLE * sample["whole"]
    return sample["picture"].as_subclass(Tensor), {"boxes": boxes[seen], "labels": sample["labels"][seen]}


def area(boxes: Tensor) -> Tensor:
    """(M, 4) -> (M,)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


PIPELINE = v2.Compose(
    [
        v2.RandomHorizontalFlip(),
        v2.ClampBoundingBoxes(),
        v2.SanitizeBoundingBoxes(min_size=2, labels_getter=lambda sample: (sample["labels"], sample["whole"])),
    ]
)
