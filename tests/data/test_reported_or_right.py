"""Users' files that could be read in two ways: read as they are meant, or reported, or refused."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import real_inputs as real
import torch
from PIL import Image
from real_inputs import BOX, HEIGHT, WIDTH

from decathlon.data import imdb
from decathlon.data.base import Source, Split
from decathlon.data.divide import Contents, drop_copies

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tmp_path / "mine"


# --- Boxes ------------------------------------------------------------------------------------------------------------


def test_files_behind_links_are_read_again_when_they_change(mine: Path, tmp_path: Path) -> None:
    store = real.yolo(tmp_path / "store", range(12))
    mine.mkdir()
    for name in ("images", "labels"):
        (mine / name).symlink_to(store / name)
    real.write(mine / "data.yaml", "names: [red, blue]\n")
    assert real.boxes(real.read("voc", mine)) == [list(BOX)]
    for number in range(12):
        real.write(store / "labels" / f"{number:02}.txt", "1 0.5 0.5 0.5 0.5\n")
    assert real.boxes(real.read("voc", mine)) == [[WIDTH // 4, HEIGHT // 4, 3 * WIDTH // 4, 3 * HEIGHT // 4]]


def test_images_of_coco_behind_links_are_read_again_when_they_change(mine: Path, tmp_path: Path) -> None:
    store = real.images(tmp_path / "store", range(12))
    real.write(mine / "annotations.json", real.coco(range(12)))
    (mine / "images").symlink_to(store)
    before = real.read("voc", mine).train.example(0)[0]  # type: ignore[attr-defined]
    for number in range(12):
        real.save(Image.new("RGB", (WIDTH, HEIGHT), (0, 0, number)), store / f"{number:02}.png")
    after = real.read("voc", mine).train.example(0)[0]  # type: ignore[attr-defined]
    assert before.max() > 200  # the box
    assert after.max() < 12


def test_folders_of_splits_below_annotations(mine: Path) -> None:
    for side, count in (("train", 20), ("val", 6), ("test", 5)):
        real.voc_tree(mine, [f"{side}/{side}{number}" for number in range(count)])
    data = real.read("voc", mine)
    assert real.sizes(data) == [20, 6, 5]
    decoded = data.test.source  # type: ignore[attr-defined]
    assert all(decoded.names[index].startswith("JPEGImages/test/") for index in data.test.inputs.tolist())


def test_a_line_that_names_nothing_is_refused_with_its_list(mine: Path) -> None:
    real.lists(real.voc_tree(mine, [str(number) for number in range(12)]), train=[".", "1", "2"])
    with pytest.raises(ValueError, match=r"train\.txt lists '\.', which is not the name of an image"):
        real.read("voc", mine)


def test_an_image_with_an_endless_name_is_absent(mine: Path) -> None:
    real.images(mine / "images", range(12))
    real.write(mine / "annotations.json", real.coco(range(12), "a" * 5000 + "{:02}.png"))
    with pytest.raises(FileNotFoundError, match=r"annotations\.json lists a{200}, which is in none of"):
        real.read("voc", mine)


@pytest.mark.parametrize("points", ["0.46 0.48 0.54 0.52", "0.46 0.48 2 0.54 0.52 1"])
def test_poses_have_their_own_boxes(points: str, mine: Path) -> None:
    real.yolo(mine, range(12))
    real.write(mine / "data.yaml", "names: [red]\nkpt_shape: [2, 2]\n")
    for file in (mine / "labels").iterdir():
        file.write_text(file.read_text().strip() + f" {points}\n")
    assert real.boxes(real.read("voc", mine)) == [list(BOX)]


def cameras(mine: Path) -> Path:
    """Images of the same names in the folders of two cameras, in Darknet's layout."""
    for camera in ("cam1", "cam2"):
        folder = f"obj_train_data/{camera}"
        real.yolo(mine, range(6), folder, folder)
    for file in (mine / "obj_train_data" / "cam2").glob("*.txt"):
        file.write_text(file.read_text().replace("0 ", "1 ", 1))
    for number in range(6):
        real.save(real.scene(100 + number), mine / "obj_train_data" / "cam2" / f"{number:02}.png")
    real.write(mine / "obj.names", "red\nblue\n")
    return mine


def test_lists_of_another_machine_name_folders(mine: Path) -> None:
    names = [f"data/obj_train_data/{camera}/{number:02}.png" for camera in ("cam1", "cam2") for number in range(6)]
    real.write(cameras(mine) / "train.txt", "\n".join(names))
    data = real.read("voc", mine)
    assert sum(real.sizes(data)) == 12
    assert sorted(data.train.source.labels.tolist()) == [1] * 6 + [2] * 6  # type: ignore[attr-defined]


def test_a_list_that_may_mean_two_images_is_refused(mine: Path) -> None:
    real.write(cameras(mine) / "train.txt", "01.png\n")
    with pytest.raises(ValueError, match=r"lists 01\.png, which may be obj_train_data/cam1/01\.png, obj"):
        real.read("voc", mine)


