"""Reading PASCAL VOC and boxes of any origin: what is wrong is found and named, and boxes stay on their things."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from decathlon.data import Data, Source, drawn_scenes, pictures, voc
from decathlon.data.annotations import Annotation, read_xml
from decathlon.data.digit import ORIENTATION
from decathlon.data.pictures import fitted, turned

WIDE, HIGH = 60, 40
PLACE = (10, 5, 30, 25)  # left, top, right, bottom of the bright patch, pixels from 0


def patch(box: tuple[int, int, int, int] = PLACE, size: tuple[int, int] = (WIDE, HIGH)) -> Image.Image:
    """A dark picture with a bright patch: where that is, the box must be."""
    image = Image.new("RGB", size, (20, 20, 20))
    image.paste((250, 250, 250), box)
    return image


def thing(name: str = "cat", box: tuple[float, ...] = PLACE, more: str = "<difficult>0</difficult>") -> str:
    left, top, right, bottom = box
    corners = f"<xmin>{left + 1}</xmin><ymin>{top + 1}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax>"
    return f"<object><name>{name}</name>{more}<bndbox>{corners}</bndbox></object>"


def xml(*things: str, size: tuple[int, int] | None = (WIDE, HIGH)) -> str:
    said = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
    return f"<annotation>{said}{''.join(things)}</annotation>"


def tree(place: Path, annotations: dict[str, str], picture: Image.Image | None = None) -> Path:
    """A user's tree of VOC's layout, without lists; every annotation has a picture."""
    for name in ("Annotations", "JPEGImages"):
        (place / name).mkdir(parents=True, exist_ok=True)
    for name, text in annotations.items():
        (place / "Annotations" / f"{name}.xml").write_text(text)
        (picture or patch()).save(place / "JPEGImages" / f"{name}.png")
    return place


def many(**first: str) -> dict[str, str]:
    """Enough annotations to be divided; those given first."""
    return first | {f"z{number}": xml(thing()) for number in range(8)}


def own(path: Path, longest: int = 500) -> Data:
    return voc.load(Source("own", path, path.parent / "data"), longest)


def whole(data: Data) -> dict[int, tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    """All examples by the number of their picture."""
    parts = (data.train, data.validation, data.test)
    return {int(part.inputs[place]): part.example(place) for part in parts for place in range(len(part))}  # type: ignore[attr-defined]


def bright(picture: torch.Tensor) -> list[int]:
    """The box around what is bright."""
    rows, columns = (torch.nonzero((picture[0] > 128).any(axis))[:, 0] for axis in (1, 0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


# --- Good input -------------------------------------------------------------------------------------------------------


def test_the_sample_is_read_from_the_official_layout(tmp_path: Path) -> None:
    data = voc.load(Source("sample", None, tmp_path))
    assert data.name == "voc-sample"
    assert data.meta == {"classes": sorted(drawn_scenes.KINDS), "sample": True}
    assert [len(part) for part in (data.train, data.validation, data.test)] == [160, 32, 48]
    picture, target = data.train.example(0)  # type: ignore[attr-defined]
    assert picture.shape == (3, drawn_scenes.HIGH, drawn_scenes.WIDE)
    assert target["boxes"].shape == (len(target["labels"]), 4)
    again = voc.load(Source("sample", None, tmp_path))
    assert torch.equal(again.train.example(0)[0], picture), "from the cache"  # type: ignore[attr-defined]


def test_a_box_is_where_the_thing_is(tmp_path: Path) -> None:
    data = own(tree(tmp_path / "mine", many()))
    assert data.name == "own:mine"
    assert data.meta["classes"] == ["cat"]
    for picture, target in whole(data).values():
        assert target["boxes"].tolist() == [list(PLACE)] == [bright(picture)]
        assert target["labels"].tolist() == [1]


def test_large_pictures_are_made_smaller_with_their_boxes(tmp_path: Path) -> None:
    data = own(tree(tmp_path / "mine", many()), longest=30)
    picture, target = data.train.example(0)  # type: ignore[attr-defined]
    assert picture.shape == (3, 20, 30)
    assert target["boxes"].tolist() == [[value / 2 for value in PLACE]]
    assert (target["boxes"] * target["scale"]).tolist() == [list(PLACE)]


def test_lists_divide_the_pictures(tmp_path: Path) -> None:
    place = tree(tmp_path / "mine", {name: xml(thing()) for name in "abcdefgh"})
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


def test_pictures_that_move_to_another_list_move(tmp_path: Path) -> None:
    """The order of all pictures is the same before and after: only where a side ends is not."""
    place = tree(tmp_path / "mine", {name: xml(thing()) for name in "abcdefgh"})
    lists = place / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for train, val, test in (("abcd", "ef", "gh"), ("abc", "def", "gh"), ("abc", "d", "efgh")):
        for side, names in (("train", train), ("val", val), ("test", test)):
            (lists / f"{side}.txt").write_text("".join(f"{name}\n" for name in names))
        data = own(place)
        assert [len(part) for part in (data.train, data.validation, data.test)] == [len(train), len(val), len(test)]


def test_difficult_is_kept(tmp_path: Path) -> None:
    hard = thing(more="<difficult>1</difficult>")
    data = own(tree(tmp_path / "mine", many(a=xml(hard, thing("dog")))))
    assert whole(data)[0][1]["difficult"].tolist() == [True, False]


def test_a_picture_without_objects_is_valid(tmp_path: Path) -> None:
    data = own(tree(tmp_path / "mine", many(a=xml(), b=xml())))
    assert whole(data)[0][1]["boxes"].shape == (0, 4)
    assert len(whole(data)) == 10


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("told", ["upright", "stored", "nothing"])
def test_boxes_fit_rotated_photos(orientation: int, told: str, tmp_path: Path) -> None:
    """The annotation's size says whether its boxes are on the photo as stored or upright; without it: upright."""
    place = tree(tmp_path / "mine", many())
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = patch()
    stored.save(place / "JPEGImages" / "a.jpg", exif=exif, quality=100, subsampling=0)
    turn = orientation >= 5
    upright_size = (HIGH, WIDE) if turn else (WIDE, HIGH)
    upright_box = turned(np.array([PLACE], float), orientation, WIDE, HIGH)[0].tolist()
    said = {"upright": upright_size, "stored": (WIDE, HIGH), "nothing": None}[told]
    box = PLACE if told == "stored" and turn else tuple(upright_box)
    (place / "Annotations" / "a.xml").write_text(xml(thing(box=box), size=said))
    picture, target = whole(own(place))[0]
    assert picture.shape == (3, *upright_size[::-1])
    assert target["boxes"][0].tolist() == pytest.approx(bright(picture), abs=1)


