"""Reading PASCAL VOC and boxes of any origin: what is wrong is found and named, and boxes stay on their objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from voc_trees import HEIGHT, PLACE, WIDTH, bright, many, object_xml, own, patch, tree, whole, xml

from decathlon.data import voc
from decathlon.data.base import DataInfo, Source
from decathlon.data.io import decoded_images
from decathlon.data.io.decoded_images import fit_boxes, orient_boxes
from decathlon.data.io.images import EXIF_ORIENTATION_TAG
from decathlon.data.io.voc_coco import Annotation, read_xml
from decathlon.data.synthetic import scenes


def test_the_sample_is_read_from_the_official_layout(tmp_path: Path) -> None:
    data = voc.load(Source("sample", None, tmp_path))
    assert data.name == "voc-sample"
    assert data.info == DataInfo(sorted(scenes.KINDS), is_sample=True)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [160, 32, 48]
    picture, target = data.train.example(0)  # type: ignore[attr-defined]
    assert picture.shape == (3, scenes.HEIGHT, scenes.WIDTH)
    assert target["boxes"].shape == (len(target["labels"]), 4)
    again = voc.load(Source("sample", None, tmp_path))
    assert torch.equal(again.train.example(0)[0], picture), "from the cache"  # type: ignore[attr-defined]


def test_boxes_surround_their_objects(tmp_path: Path) -> None:
    data = own(tree(tmp_path / "mine", many()))
    assert data.name == "own:mine"
    assert data.info.classes == ["cat"]
    for picture, target in whole(data).values():
        assert target["boxes"].tolist() == [list(PLACE)] == [bright(picture)]
        assert target["labels"].tolist() == [1]


def test_large_images_are_made_smaller_with_their_boxes(tmp_path: Path) -> None:
    data = own(tree(tmp_path / "mine", many()), longest=30)
    picture, target = data.train.example(0)  # type: ignore[attr-defined]
    assert picture.shape == (3, 20, 30)
    assert target["boxes"].tolist() == [[value / 2 for value in PLACE]]
    assert (target["boxes"] * target["scale"]).tolist() == [list(PLACE)]


def test_lists_divide_the_images(tmp_path: Path) -> None:
    place = tree(tmp_path / "mine", {name: xml(object_xml()) for name in "abcdefgh"})
    lists = place / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for side, names in (("train", "abcde"), ("val", "fg"), ("test", "h")):
        (lists / f"{side}.txt").write_text("".join(f"{name}\n" for name in names))
    data = own(place)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [5, 2, 1]
    (lists / "trainval.txt").write_text("a  1\nb -1\nc  1\nd  0\n")  # as VOC lists a class
    data = own(place)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [5, 2, 1], "the finer division counts"
    (lists / "val.txt").unlink()
    data = own(place)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [3, 1, 1]
    (lists / "trainval.txt").unlink()
    (lists / "train.txt").unlink()
    (lists / "val.txt").write_text("f\ng\n")
    data = own(place)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [5, 2, 1], "the rest is for training"


def test_images_that_move_to_another_list_move(tmp_path: Path) -> None:
    """The order of all images is the same before and after: only where a side ends is not."""
    place = tree(tmp_path / "mine", {name: xml(object_xml()) for name in "abcdefgh"})
    lists = place / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for train, val, test in (("abcd", "ef", "gh"), ("abc", "def", "gh"), ("abc", "d", "efgh")):
        for side, names in (("train", train), ("val", val), ("test", test)):
            (lists / f"{side}.txt").write_text("".join(f"{name}\n" for name in names))
        data = own(place)
        assert [len(part) for part in (data.train, data.validation, data.test)] == [len(train), len(val), len(test)]


def test_difficult_is_kept(tmp_path: Path) -> None:
    hard = object_xml(more="<difficult>1</difficult>")
    data = own(tree(tmp_path / "mine", many(a=xml(hard, object_xml("dog")))))
    assert whole(data)[0][1]["difficult"].tolist() == [True, False]


def test_an_image_without_objects_is_valid(tmp_path: Path) -> None:
    data = own(tree(tmp_path / "mine", many(a=xml(), b=xml())))
    assert whole(data)[0][1]["boxes"].shape == (0, 4)
    assert len(whole(data)) == 10


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("told", ["upright", "stored", "nothing"])
def test_boxes_fit_rotated_photos(orientation: int, told: str, tmp_path: Path) -> None:
    """The annotation's size says whether its boxes are on the image as stored or upright; without it: upright."""
    place = tree(tmp_path / "mine", many())
    exif = Image.Exif()
    exif[EXIF_ORIENTATION_TAG] = orientation
    stored = patch()
    stored.save(place / "JPEGImages" / "a.jpg", exif=exif, quality=100, subsampling=0)
    turn = orientation >= 5
    upright_size = (HEIGHT, WIDTH) if turn else (WIDTH, HEIGHT)
    upright_box = orient_boxes(np.array([PLACE], float), orientation, WIDTH, HEIGHT)[0].tolist()
    said = {"upright": upright_size, "stored": (WIDTH, HEIGHT), "nothing": None}[told]
    box = PLACE if told == "stored" and turn else tuple(upright_box)
    (place / "Annotations" / "a.xml").write_text(xml(object_xml(box=box), size=said))
    picture, target = whole(own(place))[0]
    assert picture.shape == (3, *upright_size[::-1])
    assert target["boxes"][0].tolist() == pytest.approx(bright(picture), abs=1)


