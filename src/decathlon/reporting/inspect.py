"""What would be read of a user's own data, before any training: splits, classes, sizes, warnings, and examples."""

from __future__ import annotations

import base64
import io
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from decathlon.data import cifar10, imdb, mnist, pets, voc
from decathlon.data.base import Data, Source, Split
from decathlon.data.io import atomic
from decathlon.data.io.images import FORMATS, IMAGE_SUFFIXES
from decathlon.data.io.listing import has_suffix, walk
from decathlon.data.recognize import KINDS, recognize
from decathlon.evaluation.mask_images import overlay
from decathlon.messages import recording_warnings, some
from decathlon.reporting.html import PAGES

EXAMPLES = {"train": 24, "validation": 6, "test": 6}  # on the page
THUMBNAIL = 192  # pixels of a longer side
MASK_SIZE = 192  # pixels to which images with masks are scaled here
MAX_HEADERS = 5000  # maximum number of image files whose sizes are read
TEXT_LENGTH = 300  # characters of a text that are shown
COLOURS = ("#2563eb", "#d97706", "#15803d", "#b91c1c", "#7c3aed", "#0e7490", "#be185d", "#4d7c0f", "#92400e", "#1f2933")


@dataclass(frozen=True)
class Example:
    """An example on the page: an image as PNG, base64, or a text; its labels, and the colours of its boxes."""

    split: str
    labels: list[tuple[str, str]]
    image: str = ""
    text: str = ""


@dataclass(frozen=True)
class Inspection:
    """What would be read.

    Attributes:
        path: The user's own.
        kind: What it was recognised as.
        dataset: Name of the reader.
        splits: Examples of each split.
        classes: Of each class its name and how many examples or boxes each split has.
        sizes: What is worth knowing of images, masks, boxes or texts, by name.
        warnings: What is left out, changed or suspicious.
        examples: Some of each split.
    """

    path: str
    kind: str
    dataset: str
    splits: dict[str, int]
    classes: list[dict[str, Any]]
    sizes: dict[str, str]
    warnings: list[str]
    examples: list[Example] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As JSON data, without the examples."""
        return {name: value for name, value in asdict(self).items() if name != "examples"}


def inspect(source: Source, dataset: str | None = None) -> Inspection:
    """Read a user's own data as a training would.

    Args:
        source: Of kind `own`.
        dataset: Name of the reader; default: whichever fits.

    Raises:
        FileNotFoundError, ValueError: The data cannot be read, or fit no reader.
    """
    assert source.path is not None
    with recording_warnings(quiet=True) as warnings:
        dataset = dataset or recognize(source.path, source.options)
        read = {"mnist": _classified, "cifar10": _classified, "pets": _segmented, "voc": _detected, "imdb": _texts}
        splits, classes, sizes, examples = read[dataset](source, dataset)
    for split in ("train", "validation", "test"):
        absent = [row["name"] for row in classes if not row[split]]
        if absent and dataset != "pets":
            number = "one class has" if len(absent) == 1 else f"{len(absent):,} classes have"
            warnings.append(f"{number} no example in {split}: {some(absent)}")
    return Inspection(str(source.path), KINDS[dataset], dataset, splits, classes, sizes, list(warnings), examples)


def write(inspection: Inspection, path: Path, tasks: Sequence[str], options: str) -> Path:
    """Write the page with the contact sheet.

    Args:
        inspection: What would be read.
        path: Where to.
        tasks: Ids of the tasks that train on such data.
        options: Flags by which it is read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    quoted = shlex.quote(str(inspection.path))
    page = PAGES.get_template("inspect.html").render(inspection=inspection, tasks=tasks, options=options, path=quoted)
    return atomic.write_text(path, page)


Findings = tuple[dict[str, int], list[dict[str, Any]], dict[str, str], list[Example]]


# --- Images with a class ----------------------------------------------------------------------------------------------


