"""Data sets so small, and recipes so short, that a whole training takes about a second."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from killing import FORKS, PRELOADED
from PIL import Image

from decathlon.cli.main import run_command
from decathlon.data import mnist
from decathlon.data.base import parse_source
from decathlon.data.io import idx
from decathlon.data.synthetic import pets, shapes
from decathlon.data.synthetic import reviews as composed
from decathlon.data.synthetic import scenes as drawn_scenes
from decathlon.training import runner

# What a whole training needs besides.
FORKS.set_forkserver_preload(
    [*PRELOADED, "decathlon.cli.main", "decathlon.training.runner", "matplotlib.pyplot", "sklearn.ensemble"]
)
PARTS = {"train": 160, "test": 40}


def digits(folder: Path) -> None:
    """The sample's first digits, in MNIST's four files."""
    data = mnist.load(parse_source("sample"))
    folder.mkdir()
    for name, split, count in (("train", data.train, PARTS["train"]), ("t10k", data.test, PARTS["test"])):
        idx.write_idx(folder / f"{name}-images-idx3-ubyte", split.inputs[:count, 0].numpy())
        idx.write_idx(folder / f"{name}-labels-idx1-ubyte", split.targets[:count].numpy().astype(np.uint8))


def pictures(folder: Path) -> None:
    """Four drawn classes, as a folder each."""
    draw = np.random.default_rng(0)
    for split, count in PARTS.items():
        for name in list(shapes.SHAPES)[:4]:
            (folder / split / name).mkdir(parents=True)
            for number in range(count // 4):
                shapes.draw_image(name, draw).save(folder / split / name / f"{number}.png")


def reviews(folder: Path) -> None:
    """Composed reviews in a tree like aclImdb's."""
    draw = random.Random(0)
    for split, count in PARTS.items():
        for number in range(count):
            path = folder / split / ("pos" if number % 2 else "neg") / f"{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(composed.compose(draw, bool(number % 2)))


def scenes(folder: Path) -> None:
    """Drawn scenes in VOC's layout."""
    draw = np.random.default_rng(0)
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for side, count in (("trainval", 14), ("test", 4)):
        names = [f"{side}{number}" for number in range(count)]
        for name in names:
            image, objects = drawn_scenes.draw_scene(draw)
            image.save(folder / "JPEGImages" / f"{name}.jpg")
            (folder / "Annotations" / f"{name}.xml").write_text(drawn_scenes.to_xml(name, objects))
        (folder / "ImageSets/Main" / f"{side}.txt").write_text("\n".join(names))


def masks(folder: Path) -> None:
    """Drawn pets, and their masks beside them."""
    draw = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(24):
        image, trimap = pets.draw_pet(list(pets.SHAPES)[number % 2], draw)
        mask = trimap.point(lambda value: 255 * (value == 1))
        image.resize((48, 48)).save(folder / "images" / f"{number}.png")
        mask.resize((48, 48), Image.Resampling.NEAREST).save(folder / "masks" / f"{number}.png")


# Of each kind of task: who makes its data, and the options of its training.
TASKS = {
    "mnist-mlp": (digits, "--hidden 16 --batch-size 8 --epochs 10"),
    "cifar10-skip": (
        pictures,
        "--whitening-filters 4 --channels 4 8 8 --low-res-epochs 0.4 --batch-size 16 --epochs 3",
    ),
    "mnist-autoencoder": (
        digits,
        "--channels 4 8 8 --latent-dim 16 --n-labelled 60 --n-trees 8 --batch-size 32 --epochs 3",
    ),
    "imdb-textcnn": (
        reviews,
        "--min-count 1 --max-length 40 --embedding-dim 8 --filters 8 --embedding-epochs 1 --batch-size 16 --epochs 6",
    ),
    "imdb-roberta": (reviews, "--max-length 32 --hidden 16 --batch-size 16 --epochs 6"),
    "roberta-mlm": (
        reviews,
        "--vocab-size 300 --hidden-size 16 --layers 1 --attention-heads 2 --max-positions 64 --row-length 32 "
        "--max-ngrams 64 --ngrams-per-row 8 --batch-size 8 --epochs 4",
    ),
    "pets-unet": (masks, "--width 4 --image-size 32 --low-res-size 16 --batch-size 4 --epochs 4"),
    "voc-faster-rcnn": (
        scenes,
        "--backbone small --min-size 60 --max-size 80 --anchors 16 22 --rpn-post-nms-top-n 16 "
        "--roi-batch-size 8 --batch-size 3 --epochs 3",
    ),
}


def without_plots(argv: list[str]) -> int:
    """A command whose training draws no plots: they would take half of the time, and nothing of them is resumed."""
    runner.draw_plots = lambda *args: None
    return run_command(argv)
