"""Detectors trained on a few own photos, from the weights that ship and from ImageNet's.

Run: python bench/own_photos.py [--epochs 5] [--out docs/tasks/comparisons/own-photos.json]
The photos are PASCAL VOC's validation split, on which no published network was trained, written as COCO with the six
most frequent classes. A second copy gives the classes other names, so that no row of the last layer is kept.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image

import decathlon
from decathlon.data import voc
from decathlon.data.base import parse_source

ROOT = Path(__file__).parents[1]
TRAIN, CLASSES = 180, 6  # photos for training and validation; the others are the test split
RUNS = (  # task, weights, whether the classes have other names
    ("voc-faster-rcnn", "imagenet", False),
    ("voc-faster-rcnn", "voc-faster-rcnn", False),
    ("voc-faster-rcnn", "voc-faster-rcnn", True),
    ("voc-retinanet", "voc-retinanet", False),
)


def write_photos(split: voc.DetectionSplit, folder: Path, renamed: bool) -> None:
    """Write the photos with an object of the most frequent classes, and their boxes: `train` and `test`."""
    source, numbers = split.source, [int(number) for number in split.inputs]
    random.Random(0).shuffle(numbers)
    objects = {number: range(source.rows[number], source.rows[number + 1]) for number in numbers}
    frequent = Counter(int(source.labels[row]) for rows in objects.values() for row in rows).most_common(CLASSES)
    ids = {label: position for position, (label, _) in enumerate(frequent, 1)}
    names = {label: f"kind-{ids[label]}" if renamed else source.classes[label - 1] for label in ids}
    for name, part in (("train", numbers[:TRAIN]), ("test", numbers[TRAIN:])):
        (folder / name).mkdir(parents=True)
        images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
        for number in part:
            kept = [row for row in objects[number] if int(source.labels[row]) in ids and not source.difficult[row]]
            if not kept:
                continue
            image = Image.fromarray(source.image(number).permute(1, 2, 0).numpy())  # (3, H, W) -> (H, W, 3)
            image.save(folder / name / f"{number}.jpg", quality=95)
            images.append({"id": number, "file_name": f"{number}.jpg", "width": image.width, "height": image.height})
            scale = image.height / source.originals[number][0]
            for row in kept:
                left, top, right, bottom = (float(side) * scale for side in source.boxes[row])
                box = {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
                about = {"id": row, "image_id": number, "category_id": ids[int(source.labels[row])], "iscrowd": 0}
                annotations.append(about | box)
        categories = [{"id": ids[label], "name": names[label]} for label in ids]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / name / "_annotations.coco.json").write_text(json.dumps(content, default=int))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/tasks/comparisons/own-photos.json")
    options = parser.parse_args()
    photos: Any = voc.load(parse_source("official", None, download=False)).validation
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for renamed in (False, True):
            write_photos(photos, Path(folder, "renamed" if renamed else "photos"), renamed)
        for number, (task, weights, renamed) in enumerate(RUNS):
            data, out = Path(folder, "renamed" if renamed else "photos"), Path(folder, str(number))
            run = decathlon.train(task, data=str(data), recipe="best", weights=weights, epochs=options.epochs, out=out)
            keys = ("value", "metrics", "seed", "epochs", "train_seconds", "hardware", "threads", "commit", "code")
            row = {"task": task, "weights": weights, "renamed": renamed} | {key: run.summary[key] for key in keys}
            rows.append(json.dumps(row))
            print(f"{task} from {weights}{', renamed' if renamed else ''}: map {row['value']:.4f}", flush=True)
    options.out.write_text("[\n" + ",\n".join(rows) + "\n]\n")


if __name__ == "__main__":
    main()
