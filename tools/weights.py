"""Make the weights that ship with the package: train each task (seed 0, its own recipe), pack, write the model cards.

Needs the real data (DECATHLON_DATA) and about eight hours on two cores: four for the detectors, two for `imdb-textcnn`
and its teachers, an hour and a half for the U-Net. Finished runs in --runs (TASK below it) are reused, interrupted
ones resumed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from decathlon.data.io import atomic
from decathlon.reporting import scoreboard, weight_cards
from decathlon.runs import bundled
from decathlon.runs.folder import read_json
from decathlon.tasks.base import task_ids

ROOT = Path(__file__).resolve().parent.parent
# The detectors' own backbones have no pretrained weights within reach, and are too large to ship.
DETECTOR = ["--recipe", "best", "--precision", "bf16-mixed"]
OPTIONS = {"voc-faster-rcnn": DETECTOR, "voc-retinanet": DETECTOR, "pets-unet": ["--recipe", "best"]}
DIGITS = "Digits only: any other image is classified as a digit, often with high confidence."
CIFAR10 = (
    "Input of 32×32 pixels: a photo is scaled and its centre cropped first, so small objects are lost.",
    "There is no class for anything else: every image is assigned to one of the ten classes.",
    "Trained on a JPEG copy of CIFAR-10, slightly harder than the release that published numbers refer to.",
)
REVIEWS = (
    "For English film reviews of a paragraph or more; single sentences and other topics were not measured.",
    "Two classes only: the training data has no neutral reviews.",
)
DETECTION = (
    "Twenty classes of PASCAL VOC: anything else is overlooked, or taken for one of them.",
    "Trained on 2,834 images of at most 384 pixels, with few of some classes: small objects are often missed, and of "
    "boats, potted plants, sofas and tables hardly any is detected.",
)
LIMITS = {
    "mnist-mlp": [
        DIGITS,
        "Trained with translations of up to 1 pixel and rotations of up to 8°; inputs are centred, but not deslanted.",
    ],
    "mnist-cnn": [DIGITS, "Inputs are first cropped, scaled and centred as in MNIST."],
    "mnist-autoencoder": [
        DIGITS,
        "The random forest was fitted on 1,000 labels, 100 of each digit. Reconstructions are slightly blurred.",
    ],
    "cifar10-cnn": list(CIFAR10),
    "cifar10-skip": list(CIFAR10),
    "imdb-textcnn": [*REVIEWS, "It uses n-grams of up to three words, not the structure of a sentence."],
    "imdb-roberta": [
        *REVIEWS,
        "Its encoder, roberta-mini, was pre-trained on film reviews only.",
    ],
    "pets-unet": [
        "For cats and dogs that fill a good part of the image; other animals and people were not measured.",
        "Trained on 312 images; the full data set was not measured.",
        "The boundary counts as pet, so masks extend a few pixels beyond the animal.",
    ],
    "voc-faster-rcnn": list(DETECTION),
    "voc-retinanet": list(DETECTION),
}


def train_or_resume(task_id: str, runs: Path) -> Path:
    """The finished run of a task, trained or resumed where needed."""
    folder = runs / task_id
    if not (folder / "summary.json").exists():
        resumable = (folder / "config.json").exists()
        options = ["--resume", str(folder)] if resumable else [*OPTIONS.get(task_id, []), "--out", str(folder)]
        subprocess.run([sys.executable, "-m", "decathlon", "train", task_id, *options], check=True)
    return folder


def published(summary: dict[str, Any]) -> dict[str, float] | None:
    """Mean, deviation and n of the committed results of this recipe on this data, with this encoder."""
    results = scoreboard.aggregate(scoreboard.read_summaries(ROOT / "results"))
    key = summary["task"], summary["data"], scoreboard.changes(summary)
    rows = [row for row in results if (row["task"], row["data"], row["changes"]) == key]
    if not rows:
        return None
    return {"mean": rows[0]["value"], "deviation": rows[0]["deviation"], "n": rows[0]["n"]}


def write_pages() -> None:
    """Write each card as a page of the documentation, and a list of them."""
    folder = ROOT / "docs" / "weights"
    folder.mkdir(exist_ok=True)
    lines = [
        "# The weights that ship with the package\n",
        "Written by `make weights`.\n",
        "| task | data | metric | as shipped | size |",
    ]
    lines.append("| --- | --- | --- | --- | --- |")
    for task_id in task_ids():
        if not bundled.folder(task_id):
            continue
        card = bundled.card(task_id)
        atomic.write_text(folder / f"{task_id}.md", weight_cards.page(card))
        size = f"{card['bytes'] / 1e6:.1f} MB"
        lines.append(
            f"| [{task_id}]({task_id}.md) | {card['data']} | {card['metric']} | {100 * card['value']:.2f} % | {size} |"
        )
    atomic.write_text(folder / "README.md", "\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", help="default: all")
    parser.add_argument("--runs", type=Path, default=Path("runs/weights"), help="folder of the runs, TASK below it")
    options = parser.parse_args()
    for task_id in options.tasks or task_ids():
        source = train_or_resume(task_id, options.runs)
        card = weight_cards.pack(source, LIMITS[task_id], published(read_json(source / "summary.json")))
        print(
            f"{task_id}: {100 * card['value']:.2f} % as shipped, {100 * card['value_in_full_precision']:.2f} % before"
        )
    write_pages()


if __name__ == "__main__":
    main()
