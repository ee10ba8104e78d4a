"""Layouts of exports and downloads whose splits, classes or files could be taken for others."""

from __future__ import annotations

import io
import json
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import real_inputs as real
from PIL import Image
from real_inputs import BOX, HEIGHT, WIDTH

from decathlon.data import imdb, pets, voc
from decathlon.data.base import Source
from decathlon.data.io import own_boxes
from decathlon.data.read_options import ReadOptions
from decathlon.data.recognize import recognize

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tmp_path / "mine"


def annotated(path: Path) -> tuple[dict[str, int], list[str]]:
    """Images of each split as their annotations are read, and the classes."""
    sides, classes = own_boxes.find_boxes(path).read()
    return {side: len(annotations) for side, annotations in sides.items()}, classes


# --- YOLO -------------------------------------------------------------------------------------------------------------


def test_the_named_yaml_file_names_the_classes(mine: Path) -> None:
    real.yolo(mine, range(4))
    real.write(mine / "coco.yaml", "names: {0: person, 1: bicycle}\n")
    real.write(mine / "data.yaml", "names: [red, blue]\n")
    assert annotated(mine / "data.yaml")[1] == ["red", "blue"]
    assert annotated(mine / "coco.yaml")[1] == ["person", "bicycle"]
    assert real.read("voc", real.yolo(mine, range(12)) / "data.yaml").info.classes == ["red", "blue"]
    assert real.read("voc", mine / "coco.yaml").info.classes == ["person", "bicycle"]  # not from the other's cache
    with pytest.raises(ValueError, match=r"coco\.yaml, data\.yaml, which name different classes: name the one to read"):
        annotated(mine)
    real.write(mine / "coco.yaml", "path: data  # names of others\n")
    real.write(mine.parent / "other.yaml", "names: [person, bicycle]\n")  # not the folder's
    assert annotated(mine)[1] == ["red", "blue"]
    real.write(mine / "classes.txt", "red\nblue\ngreen\n")
    assert annotated(mine / "coco.yaml")[1] == ["red", "blue"]  # it names no classes
    assert real.read("voc", mine / "coco.yaml").info.classes == ["red", "blue"]
    real.write(mine / "data.yaml", "names: [blue, red]\n")
    (mine / "classes.txt").unlink()
    assert real.read("voc", mine / "coco.yaml").info.classes == ["blue", "red"]  # not from the cache


def test_a_list_beside_a_yaml_file_is_compared(mine: Path, capsys: Captured) -> None:
    real.yolo(mine, range(4))
    real.write(mine / "data.yaml", "names: [red, blue]\n")
    real.write(mine / "classes.txt", "blue\nred\n")
    assert annotated(mine)[1] == ["red", "blue"]
    assert "classes.txt names other classes than data.yaml, whose names are taken" in capsys.readouterr().err


@pytest.mark.parametrize("names", ['{"0": "red", "1": blue}', "\n  '0': red\n  '1': blue"])
def test_quoted_numbers_of_classes(names: str, mine: Path) -> None:
    real.write(real.yolo(mine, range(4)) / "data.yaml", f"names: {names}\n")
    assert annotated(mine)[1] == ["red", "blue"]


def test_a_list_that_cannot_be_read_hides_no_yaml_file(mine: Path) -> None:
    real.write(real.yolo(mine, range(4)) / "data.yaml", "names: [red, blue]\n")
    real.write(mine / "classes.txt", "red\nred\n")
    assert annotated(mine)[1] == ["red", "blue"]


def test_labelimg_writes_the_classes_among_the_labels(mine: Path, capsys: Captured) -> None:
    for side, numbers in (("train", range(4)), ("valid", range(4, 6))):
        real.yolo(mine, numbers, f"{side}/images", f"{side}/labels")
    real.write(mine / "train" / "labels" / "classes.txt", "red\nblue\n")  # labelImg adds to the list at hand
    real.write(mine / "valid" / "labels" / "classes.txt", "red\n")
    assert annotated(mine)[1] == ["red", "blue"]
    assert capsys.readouterr().err == ""
    real.write(mine / "valid" / "labels" / "classes.txt", "blue\n")
    with pytest.raises(ValueError, match="which name different classes: number the classes alike in all labels"):
        annotated(mine)