def _classified(source: Source, dataset: str) -> Findings:
    data = mnist.load(source) if dataset == "mnist" else cifar10.load(source)
    examples = []
    for name, split in _splits(data):
        for index in _choose(split.targets.tolist(), EXAMPLES[name]):
            pixels = split.inputs[index].permute(1, 2, 0).squeeze(2 if split.inputs.shape[1] == 1 else ()).numpy()
            large = Image.fromarray(pixels).resize((96, 96), Image.Resampling.NEAREST)
            label = data.info.classes[int(split.targets[index])]
            examples.append(Example(name, [(label, "")], _png(large)))
    size = f"{data.train.inputs.shape[3]}×{data.train.inputs.shape[2]}"
    sizes = {"images as the network sees them": size} | ({} if dataset == "mnist" else _image_sizes(source))
    labels = {name: split.targets.tolist() for name, split in _splits(data)}
    return data.sizes, _count_classes(data.info.classes, labels), sizes, examples


def _splits(data: Data) -> Iterator[tuple[str, Split]]:
    for name in ("train", "validation", "test"):
        yield name, getattr(data, name)


def _choose(labels: Sequence[int], count: int) -> list[int]:
    """Indices of some examples, of each class about as many, from all over the split."""
    by_class: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        by_class.setdefault(label, []).append(index)
    number = max(1, count // max(1, len(by_class)))
    chosen = [
        indices[i * len(indices) // number]
        for _, indices in sorted(by_class.items())
        for i in range(min(number, len(indices)))
    ]
    return chosen[:count]


def _count_classes(classes: Sequence[str], labels: dict[str, list[int]]) -> list[dict[str, Any]]:
    counts = {name: Counter(values) for name, values in labels.items()}
    return [{"name": label} | {name: counts[name][number] for name in labels} for number, label in enumerate(classes)]


def _image_sizes(source: Source) -> dict[str, str]:
    """Smallest, middle and largest size of the image files, from their headers."""
    assert source.path is not None
    top = source.path if source.path.is_dir() else source.path.parent
    sizes = list[tuple[int, int]]()
    for path in walk(top):
        if has_suffix(path, IMAGE_SUFFIXES) and len(sizes) < MAX_HEADERS:
            try:
                with Image.open(path, formats=FORMATS) as image:
                    sizes.append(image.size)
            except Exception:  # a file that is not read can be anything
                continue
    return {"image files": _range(sizes)} if sizes else {}


def _range(sizes: Sequence[tuple[int, int]]) -> str:
    """`all 32×32`, or `20×20 to 90×60, median 32×32` of widths and heights."""
    ordered = sorted(sizes, key=lambda size: size[0] * size[1])
    low, middle, high = (f"{w}×{h}" for w, h in (ordered[0], ordered[len(ordered) // 2], ordered[-1]))
    return f"all {low}" if ordered[0] == ordered[-1] else f"{low} to {high}, median {middle}"


# --- Images with masks ------------------------------------------------------------------------------------------------


def _segmented(source: Source, dataset: str) -> Findings:
    data = pets.load(source, MASK_SIZE)
    examples, shares, empty = [], list[float](), 0
    for name, split in _splits(data):
        split = cast(pets.SegmentationSplit, split)
        share = split.targets.float().mean((1, 2, 3)) / 255
        shares += share.tolist()
        empty += int((share == 0).sum())
        for index in _choose([0] * len(split), EXAMPLES[name]):
            height, width = split.slices[index, 2:].tolist()
            pixels = split.inputs[index].permute(1, 2, 0).numpy()  # (3, S, S) -> (S, S, 3)
            tinted = overlay(pixels, split.targets[index, 0].numpy() > 127)
            both = Image.fromarray(np.concatenate([pixels, tinted], 1))  # side by side
            factor = THUMBNAIL / max(height, width)
            both = both.resize((max(1, round(2 * width * factor)), max(1, round(height * factor))))
            label = f"{100 * float(share[index]):.0f} % {data.info.classes[1]}"
            examples.append(Example(name, [(label, "")], _png(both)))
    low, middle, high = (f"{100 * value:.0f} %" for value in np.quantile(shares, [0, 0.5, 1]))
    sizes = _image_sizes(source) | {"foreground of an image": f"{low} to {high}, median {middle}"}
    if empty:
        sizes["masks without foreground"] = f"{empty:,} of {len(shares):,}"
    return data.sizes, [], sizes, examples


# --- Images with boxes ------------------------------------------------------------------------------------------------


def _detected(source: Source, dataset: str) -> Findings:
    data = voc.load(source)
    examples, labels, sides, bare = [], dict[str, list[int]](), list[tuple[int, int]](), 0
    for name, split in _splits(data):
        split = cast(voc.DetectionSplit, split)
        decoded = split.source
        ranges = split.targets.tolist()
        # Difficult objects are neither trained on nor counted in the metrics, so they are not counted here either.
        counted = [index for start, end in ranges for index in range(start, end) if not decoded.difficult[index]]
        labels[name] = [int(decoded.labels[index]) - 1 for index in counted]
        boxes = np.concatenate([decoded.boxes[start:end] for start, end in ranges] or [decoded.boxes[:0]])
        sides += [(round(right - left), round(bottom - top)) for left, top, right, bottom in boxes.tolist()]
        bare += sum(start == end for start, end in ranges)
        first = [int(decoded.labels[start]) if end > start else 0 for start, end in ranges]
        for index in _choose(first, EXAMPLES[name]):
            image, target = split.example(index)
            examples.append(_draw_boxes(name, image, target["boxes"], target["labels"], data.info.classes))
    sizes = _image_sizes(source) | ({"boxes, in pixels of their files": _range(sides)} if sides else {})
    sizes["images without boxes"] = f"{bare:,}"
    return data.sizes, _count_classes(data.info.classes, labels), sizes, examples


def _draw_boxes(split: str, image: Tensor, boxes: Tensor, labels: Tensor, classes: list[str]) -> Example:
    """An image uint8 (3, H, W) with its boxes (M, 4), a colour a class."""
    thumbnail = Image.fromarray(image.permute(1, 2, 0).numpy().copy())
    factor = THUMBNAIL / max(thumbnail.size)
    thumbnail = thumbnail.resize((max(1, round(thumbnail.width * factor)), max(1, round(thumbnail.height * factor))))
    draw, named = ImageDraw.Draw(thumbnail), dict[str, str]()
    for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
        colour = COLOURS[(label - 1) % len(COLOURS)]
        draw.rectangle([value * factor for value in box], outline=colour, width=2)
        named[classes[label - 1]] = colour
    return Example(split, list(named.items()) or [("no box", "")], _png(thumbnail))


# --- Texts ------------------------------------------------------------------------------------------------------------


def _texts(source: Source, dataset: str) -> Findings:
    texts = imdb.load(source)
    numbers = Split(torch.arange(len(texts.train)), torch.tensor(texts.train_labels))
    train, validation = imdb.divide_training(texts, numbers, source)
    rows = {
        "train": [(texts.train[i], texts.train_labels[i]) for i in train.inputs.tolist()],
        "validation": [(texts.train[i], texts.train_labels[i]) for i in validation.inputs.tolist()],
        "test": list(zip(texts.test, texts.test_labels, strict=True)),
    }
    examples = []
    for name, pairs in rows.items():
        for index in _choose([label for _, label in pairs], EXAMPLES[name]):
            text, label = pairs[index]
            excerpt = text if len(text) <= TEXT_LENGTH else text[:TEXT_LENGTH] + " …"
            examples.append(Example(name, [(texts.classes[label], "")], text=excerpt))
    lengths = [len(text.split()) for pairs in rows.values() for text, _ in pairs]
    low, middle, high = (f"{value:,.0f}" for value in np.quantile(lengths, [0, 0.5, 1]))
    sizes = {"words of a text": f"{low} to {high}, median {middle}"}
    if texts.unlabelled:
        sizes["texts without a label"] = f"{len(texts.unlabelled):,}"
    counts = {name: len(pairs) for name, pairs in rows.items()}
    labels = {name: [label for _, label in pairs] for name, pairs in rows.items()}
    return counts, _count_classes(texts.classes, labels), sizes, examples


def _png(image: Image.Image) -> str:
    content = io.BytesIO()
    image.save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()
