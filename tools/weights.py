"""Make the weights that ship with the package again: train each task (seed 0, its own recipe), pack, write the cards.

Needs the real data (DECATHLON_DATA) and about an hour and a half on two cores, half of it for the encoder's vectors and
the U-Net. Runs that are finished already are taken: weights/TASK below --runs. The detectors' real networks are too
large to ship (19 and 33 million parameters), so theirs are trained on the sample, and say so.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from decathlon import run, scoreboard, shipped
from decathlon.recipe import task_ids

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ("voc-faster-rcnn", "voc-retinanet")
DIGITS = "Digits alone: whatever else is shown is taken for one of the ten, often with great confidence."
PHOTOS = (
    "It sees 32×32 pixels. A photo is scaled and cropped to its middle first; what is small in it disappears.",
    "Ten classes and no eleventh: anything else is taken for one of them.",
    "Trained on a JPEG copy of CIFAR-10, a little harder than the release; numbers of others are for the release.",
)
REVIEWS = (
    "English film reviews of a paragraph or more; single sentences and other subjects were not measured.",
    "Two answers and nothing between: lukewarm reviews are not in its data.",
)
DRAWN = (
    "Trained on drawn scenes alone: on a photo it finds nothing, or nonsense.",
    "It shows how the task works. For photos train on real ones; beginning with COCO's weights is on the task's page.",
)
LIMITS = {
    "mnist-mlp": [
        DIGITS,
        "Trained with shifts of a pixel and turns of 8° beside MNIST's own: predict centres, but does not straighten.",
    ],
    "mnist-cnn": [DIGITS, "Pictures are cropped, scaled and centred as MNIST's are before it sees them."],
    "mnist-autoencoder": [
        DIGITS,
        "Its forest saw 1,000 labels, 100 of each digit. Rebuilt pictures are a little blurred.",
    ],
    "cifar10-cnn": list(PHOTOS),
    "cifar10-skip": list(PHOTOS),
    "imdb-textcnn": [*REVIEWS, "It knows words and short phrases, not what a sentence says as a whole."],
    "imdb-roberta": [
        *REVIEWS,
        "Its encoder, roberta-mini, knows topics, not order: on sentences that differ in a *not* alone it guesses.",
    ],
    "pets-unet": [
        "Cats and dogs that fill a good part of the photo; other animals and people were not measured.",
        "340 photos are few; what the whole data set brings was not measured.",
        "The boundary counts as pet, so its masks are a few pixels wide of the animal.",
    ],
    "voc-faster-rcnn": list(DRAWN),
    "voc-retinanet": list(DRAWN),
}


def trained(task_id: str, runs: Path) -> Path:
    """The finished run of a task, which is made, or gone on with, where it is missing."""
    place = runs / task_id
    if not (place / "summary.json").exists():
        data = "sample" if task_id in SAMPLE else "official"
        words = ["--resume", str(place)] if (place / "config.json").exists() else ["--data", data, "--out", str(place)]
        subprocess.run([sys.executable, "-m", "decathlon", "train", task_id, *words], check=True)
    return place


def published(summary: dict[str, Any]) -> dict[str, float] | None:
    """Mean, deviation and n of the committed results of the task's own recipe on this data, with this encoder."""
    found = scoreboard.rows(scoreboard.read(ROOT / "results"))
    encoder = summary.get("encoder")
    same = (summary["task"], summary["data"], f"encoder {encoder}" if encoder else "")
    rows = [row for row in found if (row["task"], row["data"], row["changed"]) == same]
    if not rows:
        return None
    return {"mean": rows[0]["value"], "deviation": rows[0]["deviation"], "n": rows[0]["n"]}


def write_pages() -> None:
    """Every card as a page of the documentation, and their list."""
    folder = ROOT / "docs" / "weights"
    folder.mkdir(exist_ok=True)
    lines = [
        "# The weights that ship with the package\n",
        "Written by `make weights`.\n",
        "| task | data | metric | as shipped | size |",
    ]
    lines.append("| --- | --- | --- | --- | --- |")
    for task_id in task_ids():
        if not shipped.folder(task_id):
            continue
        card = shipped.card(task_id)
        run.write_text(folder / f"{task_id}.md", shipped.page(card))
        size = f"{card['bytes'] / 1e6:.1f} MB"
        lines.append(
            f"| [{task_id}]({task_id}.md) | {card['data']} | {card['metric']} | {100 * card['value']:.2f} % | {size} |"
        )
    run.write_text(folder / "README.md", "\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", help="default: all")
    parser.add_argument("--runs", type=Path, default=Path("runs/weights"), help="folder of the runs, TASK below it")
    options = parser.parse_args()
    for task_id in options.tasks or task_ids():
        source = trained(task_id, options.runs)
        card = shipped.pack(source, LIMITS[task_id], published(run.read_json(source / "summary.json")))
        print(
            f"{task_id}: {100 * card['value']:.2f} % as shipped, {100 * card['value_in_full_precision']:.2f} % before"
        )
    write_pages()


if __name__ == "__main__":
    main()