def test_a_flat_folder_reads_no_list_outside(mine: Path) -> None:
    real.write(real.yolo(mine, range(4), ".", ".") / "classes.txt", "red\nblue\n")
    real.write(mine.parent / "coco.yaml", "names: [person, bicycle]\n")
    real.write(mine.parent / "classes.txt", "person\n")
    assert annotated(mine)[1] == ["red", "blue"]


def test_poses_without_names(mine: Path) -> None:
    real.write(real.yolo(mine, range(12)) / "data.yaml", "nc: 1\nkpt_shape: [2, 2]  # two points\n")
    real.write(mine / "classes.txt", "red\n")
    for file in (mine / "labels").iterdir():
        file.write_text(file.read_text().strip() + " 0.46 0.48 0.54 0.52\n")
    assert real.boxes(real.read("voc", mine)) == [list(BOX)]


def test_folders_of_splits_may_have_a_year(mine: Path) -> None:
    real.yolo(mine, range(6), "images/train2017", "labels/train2017")
    real.yolo(mine, range(10, 13), "images/val2017", "labels/val2017")
    real.write(mine / "data.yaml", "train: images/train2017\nval: images/val2017\nnames: [red]\n")
    real.images(mine / "images" / "test2017", range(20, 22))  # COCO's own has no labels
    assert annotated(mine)[0] == {"train": 6, "val": 3}
    real.yolo(mine, range(30, 34), "images/train", "labels/train")
    assert annotated(mine)[0] == {"train": 4, "val": 3}  # the exact name first
    for folder in ("images", "labels"):
        (mine / folder / "train").rename(mine / folder / "train2012")
    with pytest.raises(ValueError, match="train2012 and train2017, both of which name the train split: merge them"):
        annotated(mine)


def test_splits_that_only_the_yaml_file_names_are_reported(mine: Path, capsys: Captured) -> None:
    real.yolo(mine, range(6), "images/part1", "labels/part1")
    real.yolo(mine, range(10, 13), "images/part2", "labels/part2")
    real.write(mine / "data.yaml", "train: images/part1\nval: images/part2\nnames: [red]\n")
    assert annotated(mine)[0] == {"train": 9}
    assert "those that data.yaml names are not read" in capsys.readouterr().err
    real.write(mine / "data.yaml", "train: images  # 128 images\nval: 'images'  # the same\ntest:  #\nnames: [red]\n")
    annotated(mine)
    assert "not read" not in capsys.readouterr().err


def test_lines_with_more_than_a_box_are_reported(mine: Path, capsys: Captured) -> None:
    real.write(real.yolo(mine, range(4)) / "data.yaml", "names: [red]\n")
    real.write(mine / "labels" / "00.txt", "0 0.5 0.5 0.2 0.2 0.45 0.45 0.55 0.55\n")
    annotated(mine)
    assert "1 line with more than a box taken as polygons" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["yolo", "masks"])
def test_a_split_beside_the_folders_is_not_lost(kind: str, mine: Path, capsys: Captured) -> None:
    make: Any = real.yolo if kind == "yolo" else real.masked
    dataset = "voc" if kind == "yolo" else "pets"
    for folder, numbers in ((mine, range(12)), (mine / "more", range(20, 24)), (mine / "test", range(30, 34))):
        make(folder, numbers)
    real.write(mine / "data.yaml", "names: [red]\n")
    with pytest.raises(ValueError, match=r"holds the split test beside images and .*: lay all splits out alike"):
        real.read(dataset, mine)
    shutil.rmtree(mine / "test" / ("labels" if kind == "yolo" else "masks"))  # as a contest gives it
    assert sum(real.sizes(real.read(dataset, mine))) == 12
    error = capsys.readouterr().err
    assert ("8 images in other folders are left out" if kind == "yolo" else "ignored more, test") in error


# --- PASCAL VOC and COCO ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "xmls"),
    [("images/{side}", "images/{side}"), ("images/{side}", "annotations"), ("{side}", "Annotations")],
    ids=["XML files beside their images", "XML files in one folder", "no folder of images"],
)
def test_folders_of_images_are_splits(images: str, xmls: str, mine: Path) -> None:
    for side, names in (("train", "abcd"), ("test", "ef")):
        real.voc_tree(mine, names, xmls.format(side=side), images.format(side=side))
    sides, _ = own_boxes.find_boxes(mine).read()
    assert {side: sorted(a.image_path.stem for a in sides[side]) for side in sides} == {
        "train": list("abcd"),
        "test": list("ef"),
    }


