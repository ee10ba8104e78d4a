"""`decathlon inspect PATH`: what would be read, said before any training, and shown with examples."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import real_inputs as real
from conftest import Command
from PIL import Image

from decathlon.data.io import idx


def digits(folder: Path) -> Path:
    folder.mkdir()
    draw = np.random.default_rng(0)
    for part, count in (("train", 40), ("t10k", 20)):
        idx.write_idx(folder / f"{part}-images-idx3-ubyte", draw.integers(0, 256, (count, 28, 28), dtype=np.uint8))
        idx.write_idx(folder / f"{part}-labels-idx1-ubyte", (np.arange(count) % 2).astype(np.uint8))
    return folder


CASES: dict[str, tuple[Callable[[Path], Path], str, list[str]]] = {
    "digits": (digits, "IDX files", ["0", "1"]),
    "images": (lambda folder: real.classed(folder, range(30)), "folders of images", ["blue", "red"]),
    "masks": (lambda folder: real.masked(folder, range(30)), "images with masks", []),
    "voc": (lambda folder: real.voc_tree(folder, [str(n) for n in range(30)]), "images with boxes", ["red"]),
    "coco": (
        lambda folder: real.write(
            real.images(folder / "images", range(30)).parent / "result.json", real.coco(range(30))
        ),
        "images with boxes",
        ["red"],
    ),
    "yolo": (lambda folder: real.yolo(folder, range(30)), "images with boxes", ["0"]),
    "texts": (lambda folder: real.text_tree(folder, range(30)), "texts", ["neg", "pos"]),
    "table": (lambda folder: real.table(folder / "a.csv", range(30)), "texts", ["neg", "pos"]),
}


@pytest.mark.parametrize("name", CASES)
def test_kinds_are_recognised(name: str, tmp_path: Path, decathlon: Command) -> None:
    make, kind, classes = CASES[name]
    path = make(tmp_path / "mine")
    answer = decathlon("inspect", path, "--json", "--out", "page.html")
    assert answer.status == 0, answer.err
    inspection = json.loads(answer.out)
    assert (inspection["kind"], [row["name"] for row in inspection["classes"]]) == (kind, classes)
    examples = 60 if name in ("digits", "images") else 30
    assert sum(inspection["splits"].values()) == examples
    assert sum(row[split] for row in inspection["classes"] for split in inspection["splits"]) == (
        examples if classes else 0
    )
    page = Path("page.html").read_text()
    assert page.count("<figure>") >= 12 or "film 3 was cold and dull" in page
    assert "decathlon train" in page


def test_examples_show_their_boxes_and_masks(tmp_path: Path, decathlon: Command) -> None:
    real.voc_tree(tmp_path / "boxes", [str(n) for n in range(30)])
    assert decathlon("inspect", tmp_path / "boxes").status == 0
    assert "--recipe best --weights voc-retinanet" in Path("boxes-inspect.html").read_text()
    image = first_image(Path("boxes-inspect.html"))
    factor = image.width / real.WIDTH
    left, top = (round(value * factor) for value in real.BOX[:2])
    assert image.getpixel((left, top)) == (0x25, 0x63, 0xEB), "the outline, in the colour of the first class"
    real.masked(tmp_path / "masks", range(30))
    assert decathlon("inspect", tmp_path / "masks").status == 0
    image = first_image(Path("masks-inspect.html"))
    assert image.width == 2 * 192, "the image, and beside it the image with its mask"


def test_difficult_boxes_are_not_counted(tmp_path: Path, decathlon: Command) -> None:
    folder = real.voc_tree(tmp_path / "boxes", [str(n) for n in range(30)])
    for name in range(7):
        path = folder / "Annotations" / f"{name}.xml"
        path.write_text(path.read_text().replace("<difficult>0<", "<difficult>1<"))
    answer = json.loads(decathlon("inspect", folder, "--json").out)
    (row,) = answer["classes"]
    assert sum(row[split] for split in ("train", "validation", "test")) == 23
    assert any("7 of 30" in warning for warning in answer["warnings"]), answer["warnings"]


def first_image(page: Path) -> Image.Image:
    match = re.search(r"data:image/png;base64,([^\"]+)", page.read_text())
    assert match
    return Image.open(io.BytesIO(base64.b64decode(match[1]))).convert("RGB")


def test_warnings_are_listed_once(tmp_path: Path, decathlon: Command) -> None:
    path = real.table(tmp_path / "a.csv", range(30), "review;sentiment", "{text};{label}")
    flags = ("--text-column", "review", "--label-column", "sentiment")
    answer = decathlon("inspect", path, *flags)
    assert answer.out.count("semicolons separate the columns") == 1
    assert "semicolons" not in answer.err
    assert f"--data {path} --text-column review --label-column sentiment" in Path("a-inspect.html").read_text()


def test_a_task_can_be_named(tmp_path: Path, decathlon: Command) -> None:
    real.classed(tmp_path / "mine", range(12))
    answer = decathlon("inspect", tmp_path / "mine", "--task", "pets-unet")
    assert answer.status == 1
    assert "is not a folder" in answer.error
    assert decathlon("inspect", tmp_path / "mine", "--task", "pets").status == 2
    assert decathlon("inspect").status == 2


def test_nothing_to_read(tmp_path: Path, decathlon: Command) -> None:
    (tmp_path / "mine").mkdir()
    answer = decathlon("inspect", tmp_path / "mine")
    assert answer.status == 1
    assert "holds nothing that can be read" in answer.error
    assert "no such path" in decathlon("inspect", tmp_path / "none").error


def test_names_are_text_on_the_page(tmp_path: Path, decathlon: Command) -> None:
    rows = "".join(f"<script>{n}</script>,{['<b>x', 'y'][n % 2]}\n" for n in range(30))
    path = real.write(tmp_path / "a.csv", "text,label\n" + rows)
    assert decathlon("inspect", path, "--out", "page.html").status == 0
    page = Path("page.html").read_text()
    assert "<script>" not in page
    assert "<b>" not in page