@pytest.mark.parametrize("kind", ["RGBA", "P", "L", "I;16", "gif named jpg"])
def test_pictures_of_any_kind(kind: str, tmp_path: Path) -> None:
    place, path = tree(tmp_path / "mine", many()), tmp_path / "mine" / "JPEGImages" / "a.jpg"
    image = patch()
    if kind == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)
    elif kind != "gif named jpg":
        image = image.convert(kind)
    image.save(path, format="GIF" if kind == "gif named jpg" else "PNG")
    (place / "Annotations" / "a.xml").write_text(xml(thing()))
    picture, target = whole(own(place))[0]
    assert picture.shape == (3, HIGH, WIDE)
    assert target["boxes"].tolist() == [bright(picture)]


def test_pictures_scaled_after_annotating(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    box = tuple(4 * value for value in PLACE)
    data = own(tree(tmp_path / "mine", many(a=xml(thing(box=box), size=(4 * WIDE, 4 * HIGH)))))
    picture, target = whole(data)[0]
    assert target["boxes"][0].tolist() == bright(picture)
    assert "1 pictures are not of the size in their annotations" in capsys.readouterr().err


def test_sizes_of_zero_say_nothing(tmp_path: Path) -> None:
    data = own(tree(tmp_path / "mine", many(a=xml(thing(), size=(0, 0)))))
    assert whole(data)[0][1]["boxes"].tolist() == [list(PLACE)]


def test_boxes_outside_are_clipped_and_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = {
        "a": xml(thing(box=(-20, -9, 30, 25))),
        "b": xml(thing(box=(10, 5, 90, 99))),
        "c": xml(thing(box=(99, 5, 120, 9))),
    }
    data = own(tree(tmp_path / "mine", many(**out)))
    found = whole(data)
    assert found[0][1]["boxes"].tolist() == [[0, 0, 30, 25]]
    assert found[1][1]["boxes"].tolist() == [[10, 5, WIDE, HIGH]]
    assert found[2][1]["boxes"].tolist() == []
    lines = capsys.readouterr().err.splitlines()
    assert sum("2 boxes reached out of their pictures" in line for line in lines) == 1
    assert sum("1 boxes lay outside" in line for line in lines) == 1


def test_one_pixel_too_far_is_not_worth_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who counts pixels from 0 writes xmin 0, which is -1 to us."""
    own(tree(tmp_path / "mine", many(a=xml(thing(box=(-1, -1, 30, 25))))))
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
        (xml(thing(), thing(box=(30, 5, 10, 25))), r"object 2 \(cat\) has a reversed box: x from 31 to 10"),
        (xml("<object><name>cat</name><bndbox><xmin>1</xmin></bndbox></object>"), "without four numbers"),
        (xml(thing(box=(1, 2, float("inf"), 4))), "without four numbers"),
        (xml(thing().replace("cat", " ")), "object 1 has no name"),
        (xml(thing(), size=(HIGH, HIGH)), "is of a picture of 40×40, but"),
        ("<annotation><object>", "is no XML that can be read"),
        ("", "is no XML that can be read"),
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
    (place / "Annotations" / "z5.xml").write_text(xml(thing("unicorn")))
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
    ("text", "complaint"), [("", "lists no picture"), ("../../secret\n", "is no plain name"), ("z1\n", "too few")]
)
def test_wrong_lists(text: str, complaint: str, tmp_path: Path) -> None:
    place = tree(tmp_path / "mine", many())
    (place / "ImageSets" / "Main").mkdir(parents=True)
    (place / "ImageSets" / "Main" / "trainval.txt").write_text(text)
    with pytest.raises(ValueError, match=complaint):
        own(place)


def test_damaged_picture_is_named(tmp_path: Path) -> None:
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
    with pytest.raises(ValueError, match=r"holds no XML file|is neither a tree of VOC's"):
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


def test_changed_pictures_are_read_again(tmp_path: Path) -> None:
    place = tree(tmp_path / "mine", many(a=xml(thing())))
    own(place)
    other = (2, 3, 20, 30)
    tree(place, {"a": xml(thing(box=other))}, patch(other))
    picture, target = whole(own(place))[0]
    assert target["boxes"].tolist() == [list(other)] == [bright(picture)]


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pictures, "decode", full)
    with pytest.raises(OSError, match=r"could not be kept in .*cache: No space left on device"):
        own(tree(tmp_path / "mine", many()))


def test_turned_is_undone_by_its_inverse() -> None:
    boxes = np.array([[1.0, 2, 11, 22]])
    for there, back in ((2, 2), (3, 3), (4, 4), (5, 5), (6, 8), (7, 7), (8, 6)):
        size = (HIGH, WIDE) if there >= 5 else (WIDE, HIGH)
        assert turned(turned(boxes, there, WIDE, HIGH), back, *size).tolist() == boxes.tolist()


def test_a_square_photo_is_taken_as_upright() -> None:
    found = Annotation(Path("a.jpg"), "a.xml", (50, 50), [(1, 2, 11, 22)], ["cat"], [False])
    assert fitted(found, (50, 50), 6)[0].tolist() == [[1, 2, 11, 22]]