def test_folders_of_the_images_in_one_coco_file_are_splits(mine: Path, capsys: Captured) -> None:
    real.images(mine / "images" / "train", range(4))
    real.images(mine / "images" / "test", range(4, 6))
    real.write(mine / "annotations.json", real.coco(range(6)))
    assert annotated(mine)[0] == {"train": 4, "test": 2}
    (mine / "images" / "test" / "05.png").rename(mine / "images" / "05.png")
    assert annotated(mine)[0] == {"train": 6}
    assert "but not those of all images: they are divided at random" in capsys.readouterr().err
    for file in (mine / "images" / "train").iterdir():
        file.rename(mine / "images" / file.name)
    assert annotated(mine)[0] == {"train": 6}
    assert "but not those of all images: they are divided at random" in capsys.readouterr().err


def test_an_image_of_another_split_is_no_substitute(mine: Path) -> None:
    real.images(mine / "train", range(3))
    real.images(mine / "valid", range(4))
    for side in ("train", "val"):
        real.write(mine / "annotations" / f"{side}.json", real.coco(range(4)))
    with pytest.raises(FileNotFoundError, match=r"1 image of train absent; .*\(valid/03\.png\)"):
        annotated(mine)


def test_files_alone_may_make_the_splits_of_one_folder(mine: Path) -> None:
    real.images(mine / "train", range(6))
    real.write(mine / "annotations" / "train.json", real.coco(range(4)))
    real.write(mine / "annotations" / "val.json", real.coco(range(4, 6)))
    assert annotated(mine)[0] == {"train": 4, "val": 2}


def test_listed_folders_come_before_the_names_of_splits(mine: Path) -> None:
    """As in COCO's own division of 2014, which trains on most of val2014."""
    for folder in ("train2014", "val2014"):
        real.images(mine / folder, range(4))
    listed = [f"train2014/{number:02}.png" for number in range(4)] + ["val2014/00.png"]
    real.write(mine / "annotations" / "train.json", renamed(real.coco(range(5)), listed))
    real.write(mine / "annotations" / "val.json", renamed(real.coco(range(2)), ["val2014/01.png", "val2014/02.png"]))
    assert annotated(mine)[0] == {"train": 5, "val": 2}
    (mine / "annotations" / "val.json").unlink()
    assert annotated(mine)[0] == {"train": 5}
    (mine / "annotations" / "train.json").rename(mine / "annotations" / "result.json")
    assert annotated(mine)[0] == {"train": 4, "val": 1}


def renamed(coco: str, names: list[str]) -> str:
    content = json.loads(coco)
    for image, name in zip(content["images"], names, strict=True):
        image["file_name"] = name
    return json.dumps(content)


def test_the_file_of_a_split_beside_that_of_all_is_named(mine: Path, capsys: Captured) -> None:
    real.images(mine / "images", range(6))
    real.write(mine / "annotations.json", real.coco(range(6)))
    real.write(mine / "val.json", real.coco(range(2)))
    assert annotated(mine)[0] == {"train": 6}
    assert "reads annotations.json, ignored val.json: there is no train.json" in capsys.readouterr().err


def test_labelmes_own_files_are_named(mine: Path) -> None:
    real.images(mine, range(4))
    for number in range(4):
        real.write(mine / f"{number:02}.json", '{"version": "5.4.1", "shapes": [], "imagePath": "00.png"}')
    assert recognize(mine, ReadOptions()) == "voc"
    with pytest.raises(ValueError, match=r"00\.json is labelme's own format, which is not read: export COCO"):
        annotated(mine)
    real.write(mine / "annotations.json", real.coco(range(4)))  # what labelme2coco makes of them
    assert annotated(mine)[0] == {"train": 4}


def test_other_json_files_are_no_boxes(mine: Path) -> None:
    real.classed(mine, range(4))
    real.write(mine / "cat_to_name.json", '{"1": "blue", "2": "red"}')
    assert recognize(mine, ReadOptions()) == "cifar10"
    assert recognize(real.images(mine / "boxes", range(2)), ReadOptions()) == "cifar10"
    real.write(mine / "boxes" / "result.json", "\ufeff" + real.coco(range(2)))
    assert recognize(mine / "boxes", ReadOptions()) == "voc"