@pytest.mark.parametrize("kind", ["RGBA", "P", "L", "I;16", "gif named jpg"])
def test_images_of_any_kind(kind: str, tmp_path: Path) -> None:
    place, path = tree(tmp_path / "mine", many()), tmp_path / "mine" / "JPEGImages" / "a.jpg"
    image = patch()
    if kind == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)
    elif kind != "gif named jpg":
        image = image.convert(kind)
    image.save(path, format="GIF" if kind == "gif named jpg" else "PNG")
    (place / "Annotations" / "a.xml").write_text(xml(object_xml()))
    picture, target = whole(own(place))[0]
    assert picture.shape == (3, HEIGHT, WIDTH)
    assert target["boxes"].tolist() == [bright(picture)]


def test_images_scaled_after_annotating(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    box = tuple(4 * value for value in PLACE)
    data = own(tree(tmp_path / "mine", many(a=xml(object_xml(box=box), size=(4 * WIDTH, 4 * HEIGHT)))))
    picture, target = whole(data)[0]
    assert target["boxes"][0].tolist() == bright(picture)
    assert "1 images are not of the size in their annotations" in capsys.readouterr().err


def test_sizes_of_zero_say_nothing(tmp_path: Path) -> None:
    data = own(tree(tmp_path / "mine", many(a=xml(object_xml(), size=(0, 0)))))
    assert whole(data)[0][1]["boxes"].tolist() == [list(PLACE)]


def test_boxes_outside_are_clipped_and_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = {
        "a": xml(object_xml(box=(-20, -9, 30, 25))),
        "b": xml(object_xml(box=(10, 5, 90, 99))),
        "c": xml(object_xml(box=(99, 5, 120, 9))),
    }
    data = own(tree(tmp_path / "mine", many(**out)))
    examples = whole(data)
    assert examples[0][1]["boxes"].tolist() == [[0, 0, 30, 25]]
    assert examples[1][1]["boxes"].tolist() == [[10, 5, WIDTH, HEIGHT]]
    assert examples[2][1]["boxes"].tolist() == []
    lines = capsys.readouterr().err.splitlines()
    assert sum("2 boxes reached out of their images" in line for line in lines) == 1
    assert sum("1 boxes outside" in line for line in lines) == 1


def test_one_pixel_too_far_is_not_worth_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who counts pixels from 0 writes xmin 0, which is -1 to us."""
    own(tree(tmp_path / "mine", many(a=xml(object_xml(box=(-1, -1, 30, 25))))))
    assert "reached out" not in capsys.readouterr().err


# --- Bad input --------------------------------------------------------------------------------------------------------

BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<annotation><object><name>&b;</name></object></annotation>"
)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (xml("<object><name>cat</name></object>"), r"object 1 \(cat\) has no bndbox"),
        (xml(object_xml(), object_xml(box=(30, 5, 10, 25))), r"object 2 \(cat\) has a reversed box: x from 31 to 10"),
        (xml("<object><name>cat</name><bndbox><xmin>1</xmin></bndbox></object>"), "without four numbers"),
        (xml(object_xml(box=(1, 2, float("inf"), 4))), "without four numbers"),
        (xml(object_xml().replace("cat", " ")), "object 1 has no name"),
        (xml(object_xml(), size=(HEIGHT, HEIGHT)), "is of an image of 40×40, but"),
        ("<annotation><object>", "is not valid XML"),
        ("", "is empty: delete it, or annotate its image"),
        (BOMB, "declares entities or a document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "declares entities or a document type"),
    ],
)
def test_wrong_xml(text: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=complaint) as error:
        own(tree(tmp_path / "mine", many(a=text)))
    assert "a.xml" in str(error.value), "the file is named"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    path = Path("any.xml")
    path.write_bytes(content)
    said = f"{path} "
    try:
        read_xml(Path("a.jpg"), path)
    except ValueError as error:
        said = str(error)
    assert said.startswith("any.xml")


def test_unknown_class(tmp_path: Path) -> None:
    place = tree(tmp_path / "mine", many())
    lists = place / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "trainval.txt").write_text("z1\nz2\nz3\nz4\n")
    (lists / "test.txt").write_text("z5\n")
    (place / "Annotations" / "z5.xml").write_text(xml(object_xml("unicorn")))
    with pytest.raises(ValueError, match=r"z5\.xml names an unknown class 'unicorn'; known are: cat"):
        own(place)


@pytest.mark.parametrize("absent", ["JPEGImages/z3.png", "Annotations/z3.xml"])
def test_listed_but_absent(absent: str, tmp_path: Path) -> None:
    place = tree(tmp_path / "mine", many())
    (place / "ImageSets" / "Main").mkdir(parents=True)
    (place / "ImageSets" / "Main" / "trainval.txt").write_text("z1\nz2\nz3\n")
    (place / absent).unlink()
    with pytest.raises(FileNotFoundError, match=r"trainval\.txt lists z3, but there is no .*z3"):
        own(place)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("", "lists no images"), ("../../secret\n", "not the name of an image"), ("z1\n", "too few")],
)
def test_wrong_lists(text: str, complaint: str, tmp_path: Path) -> None:
    place = tree(tmp_path / "mine", many())
    (place / "ImageSets" / "Main").mkdir(parents=True)
    (place / "ImageSets" / "Main" / "trainval.txt").write_text(text)
    with pytest.raises(ValueError, match=complaint):
        own(place)


def test_damaged_image_is_named(tmp_path: Path) -> None:
    place = tree(tmp_path / "mine", many())
    (place / "JPEGImages" / "z2.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(ValueError, match=r"z2\.png"):
        own(place)
    assert list((tmp_path / "data").rglob("*.part")) == [], "nothing half made is left"


@pytest.mark.parametrize("names", [[], ["Annotations"]])
def test_empty_folders(names: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in names:
        (tmp_path / "mine" / name).mkdir()
    with pytest.raises(ValueError, match=r"contains no XML file|is neither a tree of VOC's"):
        own(tmp_path / "mine")


# --- The cache --------------------------------------------------------------------------------------------------------


def test_cache_is_made_again_where_it_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tree(tmp_path / "mine", many())
    own(place)
    (pixels,) = (tmp_path / "data" / "cache").glob("*.bin")
    (tables,) = (tmp_path / "data" / "cache").glob("*.npz")
    for path in (pixels, tables):
        before = path.read_bytes()
        path.write_bytes(before[: len(before) // 2])
        data = own(place)
        assert "is damaged: making it again" in capsys.readouterr().err
        assert path.read_bytes() == before or path == tables
        assert whole(data)[0][1]["boxes"].tolist() == [list(PLACE)]


def test_changed_images_are_read_again(tmp_path: Path) -> None:
    place = tree(tmp_path / "mine", many(a=xml(object_xml())))
    own(place)
    other = (2, 3, 20, 30)
    tree(place, {"a": xml(object_xml(box=other))}, patch(other))
    picture, target = whole(own(place))[0]
    assert target["boxes"].tolist() == [list(other)] == [bright(picture)]


def test_a_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(decoded_images, "decode_images", full)
    with pytest.raises(OSError, match=r"could not be kept in .*cache: No space left on device"):
        own(tree(tmp_path / "mine", many()))


def test_turned_is_undone_by_its_inverse() -> None:
    boxes = np.array([[1.0, 2, 11, 22]])
    for there, back in ((2, 2), (3, 3), (4, 4), (5, 5), (6, 8), (7, 7), (8, 6)):
        size = (HEIGHT, WIDTH) if there >= 5 else (WIDTH, HEIGHT)
        turned = orient_boxes(boxes, there, WIDTH, HEIGHT)
        assert turned.tolist() != boxes.tolist()
        assert orient_boxes(turned, back, *size).tolist() == boxes.tolist()


def test_a_square_photo_is_taken_as_upright() -> None:
    annotation = Annotation(Path("a.jpg"), "a.xml", (50, 50), [(1, 2, 11, 22)], ["cat"], [False])
    assert fit_boxes(annotation, (50, 50), 6)[0].tolist() == [[1, 2, 11, 22]]