def test_images_found_in_other_folders_are_reported(mine: Path, capsys: Captured) -> None:
    real.images(mine / "images" / "b", range(12))
    real.write(mine / "annotations.json", real.coco(range(12), "a/{:02}.png"))
    real.read("voc", mine)
    assert "12 images are not where they are listed" in capsys.readouterr().err
    real.write(mine / "annotations.json", real.coco(range(12), "/home/me/a/{:02}.png"))
    real.read("voc", mine)
    assert "not where they are listed" not in capsys.readouterr().err


def test_the_names_of_classes_begin_with_no_mark_and_are_not_shifted(mine: Path) -> None:
    real.yolo(mine, range(12))
    real.write(mine / "classes.txt", "\ufeffred\nblue\n\n")
    assert real.read("voc", mine).info.classes == ["red", "blue"]
    real.write(mine / "classes.txt", "red\n\nblue\n")
    with pytest.raises(ValueError, match="names no classes, or one without a name"):
        real.read("voc", mine)


def test_the_first_of_two_years_is_read_and_the_other_named(mine: Path, capsys: Captured) -> None:
    for year in ("VOC2007", "VOC2012"):
        real.voc_tree(mine / year, [f"{year}-{number}" for number in range(12)])
    assert sum(real.sizes(real.read("voc", mine))) == 12
    assert "reads VOC2007, ignored VOC2012: name the one to read as --data PATH" in capsys.readouterr().err


# --- Masks and images -------------------------------------------------------------------------------------------------


def test_masks_that_fit_a_turned_image_either_way_are_reported(mine: Path, capsys: Captured) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(12):
        real.save(real.scene(number, size=(40, 40)), mine / "images" / f"{number:02}.jpg", exif=exif)
        real.save(real.mask(size=(40, 40)), mine / "masks" / f"{number:02}.png")
    real.read("pets", mine)
    assert "12 images are stored turned (EXIF), and their masks fit them either way" in capsys.readouterr().err


def test_a_mask_whose_shape_tells_is_not_reported(mine: Path, capsys: Captured) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(12):
        real.save(real.scene(number), mine / "images" / f"{number:02}.jpg", exif=exif)  # stored 60×40, upright 40×60
        upright = number % 2 == 0
        real.save(real.mask(size=(HEIGHT, WIDTH) if upright else (WIDTH, HEIGHT)), mine / "masks" / f"{number:02}.png")
    real.read("pets", mine)
    error = capsys.readouterr().err
    assert "6 masks turned as their images' EXIF data say" in error
    assert "either way" not in error


def test_images_of_32_bits_are_reported(mine: Path, capsys: Captured) -> None:
    real.classed(mine, range(12))
    values = np.arange(WIDTH * HEIGHT, dtype=np.int32).reshape(HEIGHT, WIDTH)
    real.save(Image.fromarray(values), mine / "red" / "x.tif")
    real.read("cifar10", mine)
    assert "1 image of 32 bits: the largest value is white (red/x.tif)" in capsys.readouterr().err


# --- Texts ------------------------------------------------------------------------------------------------------------


def test_unlabelled_texts_of_the_test_split_are_left_out(mine: Path, capsys: Captured) -> None:
    real.text_tree(mine / "train", range(40))
    real.text_tree(mine / "test", range(50, 60))
    for number in (*range(50, 54), *range(70, 73)):
        real.write(mine / "train" / "unsup" / f"{number}.txt", real.sentence(number)[0])
    assert len(real.texts(mine).unlabelled) == 3
    assert "4 of 7 texts are among the labelled ones, and are left out" in capsys.readouterr().err


def test_a_byte_order_mark_hides_no_copy(mine: Path, capsys: Captured) -> None:
    real.text_tree(mine / "train", range(40))
    real.text_tree(mine / "test", range(36, 46))
    for file in (mine / "train").rglob("*.txt"):
        file.write_text("\ufeff" + file.read_text())
    loaded = real.texts(mine)
    assert (len(loaded.test), loaded.train[0][0]) == (6, "f")
    assert "4 of 10 texts of test are also in train" in capsys.readouterr().err


def test_half_a_release_is_not_divided(tmp_path: Path) -> None:
    real.text_tree(tmp_path / "aclImdb" / "train", range(40))
    with pytest.raises(FileNotFoundError, match="has not both train and test: delete it and run again"):
        imdb.load(Source("official", None, tmp_path, download=True))


def test_rows_without_a_label_take_no_more_time_each(mine: Path) -> None:
    def seconds(count: int) -> float:
        rows = [json.dumps({"text": f"text {n}"}) for n in range(count)]
        rows += [json.dumps(dict(zip(("text", "label"), real.sentence(n), strict=True))) for n in range(40)]
        path = real.write(mine / f"{count}.jsonl", "\n".join(rows))
        start = time.process_time()
        real.texts(path)
        return time.process_time() - start

    seconds(1000)  # what is loaded at first use
    assert seconds(8000) < 20 * seconds(1000)  # 64 times where each row looks through all others


def test_where_a_test_split_of_copies_goes(capsys: Captured) -> None:
    sides = {side: Split(torch.arange(2), torch.arange(2)) for side in ("train", "val", "test")}
    names = {"train": ["a", "b"], "val": ["c", "d"], "test": ["a", "b"]}
    drop_copies(sides, {side: Contents(names[side], names[side]) for side in sides}, Path("mine"))
    error = capsys.readouterr().err
    assert "nothing is left of test" in error
    assert "held out of train" not in error