# --- Images with classes, masks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("train", "test"), ("train_images", "test_images"), ("training", "test1")])
def test_splits_without_classes_are_no_classes(names: tuple[str, str], mine: Path) -> None:
    real.classed(mine, range(12), names)
    real.write(mine / "train.csv", "id,label\n1,cat\n")
    with pytest.raises(ValueError, match="which are named like splits but hold no folder for each class"):
        real.read("cifar10", mine)
    for name in names:
        for number in range(20):
            real.write(mine.parent / "texts" / name / f"{number}.txt", real.sentence(number)[0])
    with pytest.raises(ValueError, match="which are named like splits but hold no folder for each class"):
        real.texts(mine.parent / "texts")


def test_classes_may_begin_as_splits(mine: Path) -> None:
    real.classed(mine, range(12), ("test tube", "train station"))
    assert real.read("cifar10", mine).info.classes == ["test tube", "train station"]


def test_folders_of_masks_are_no_classes(mine: Path) -> None:
    real.masked(mine, range(12))
    with pytest.raises(ValueError, match="holds images, masks: folders of data with boxes or masks, not of classes"):
        real.read("cifar10", mine)


def test_what_lies_beside_the_classes_is_reported(mine: Path, capsys: Captured) -> None:
    for side, numbers in (("train", range(12)), ("test", range(20, 24))):
        real.classed(mine / side, numbers)
        real.text_tree(mine.parent / "texts" / side, range(numbers.start, numbers.start + 20))
    for top in (mine, mine.parent / "texts"):
        real.write(top / "labels.csv", "id,label\n")
        real.write(top / "train" / "loose.md", "loose")
    real.read("cifar10", mine)
    assert "mine: ignored labels.csv: only the splits" in (error := capsys.readouterr().err)
    assert "train: ignored loose.md: only the folders of the classes are read" in error
    real.texts(mine.parent / "texts")
    assert "texts: ignored labels.csv: only the splits" in (error := capsys.readouterr().err)
    assert "train: ignored loose.md: only the folders of the classes are read" in error


def png_of_16_bits(value: int) -> bytes:
    """A PNG in colour with 16 bits for each channel, which Pillow reads but does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 2, 0, 0, 0)
    rows = (b"\0" + struct.pack(">H", value) * 3 * WIDTH) * HEIGHT
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_twelve_bits_in_colour_are_reported(mine: Path, capsys: Captured) -> None:
    assert Image.open(io.BytesIO(png_of_16_bits(4000))).mode == "RGB"
    real.classed(mine, range(12))
    real.write(mine / "red" / "bright.png", png_of_16_bits(40_000))
    real.save(Image.new("RGB", (WIDTH, HEIGHT), (9, 9, 9)), mine / "red" / "dark.png")
    real.write(mine / "red" / "twelve.png", png_of_16_bits(4000))
    real.read("cifar10", mine)
    error = capsys.readouterr().err
    assert "1 image in colour of 16 bits with no value above 4095: nearly black" in error
    assert "(red/twelve.png)" in error


def test_classes_in_a_grey_palette_are_not_one_foreground(mine: Path, capsys: Captured) -> None:
    def drawn(number: int) -> Image.Image:
        mask = Image.fromarray((np.asarray(real.mask()) // 255 * (1 + number % 2)).astype(np.uint8))
        mask = mask.convert("P")
        mask.putpalette([0, 0, 0, 85, 85, 85, 170, 170, 170])
        return mask

    real.masked(mine, range(12), drawn)
    with pytest.raises(ValueError, match=r"drawn in several colours, #555555 \(.*#aaaaaa"):
        real.read("pets", mine)
    real.masked(mine, range(12), lambda number: drawn(0))
    real.read("pets", mine)
    assert "the foreground of the masks is #555555, and black the background" in capsys.readouterr().err


# --- Texts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["test.xlsx", "valid.csv.gz", "Test.parquet"])
def test_a_split_in_another_format_is_refused(name: str, mine: Path) -> None:
    real.table(mine / "train.csv", range(40))
    real.write(mine / name, b"PK")
    with pytest.raises(ValueError, match=f"{name}: tables are read as CSV or JSON lines; save it as one of these"):
        real.texts(mine)


def test_what_lies_beside_tables_is_reported(mine: Path, capsys: Captured) -> None:
    real.table(mine / "train.csv", range(40))
    real.write(mine / "raw" / "dump.bin", b"\0")
    real.write(mine / "codes.xlsx", b"PK")
    assert len(real.texts(mine).train) + len(real.texts(mine).test) == 40
    real.write(mine / "train.csv.zip", b"PK")  # as it was downloaded
    real.texts(mine)
    assert (
        "ignored codes.xlsx, raw, train.csv.zip: only the splits train, val and test are read"
        in capsys.readouterr().err
    )


def test_missing_labels_of_r_are_reported(mine: Path, capsys: Captured) -> None:
    path = real.table(mine / "data.csv", range(40))
    path.write_text(path.read_text() + "one more,NA\nand one more,NA\n")
    real.texts(path)
    assert "'NA' may stand for a missing value" in capsys.readouterr().err


def test_two_rows_between_stray_quotes_are_not_one(mine: Path) -> None:
    path = real.table(mine / "data.csv", range(40))
    whole = path.read_text()
    path.write_text(whole + '"bad film,neg\nit was 5",pos\n')
    with pytest.raises(ValueError, match="line 42: a quoted text that begins here runs over 2 lines"):
        real.texts(path)
    path.write_text(whole + '"good, pos\nand more",pos\n"Dear all,\nit was dull",neg\nno label,\n')
    assert len(real.texts(path).train) + len(real.texts(path).test) == 42
    numbered = whole.replace(",pos", ",5").replace(",neg", ",1")
    path.write_text(numbered + '"Note 4,5\nsehr gut",5\n')
    assert len(real.texts(path).train) + len(real.texts(path).test) == 41
    path.write_text('label,text\npos,"pos, I liked it\nVery nice."\n' + "".join(f"neg,dull {i}\n" for i in range(20)))
    assert len(real.texts(path).train) + len(real.texts(path).test) == 21


def test_where_a_table_ends_is_part_of_the_key(mine: Path) -> None:
    rows = [json.dumps({"text": text, "label": label}) + "\n" for text, label in map(real.sentence, range(40))]
    keys = []
    for count in (30, 20):
        real.write(mine / "train.jsonl", "".join(rows[:count]))
        real.write(mine / "test.jsonl", "".join(rows[count:]))
        keys.append(real.texts(mine).key)
    assert keys[0] != keys[1]


def test_how_unlabelled_texts_are_read_is_part_of_the_key(mine: Path) -> None:
    texts = real.texts(real.table(mine / "data.csv", range(40)))
    content = "text,label\nonce more,\n"
    lines, table = (real.write(mine / name, content) for name in ("more.txt", "more.csv"))
    as_lines, as_table = imdb.add_unlabelled(texts, lines), imdb.add_unlabelled(texts, table)
    assert (as_lines.unlabelled, as_table.unlabelled) == (["text,label", "once more,"], ["once more"])
    assert as_lines.key != as_table.key


@pytest.mark.parametrize("dataset", ["pets", "voc"])
def test_a_folder_is_decoded_once_however_it_is_named(
    dataset: str, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (real.masked if dataset == "pets" else real.voc_tree)(mine, range(12) if dataset == "pets" else map(str, range(12)))
    monkeypatch.chdir(mine.parent)
    reader = pets.load if dataset == "pets" else voc.load
    for path in (mine, Path("mine"), Path("./mine/../mine")):
        source = Source("own", path, mine.parent / "data", download=False)
        reader(source, 32)  # type: ignore[operator]
        reader(source, 32)  # type: ignore[operator]
    assert len(list((mine.parent / "data" / "cache").glob("*.npz"))) <= 2


def test_an_image_that_may_not_be_read_is_named(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not the cache, which could be written."""
    real.voc_tree(mine, map(str, range(12)))

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    whole = own_boxes.files.read_bytes
    monkeypatch.setattr(
        own_boxes.files, "read_bytes", lambda path, *more: refuse(path) if path.name == "3.png" else whole(path, *more)
    )
    with pytest.raises(PermissionError, match=r"3\.png"):
        real.read("voc", mine)
