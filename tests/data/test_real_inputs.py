"""Data as people really have them: each kind is read with the right values, or refused in one line with the way out."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import real_inputs as real
import torch
from conftest import Command
from PIL import Image
from real_inputs import BOX, HEIGHT, WIDTH, boxes, read, sizes, texts

from decathlon.data import imdb, pets
from decathlon.data.base import Split, parse_source
from decathlon.data.divide import hold_out
from decathlon.data.io import idx, images, listing, text_tables

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tmp_path / "mine"


# --- Every reader: hidden files, names of splits, copies, unreadable files --------------------------------------------

MAKERS: dict[str, Callable[[Path, range], Path]] = {
    "cifar10": real.classed,
    "pets": real.masked,
    "voc": lambda folder, numbers: real.voc_tree(folder, [f"{n:02}" for n in numbers], ".", "."),
    "yolo": lambda folder, numbers: real.yolo(folder, numbers),
    "imdb": real.text_tree,
}


def read_any(kind: str, folder: Path) -> list[int]:
    """Training and validation together, and test: where nothing is divided, validation is held out of training."""
    if kind == "imdb":
        loaded = texts(folder)
        return [len(loaded.train) - loaded.n_validation, loaded.n_validation, len(loaded.test)]
    return sizes(read("voc" if kind == "yolo" else kind, folder))


@pytest.mark.parametrize("kind", MAKERS)
def test_hidden_and_system_files_are_passed_over(kind: str, mine: Path) -> None:
    folder = MAKERS[kind](mine, range(30))
    clean = read_any(kind, folder)
    assert read_any(kind, real.litter(folder)) == clean


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev", "Valid"])
def test_splits_are_known_by_any_name(kind: str, name: str, mine: Path) -> None:
    MAKERS[kind](mine / "train", range(12))
    MAKERS[kind](mine / name, range(20, 26))
    MAKERS[kind](mine / "test", range(40, 44))
    factor = 2 if kind == "cifar10" else 1  # two classes
    assert read_any(kind, mine) == [12 * factor, 6 * factor, 4 * factor]


@pytest.mark.parametrize("kind", MAKERS)
def test_two_names_of_one_split_are_refused(kind: str, mine: Path) -> None:
    for name in ("train", "val", "valid"):
        MAKERS[kind](mine / name, range(6))
    with pytest.raises(ValueError, match=r"mine holds val and valid, both of which name the val split"):
        read_any(kind, mine)


@pytest.mark.parametrize("kind", MAKERS)
def test_no_example_is_in_two_splits(kind: str, mine: Path, capsys: Captured) -> None:
    MAKERS[kind](mine / "train", range(12))
    MAKERS[kind](mine / "valid", range(10, 18))  # two are in train
    MAKERS[kind](mine / "test", range(16, 22))  # two are in valid
    factor = 2 if kind == "cifar10" else 1
    assert read_any(kind, mine) == [12 * factor, 6 * factor, 4 * factor]
    error = capsys.readouterr().err
    assert f"{2 * factor} of {8 * factor} " in error
    assert "of val are also in train, and are left out of val (" in error
    assert "of test are also in train or val, and are left out of test (" in error


@pytest.mark.parametrize("kind", MAKERS)
def test_copies_in_undivided_data_stay_together(kind: str, mine: Path, capsys: Captured) -> None:
    MAKERS[kind](mine, range(30))
    for number in range(4):
        for path in sorted(mine.rglob(f"*{number:02}.*")):
            shutil.copyfile(path, path.with_name(f"9{path.name}"))
    read_any(kind, mine)
    assert "are copies of others" in capsys.readouterr().err


def test_a_split_that_is_all_copies_is_held_out_anew(mine: Path, capsys: Captured) -> None:
    real.masked(mine / "train", range(24))
    real.masked(mine / "test", range(4))
    data = read("pets", mine)
    assert sum(sizes(data)) == 24
    assert min(sizes(data)) > 0
    assert "nothing is left of test, so it is held out of train" in capsys.readouterr().err


def test_copies_are_held_out_together() -> None:
    from decathlon.data.divide import Contents

    digests = [str(number // 3) for number in range(90)]
    split = Split(torch.arange(90), torch.arange(90) // 3 % 2)
    for by_class in (False, True):
        train, held = hold_out(split, 10, by_class, Contents(digests, digests))
        assert not {digests[i] for i in train.inputs.tolist()} & {digests[i] for i in held.inputs.tolist()}
        assert sorted([*train.inputs.tolist(), *held.inputs.tolist()]) == list(range(90))
        assert len(held) == 9


@pytest.mark.parametrize("kind", ["cifar10", "pets", "voc", "imdb"])
def test_all_unreadable_files_are_named_at_once(kind: str, mine: Path) -> None:
    MAKERS[kind](mine, range(30))
    ending = {"voc": "xml", "imdb": "txt"}.get(kind, "png")
    broken = [path for path in sorted(mine.rglob(f"*.{ending}")) if "masks" not in path.parts][:13]
    for path in broken:
        path.write_bytes(b"\xff\xfe no such thing")
    with pytest.raises(ValueError, match=r"1[0-9] files cannot be read") as error:
        read_any(kind, mine)
    assert str(error.value).count(f".{ending}") >= 10
    assert "and 3 more" in str(error.value)


def test_endings_are_compared_without_case(mine: Path) -> None:
    real.text_tree(mine / "texts", range(30), ".TXT")
    assert len(texts(mine / "texts").train) == 27
    for number in range(12):
        real.save(real.scene(number), mine / "masks" / "images" / f"A{number}.JPG", format="JPEG")
        real.save(real.mask(), mine / "masks" / "masks" / f"a{number}.PNG", format="PNG")
    assert sum(sizes(read("pets", mine / "masks"))) == 12


def test_class_names_are_compared(mine: Path, capsys: Captured) -> None:
    real.classed(mine, range(12), ("Cat", "cat", "1", "1.0"))
    assert read("cifar10", mine).info.classes == ["1", "1.0", "Cat", "cat"]
    error = capsys.readouterr().err
    assert "'Cat' and 'cat' differ in case only" in error
    assert "'1' and '1.0' are the same number" in error


def test_warnings_are_reported_again_from_the_cache(mine: Path, capsys: Captured) -> None:
    real.classed(mine, range(12))
    for _ in range(2):
        read("cifar10", mine)
        assert "24 of 24 images scaled and cropped to 32×32" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        ("._a.png", True),
        ("Thumbs.db", True),
        ("DESKTOP.INI", True),
        ("__MACOSX", True),
        ("~$a.csv", True),
        ("a", False),
    ],
)
def test_what_is_hidden(name: str, hidden: bool) -> None:
    assert listing.is_hidden(name) == hidden


# --- Tables of texts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("header", "line"), [("text,label", "{text},{label}"), ("label,text", "{label},{text}")])
def test_unquoted_commas_are_refused_with_their_lines(header: str, line: str, mine: Path) -> None:
    path = real.table(mine / "a.csv", range(40), header, line)
    rows = path.read_text().splitlines()
    for number in (4, 9, 14, 19):
        rows[number] = rows[number].replace(" and", ", and")
    path.write_text("\n".join(rows))
    with pytest.raises(ValueError, match=r"a\.csv, line 5: 3 fields where the header has 2: .*3 more .* 10, 15, 20"):
        texts(path)


@pytest.mark.parametrize("lines", [(12,), (12, 30)])
@pytest.mark.parametrize(("header", "line"), [("text,label", "{text},{label}"), ("label,text", "{label},{text}")])
def test_open_quotation_marks_are_refused_with_their_line(
    lines: tuple[int, ...], header: str, line: str, mine: Path
) -> None:
    path = real.table(mine / "a.csv", range(40), header, line)
    rows = path.read_text().splitlines()
    for number in lines:
        rows[number - 1] = rows[number - 1].replace("film", '"film', 1)
    path.write_text("\n".join(rows) + "\n")
    with pytest.raises(ValueError, match=r"a\.csv, line 12: .*quot"):
        texts(path)


def test_a_quote_closed_many_rows_later_is_refused(mine: Path) -> None:
    path = real.table(mine / "a.csv", range(40))
    rows = path.read_text().splitlines()
    rows[11] = '"' + rows[11]
    rows[29] = rows[29].replace(",", '",')
    path.write_text("\n".join(rows) + "\n")
    with pytest.raises(ValueError, match=r"a\.csv, line 12: a quoted text that begins here runs over 19 lines"):
        texts(path)


def test_quoted_texts_of_several_lines_are_read(mine: Path) -> None:
    rows = [f'"One, {n}.\nSaid ""two"".\n\nThe end, pos",{"pos" if n % 2 else "neg"}' for n in range(40)]
    loaded = texts(real.write(mine / "a.csv", "text,label\r\n" + "\r\n".join(rows)))
    assert len(loaded.train) + len(loaded.test) == 40
    assert 'One, 3. Said "two". The end, pos' in [*loaded.train, *loaded.test]


def test_rows_without_text_or_label_are_counted(mine: Path, capsys: Captured) -> None:
    rows = [*map(real.sentence, range(60)), ("a text", ""), ("another", "  "), ("", "pos"), ("<br />", "neg")]
    path = real.write(mine / "a.csv", "text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    loaded = texts(path)
    assert loaded.classes == ["neg", "pos"]
    assert len(loaded.train) + len(loaded.test) == 60
    error = capsys.readouterr().err
    assert "2 of 64 rows have no label and are left out (lines 62, 63)" in error
    assert "2 of 64 rows have no text and are left out (lines 64, 65)" in error


def test_labels_are_stripped_and_compared(mine: Path, capsys: Captured) -> None:
    line = "{text}, {label} "
    assert texts(real.table(mine / "a.csv", range(40), " text , label", line)).classes == ["neg", "pos"]
    assert "blanks were taken off 40 labels" in capsys.readouterr().err
    rows = "".join(f"film {n},{['0', '1', '1.0', 'Yes', 'yes'][n % 5]}\n" for n in range(60))
    texts(real.write(mine / "b.csv", "text,label\n" + rows))
    error = capsys.readouterr().err
    assert "'1' and '1.0' are the same number" in error
    assert "'Yes' and 'yes' differ in case only" in error


@pytest.mark.parametrize(
    ("ending", "header", "line", "word"),
    [
        ("csv", "text;label", '"{text}; really";{label}', "semicolons separate the columns"),
        ("tsv", "text\tlabel", "{text}, really\t{label}", "tabs separate the columns"),
        ("CSV", "\ufefftext,label", "{text},{label}", ""),
        ("csv", "Text,LABEL", "{text},{label}", ""),
        ("csv", "id;label;text", "7;{label};{text}", "semicolons"),
    ],
)
def test_delimiters_are_found(ending: str, header: str, line: str, word: str, mine: Path, capsys: Captured) -> None:
    loaded = texts(real.table(mine / f"a.{ending}", range(40), header, line))
    assert (loaded.classes, len(loaded.train), len(loaded.test)) == (["neg", "pos"], 36, 4)
    assert word in capsys.readouterr().err


def test_columns_are_taken_by_name(mine: Path) -> None:
    path = real.table(mine / "a.csv", range(40), "review,sentiment")
    loaded = texts(path, text_column="review", label_column="sentiment")
    assert (loaded.classes, len(loaded.train)) == (["neg", "pos"], 36)
    with pytest.raises(ValueError, match=r"needs the columns text and label; it has review, sentiment; name them with"):
        texts(path)
    with pytest.raises(ValueError, match=r"it has review, sentiment; did you mean 'review'"):
        texts(path, text_column="reviews", label_column="sentiment")


def test_options_travel_with_the_path(mine: Path, decathlon: Command) -> None:
    path = real.table(mine / "a&b.csv", range(60), "re=view,sentiment")
    flags = ("--epochs", "1", "--embedding-epochs", "0", "--min-count", "1", "--out", "run", "--json")
    flags += ("--text-column", "re=view", "--label-column", "sentiment")
    done = decathlon("train", "imdb-textcnn", "--data", path, *flags)
    assert done.status == 0, done.err
    again = decathlon("evaluate", "run", "--json")
    assert again.status == 0, again.err
    assert json.loads(again.out)["metrics"] == json.loads(done.out)["metrics"]
    assert json.loads(again.out)["data"] == "own:a&b.csv"


def test_options_of_other_data_are_refused(mine: Path, decathlon: Command) -> None:
    path = real.table(mine / "a.csv", range(60))
    answer = decathlon("train", "imdb-textcnn", "--data", path, "--mask-suffix", "_mask", "--dry-run")
    assert (answer.status, "--mask-suffix does not apply to this task" in answer.error) == (2, True)
    answer = decathlon("train", "mnist-mlp", "--data", "sample", "--transposed", "--dry-run")
    assert (answer.status, "--transposed is for your own data" in answer.error) == (2, True)


def test_a_path_may_hold_a_question_mark(mine: Path) -> None:
    path = real.table(mine / "what?.csv", range(40))
    assert parse_source(str(path)).path == path
    assert parse_source(f"{path}?text-column=a%2Fb").options.text_column == "a/b"
    with pytest.raises(FileNotFoundError, match="no such path"):
        parse_source(f"{path}?colour=red")


@pytest.mark.parametrize("kind", ["lines", "list", "lines in .json", "upper case"])
def test_json_of_either_kind_is_read(kind: str, mine: Path) -> None:
    rows = [{"text": text, "label": label, "more": [1]} for text, label in map(real.sentence, range(40))]
    name = {"lines": "a.jsonl", "upper case": "a.JSONL"}.get(kind, "a.json")
    content = json.dumps(rows, indent=1) if kind == "list" else "\n".join(map(json.dumps, rows))
    loaded = texts(real.write(mine / name, content))
    assert (loaded.classes, len(loaded.train)) == (["neg", "pos"], 36)


def test_json_is_refused_by_line(mine: Path, capsys: Captured) -> None:
    rows = [json.dumps(dict(zip(("text", "label"), real.sentence(n), strict=True))) for n in range(20)]
    with pytest.raises(ValueError, match=r"line that is no JSON, line 21"):
        texts(real.write(mine / "a.jsonl", "\n".join([*rows, "{'text': 1}"])))
    with pytest.raises(ValueError, match=r"line 21 has a text that is neither text nor number"):
        texts(real.write(mine / "a.jsonl", "\n".join([*rows, '{"text": ["a"], "label": "pos"}'])))
    missing = ['{"text": null, "label": "pos"}', '{"text": "a"}', '{"text": "b", "label": NaN}']
    assert len(texts(real.write(mine / "a.jsonl", "\n".join([*rows, *missing]))).train) == 18
    assert "2 of 23 rows have no label and are left out (lines 22, 23)" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"it is one object: save a list of records"):
        texts(real.write(mine / "a.json", json.dumps({"text": {"0": "a"}, "label": {"0": "b"}}, indent=1)))


def test_tables_of_splits(mine: Path) -> None:
    real.table(mine / "train.csv", range(40))
    real.table(mine / "valid.csv", range(50, 60))
    real.table(mine / "test.csv", range(70, 76))
    loaded = texts(mine)
    assert (len(loaded.train), loaded.n_validation, len(loaded.test)) == (50, 10, 6)
    indices = Split(torch.arange(50), torch.tensor(loaded.train_labels))
    train, validation = imdb.divide_training(loaded, indices, real.own(mine))
    assert (len(train), validation.inputs.tolist()) == (40, [*range(40, 50)])


def test_other_tables_say_what_to_do(mine: Path, capsys: Captured) -> None:
    with pytest.raises(ValueError, match=r"a\.xlsx: tables are read as CSV or JSON lines"):
        texts(real.write(mine / "a.xlsx", b"PK"))
    rows = "".join(f"film {n},the film {n} was good\n" for n in range(60))
    texts(real.write(mine / "a.csv", "text,label\n" + rows))
    assert "60 labels for 60 texts: is 'label' their column" in capsys.readouterr().err


# --- Trees of texts ---------------------------------------------------------------------------------------------------


def test_what_is_left_out_of_a_tree_is_reported(mine: Path, capsys: Captured) -> None:
    real.text_tree(mine, range(30))
    real.write(mine / "pos" / "notes.md", "no text")
    real.write(mine / "pos" / "empty.txt", "  \n")
    real.write(mine / "pos" / "more" / "inner.txt", "a text")
    assert len(texts(mine).train) == 27
    error = capsys.readouterr().err
    assert "pos: 1 empty files are left out (empty.txt)" in error
    assert "pos: ignored 2 which are no .txt files: notes.md, more" in error


def test_classes_of_the_splits_must_match(mine: Path) -> None:
    real.text_tree(mine / "train", range(12))
    real.text_tree(mine / "test", range(20, 32))
    real.write(mine / "test" / "mixed" / "a.txt", "a text")
    with pytest.raises(ValueError, match=r"train has no folder 'mixed', but .*test has"):
        texts(mine)


# --- Masks ------------------------------------------------------------------------------------------------------------


def foreground(mine: Path, image: Image.Image, ending: str = ".png") -> np.ndarray:
    """What is read of a mask."""
    real.masked(mine, range(6))
    (mine / "masks" / "03.png").unlink()
    real.save(image, mine / "masks" / f"03{ending}")
    pair = next(pair for pair in pets.list_pairs(mine) if pair.image.stem == "03")
    return pets.read_pair(pair)[1] == pets.PET


EXPECTED = np.asarray(real.mask()) > 0


def alpha(mode: str, colour: str = "white") -> Image.Image:
    image = Image.new(mode[:-1], (WIDTH, HEIGHT), colour)
    image.putalpha(real.mask())
    return image


def palette(colours: list[int], swap: bool) -> Image.Image:
    """A mask with a palette of two colours; with `swap` the foreground is number 0."""
    numbers = np.logical_xor(EXPECTED, swap).astype(np.uint8)
    image = Image.fromarray(numbers, "L").convert("P")
    image.putpalette(colours)
    return image


@pytest.mark.parametrize(
    "image",
    [
        palette([0, 0, 0, 255, 255, 255], False),
        palette([255, 255, 255, 0, 0, 0], True),
        palette([0, 0, 0, 128, 0, 0], False),
        real.mask().convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE, colors=2),
        alpha("RGBA"),
        alpha("LA"),
        real.mask().convert("RGB"),
        real.mask().convert("RGBA"),
        Image.fromarray((EXPECTED * 65535).astype(np.uint16)),
        real.mask(value=1),
        Image.fromarray(np.where(EXPECTED[..., None], [255, 0, 0], 0).astype(np.uint8)),
    ],
    ids=["bw", "swapped", "voc", "adaptive", "rgba", "la", "rgb", "opaque", "16 bits", "one", "red"],
)
def test_masks_are_read_as_they_look(image: Image.Image, mine: Path) -> None:
    assert np.array_equal(foreground(mine, image), EXPECTED)


def test_adaptive_palettes_of_white_masks(mine: Path) -> None:
    for image in (real.mask(), real.mask((0, 0, WIDTH, HEIGHT)), real.mask((0, 0, 0, 0))):
        drawn = image.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
        assert np.array_equal(foreground(mine, drawn), np.asarray(image) > 0)
        shutil.rmtree(mine)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (
            Image.fromarray(np.array([[[0, 0, 0], [255, 0, 0], [0, 255, 0]]], np.uint8)).resize((WIDTH, HEIGHT), 0),
            "holds the colours #000000, #00ff00, #ff0000; a mask has black for the background",
        ),
        (
            Image.fromarray(np.array([[[255, 255, 255], [255, 0, 0]]], np.uint8)).resize((WIDTH, HEIGHT), 0),
            "holds the colours #ff0000, #ffffff;",
        ),
        (real.mask().resize((30, 20), 2).resize((WIDTH, HEIGHT), 2), "export it without antialiasing"),
        (real.mask(value=7), "holds the values 0, 7;"),
    ],
    ids=["three colours", "no black", "antialiased", "seven"],
)
def test_masks_that_are_not_clear_are_refused(image: Image.Image, words: str, mine: Path) -> None:
    with pytest.raises(ValueError, match=r"03\.png ") as error:
        foreground(mine, image)
    assert words in str(error.value)


def test_blurred_masks_name_their_cause(mine: Path) -> None:
    with pytest.raises(ValueError, match="JPEG blurs edges, save masks as PNG"):
        foreground(mine, real.mask((11, 9, 30, 28)), ".jpg")
    shutil.rmtree(mine)
    half = alpha("RGBA").resize((31, 23), Image.Resampling.BICUBIC).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    with pytest.raises(ValueError, match="is half transparent in places"):
        foreground(mine, half)


def test_masks_of_several_classes_are_refused(mine: Path) -> None:
    colours = ["red", "lime"]

    def drawn(number: int) -> Image.Image:
        image = Image.new("RGB", (WIDTH, HEIGHT))
        image.paste(colours[number % 2], BOX)
        return image

    with pytest.raises(ValueError, match=r"several colours, #ff0000 \(masks/00.png\), #00ff00 \(masks/01.png\)"):
        read("pets", real.masked(mine, range(8), drawn))


@pytest.mark.parametrize("layout", ["beside", "folders", "splits inside"])
def test_masks_with_a_suffix(layout: str, mine: Path) -> None:
    for number in range(12):
        image_folder = {"beside": "", "folders": "images", "splits inside": "images/train"}[layout]
        mask_folder = image_folder.replace("images", "masks")
        real.save(real.scene(number), mine / image_folder / f"{number}.jpg")
        real.save(real.mask(), mine / mask_folder / f"{number}_mask.png")
    data = read("pets", mine, mask_suffix="_mask")
    assert sum(sizes(data)) == 12
    if layout == "folders":
        assert sum(sizes(read("pets", mine))) == 12, "the suffix of all masks is found"


def test_masks_beside_their_images_name_the_flag(mine: Path) -> None:
    for number in range(12):
        real.save(real.scene(number), mine / f"{number}.jpg")
        real.save(real.mask(), mine / f"{number}_mask.png")
    with pytest.raises(ValueError, match="give --mask-suffix _mask"):
        read("pets", mine)


def test_images_without_masks_are_named_together(mine: Path) -> None:
    real.masked(mine, range(12))
    for number in (3, 5):
        (mine / "masks" / f"{number:02}.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"2 files cannot be read: images/03.png has no mask: .*images/05.png"):
        read("pets", mine)


def test_two_images_of_one_mask_are_refused(mine: Path) -> None:
    real.masked(mine, range(12))
    real.save(real.scene(50), mine / "images" / "03.jpg")
    with pytest.raises(ValueError, match=r"03\.jpg and 03\.png have the same name without ending"):
        read("pets", mine)


# --- VOC --------------------------------------------------------------------------------------------------------------

NAMES = [f"{number:02}" for number in range(12)]
SPACED = ["WhatsApp", *(f"WhatsApp Image {number}" for number in range(14))]


@pytest.mark.parametrize(
    ("xmls", "images", "ending"),
    [
        ("Annotations", "JPEGImages", ".JPG"),
        ("Annotations", "images", ".png"),
        ("annotations", "images", ".jpeg"),
        (".", ".", ".png"),
        ("Annotations", ".", ".png"),
    ],
)
def test_voc_layouts(xmls: str, images: str, ending: str, mine: Path) -> None:
    data = read("voc", real.voc_tree(mine, NAMES, xmls, images, ending))
    assert (data.info.classes, sum(sizes(data)), boxes(data)) == (["red"], 12, [list(BOX)])


@pytest.mark.parametrize("quote", ["", '"'])
def test_voc_lists_hold_whole_names(quote: str, mine: Path) -> None:
    real.voc_tree(mine, SPACED)
    real.lists(
        mine,
        **{s: [f"{quote}{n}{quote}" for n in names] for s, names in (("train", SPACED[:12]), ("val", SPACED[12:]))},
    )
    data = read("voc", mine)
    assert sizes(data) == [10, 2, 3]
    shown = {
        data.train.source.names[int(i)] for split in (data.train, data.validation, data.test) for i in split.inputs
    }  # type: ignore[attr-defined]
    assert len(shown) == 15, "not all entries are the first word's image"
    real.lists(mine, train=[*SPACED[:12], "WhatsApp Image 99"])
    with pytest.raises(FileNotFoundError, match=r"lists WhatsApp Image 99, but there is no"):
        read("voc", mine)


def test_voc_lists_that_name_an_image_twice(mine: Path, capsys: Captured) -> None:
    real.lists(real.voc_tree(mine, NAMES), train=[*NAMES[:9], "00"], val=["01", *NAMES[9:]])
    assert sum(sizes(read("voc", mine))) == 12
    assert "2 images are listed twice: the first list counts (00.png, 01.png)" in capsys.readouterr().err


def test_voc_says_what_is_not_used(mine: Path, capsys: Captured) -> None:
    real.voc_tree(mine, NAMES)
    real.images(mine / "JPEGImages", range(40, 44))
    assert sum(sizes(read("voc", mine))) == 12
    assert "4 images have no XML file and are left out (40.png, 41.png, 42.png, …)" in capsys.readouterr().err
    real.lists(mine, train=NAMES[:8], test=NAMES[8:10])
    assert sum(sizes(read("voc", mine))) == 10
    assert "2 XML files are in no list and are left out (10.xml, 11.xml)" in capsys.readouterr().err


def test_voc_folders_below_are_read(mine: Path) -> None:
    real.voc_tree(mine, [*NAMES, *(f"day2/{name}" for name in NAMES)])
    assert sum(sizes(read("voc", mine))) == 24
    real.lists(mine, default=[f"day2/{name}" for name in NAMES])
    assert sum(sizes(read("voc", mine))) == 12, "CVAT's list of a set without splits"


def test_voc_images_are_found_by_the_name_in_the_xml(mine: Path) -> None:
    real.voc_tree(mine, NAMES, ".", ".")
    for number, name in enumerate(NAMES):
        (mine / f"{name}.png").rename(mine / f"IMG_{name}.png")
        (mine / f"{name}.xml").write_text(real.xml(filename=f"C:\\photos\\IMG_{name}.png"))
        assert number < 12
    assert sum(sizes(read("voc", mine))) == 12


def test_two_xml_files_of_one_image_are_refused(mine: Path) -> None:
    real.voc_tree(mine, NAMES, ".", ".")
    real.write(mine / "03 (copy).xml", real.xml(filename="03.png"))
    with pytest.raises(ValueError, match=r"03 \(copy\)\.xml and 03\.xml are both of 03\.png"):
        read("voc", mine)


# --- COCO -------------------------------------------------------------------------------------------------------------


def cvat(folder: Path, inner: str = "images") -> None:
    real.images(folder / inner, range(20))
    real.write(folder / "annotations" / "instances_default.json", real.coco(range(20)))


def coco2017(folder: Path) -> None:
    for side, numbers in (("train", range(20)), ("val", range(20, 28))):
        real.images(folder / f"{side}2017", numbers)
        real.write(folder / "annotations" / f"instances_{side}2017.json", real.coco(numbers))
        for other in ("captions", "person_keypoints"):
            real.write(folder / "annotations" / f"{other}_{side}2017.json", "{}")


def roboflow(folder: Path) -> None:
    categories = [{"id": 0, "name": "red", "supercategory": "none"}, {"id": 1, "name": "red", "supercategory": "red"}]
    for side, numbers in (("train", range(20)), ("valid", range(20, 28)), ("test", range(28, 32))):
        real.images(folder / side, numbers)
        real.write(folder / side / "_annotations.coco.json", real.coco(numbers, categories=categories))


def label_studio(folder: Path) -> None:
    real.images(folder / "images", range(20))
    real.write(folder / "result.json", real.coco(range(20), "images\\{:02}.png"))


def same_names(folder: Path) -> None:
    """Both splits number their files from 0."""
    for side, shift in (("train", 0), ("val", 100)):
        for number in range(8):
            real.save(real.scene(number + shift), folder / side / f"{number:02}.png")
        real.write(folder / "annotations" / f"{side}.json", real.coco(range(8)))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (cvat, [15, 3, 2]),
        (lambda folder: cvat(folder, "images/default"), [15, 3, 2]),
        (coco2017, [17, 3, 8]),
        (roboflow, [20, 8, 4]),
        (label_studio, [15, 3, 2]),
        (same_names, [7, 1, 8]),
    ],
    ids=["cvat", "cvat inner", "coco2017", "roboflow", "label studio", "same names"],
)
def test_coco_layouts(make: Callable[[Path], None], expected: list[int], mine: Path) -> None:
    make(mine)
    data = read("voc", mine)
    assert (sizes(data), data.info.classes, boxes(data)) == (expected, ["red"], [list(BOX)])


def annotated(mine: Path, **changes: object) -> Path:
    real.images(mine / "images", range(20))
    real.write(mine / "annotations.json", real.coco(range(20), **changes))
    return mine


IMAGES = json.loads(real.coco(range(20)))["images"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": [*IMAGES[:19], IMAGES[19] | {"id": 3}]}, r"the images 03.png and 19.png share the id 3"),
        ({"images": [*IMAGES, {"id": 99, "file_name": "03.png"}]}, r"the ids 3 and 99 are both of 03.png"),
        (
            {"categories": [{"id": 1, "name": "red"}, {"id": 1, "name": "blue"}]},
            r"categories 'red' and 'blue' share the id 1",
        ),
        ({"categories": [{"id": 1, "name": "red"}, {"id": 2, "name": "red "}]}, r"two categories are called 'red'"),
    ],
)
def test_coco_ids_are_unique(changes: dict[str, object], words: str, mine: Path) -> None:
    with pytest.raises(ValueError, match=words):
        read("voc", annotated(mine, **changes))


def test_coco_boxes_without_area_and_polygons(mine: Path, capsys: Captured) -> None:
    left, top, right, bottom = BOX
    polygon = [left, top, right, top, right, bottom, left, bottom]
    more = [
        {"id": 918, "image_id": 7, "category_id": 1, "bbox": [29.65, 28.33, 1.03, 0.0]},
        {"id": 919, "image_id": 8, "category_id": 1, "bbox": [], "segmentation": [polygon]},
        {"id": 920, "image_id": 8, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9, 1, 9]]},
    ]
    data = read("voc", annotated(mine, annotations=json.loads(real.coco(range(20)))["annotations"] + more))
    assert boxes(data) == [[1, 1, 9, 9], list(BOX)]
    error = capsys.readouterr().err
    assert "1 of 23 annotations have a box without area and are left out (918 of 07.png)" in error
    assert "2 of 23 annotations have no box: the box around their polygons is taken" in error


def test_coco_says_which_images_are_not_used(mine: Path, capsys: Captured) -> None:
    annotated(mine)
    real.images(mine / "images", range(50, 53))
    assert sum(sizes(read("voc", mine))) == 20
    assert "3 images are in no annotation file and are left out (images/50.png" in capsys.readouterr().err
    for number in (2, 4):
        (mine / "images" / f"{number:02}.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"2 files cannot be read: .*02.png.*04.png"):
        read("voc", mine)


def test_several_json_files_are_not_guessed(mine: Path) -> None:
    annotated(mine)
    (mine / "annotations.json").rename(mine / "a.json")
    shutil.copyfile(mine / "a.json", mine / "b.json")
    with pytest.raises(ValueError, match=r"mine holds a.json, b.json: name the one to read"):
        read("voc", mine)
    assert sum(sizes(read("voc", mine / "a.json"))) == 20


# --- YOLO -------------------------------------------------------------------------------------------------------------

CONFIGS = {
    "list": "train: images/train\nval: images/val\nnc: 2\nnames: ['red', \"blue, dark\"]\n",
    "lines": "names:\n- red\n- blue, dark  # a comment\nnc: 2\n",
    "numbers": "path: .\nnames:\n  0: red\n  1: blue, dark\n",
    "braces": "names: {0: red, 1: 'blue, dark'}\n",
    "several lines": "names: ['red',\n  'blue, dark'\n]\nroboflow:\n  license: CC\n",
}


@pytest.mark.parametrize("config", CONFIGS)
def test_yolo_names(config: str, mine: Path) -> None:
    real.yolo(mine, range(12))
    real.write(mine / "data.yaml", CONFIGS[config])
    data = read("voc", mine)
    assert (data.info.classes, boxes(data), sum(sizes(data))) == (["red", "blue, dark"], [list(BOX)], 12)
    assert sum(sizes(read("voc", mine / "data.yaml"))) == 12


@pytest.mark.parametrize(
    ("image_folder", "label_folder"), [("images/{}", "labels/{}"), ("{}/images", "{}/labels")], ids=["inner", "outer"]
)
def test_yolo_splits(image_folder: str, label_folder: str, mine: Path) -> None:
    for side, numbers in (("train", range(12)), ("valid", range(20, 24)), ("test", range(30, 33))):
        real.yolo(mine, numbers, image_folder.format(side), label_folder.format(side))
    real.write(mine / "data.yaml", CONFIGS["lines"])
    assert sizes(read("voc", mine)) == [12, 4, 3]


def test_yolo_of_labelimg_and_label_studio(mine: Path) -> None:
    real.write(real.yolo(mine / "a", range(12), ".", ".") / "classes.txt", "red\nblue\n")
    assert read("voc", mine / "a").info.classes == ["red", "blue"]
    real.write(real.yolo(mine / "b", range(12)) / "classes.txt", "red\n")
    assert read("voc", mine / "b").info.classes == ["red"]


def test_yolo_says_what_it_assumes(mine: Path, capsys: Captured) -> None:
    real.yolo(mine, range(12))
    real.images(mine / "images", [40, 41])
    real.write(mine / "labels" / "99.txt", "0 0.5 0.5 0.1 0.1")
    real.write(mine / "labels" / "05.txt", "0 0.5 0.5 0.2 0.0\n3 0.1 0.1 0.5 0.1 0.5 0.6\n")
    data = read("voc", mine)
    assert (data.info.classes, sum(sizes(data))) == (["0", "1", "2", "3"], 14)
    assert [6, 4, 30, 24] in boxes(data), "the box around a polygon"
    error = capsys.readouterr().err
    assert "no data.yaml or classes.txt names the classes: they are called 0 to 3" in error
    assert "2 of 14 images have no label file and count as empty (images/40.png, images/41.png)" in error
    assert "1 text files ignored, which have no image (99.txt)" in error
    assert "1 boxes without area are left out (05.txt, line 1)" in error


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 12 30 40 50", r"05\.txt, line 2: boxes are fractions of the image, from 0 to 1; this holds 50"),
        ("7 0.5 0.5 0.1 0.1", r"05\.txt, line 2: class 7, but .*data.yaml names 2, from 0 to 1"),
        ("0 0.5 0.5 0.1", r"05\.txt, line 2: 4 numbers; a box has 5"),
        ("0 0.5 0.5 0.1 0.1 0.9", r"line 2: 6 numbers"),
        ("red 0.5 0.5 0.1 0.1", r"line 2: 'red 0.5 0.5 0.1 0.1' holds what is no number"),
        ("-1 0.5 0.5 0.1 0.1", r"line 2: the class -1 is no number from 0"),
    ],
)
def test_yolo_labels_are_refused_with_their_line(line: str, words: str, mine: Path) -> None:
    real.write(real.yolo(mine, range(12)) / "data.yaml", CONFIGS["list"])
    real.write(mine / "labels" / "05.txt", f"0 0.5 0.5 0.2 0.2\n{line}\n")
    with pytest.raises(ValueError, match=words):
        read("voc", mine)


# --- IDX --------------------------------------------------------------------------------------------------------------


def digits(count: int, seed: int, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return draw.integers(0, 256, (count, 28, 28), dtype=np.uint8), (np.arange(count) % 10 + first).astype(np.uint8)


def idx_files(first: int = 0) -> dict[str, np.ndarray]:
    idx_files = {}
    for part, count in (("train", 60), ("t10k", 20)):
        images, labels = digits(count, count, first)
        idx_files |= {f"{part}-images-idx3-ubyte": images, f"{part}-labels-idx1-ubyte": labels}
    return idx_files


NAMINGS: dict[str, Callable[[str], str]] = {
    "own folders": lambda name: f"{name}/{name}",
    "dots": lambda name: name.replace("-idx", ".idx"),
    "not gz": lambda name: f"{name}.gz",
    "emnist": lambda name: f"emnist-letters-{name.replace('t10k', 'test')}",
    "upper": str.upper,
    "torchvision": lambda name: f"MNIST/raw/{name}",
}


@pytest.mark.parametrize("naming", NAMINGS)
def test_idx_files_of_any_name(naming: str, mine: Path) -> None:
    for name, values in idx_files().items():
        path = mine / NAMINGS[naming](name)
        path.parent.mkdir(parents=True, exist_ok=True)
        idx.write_idx(path, values)
    data = read("mnist", mine)
    assert (sizes(data), data.info.classes) == ([55, 5, 20], [str(number) for number in range(10)])
    assert torch.equal(data.test.inputs[:, 0], torch.from_numpy(digits(20, 20)[0]))


def test_idx_files_twice_as_on_kaggle(mine: Path) -> None:
    mine.mkdir()
    for name, values in idx_files().items():
        (mine / name).mkdir()
        idx.write_idx(mine / name / name, values)
        idx.write_idx(mine / name.replace("-idx", ".idx"), values)
    assert sizes(read("mnist", mine)) == [55, 5, 20]
    idx.write_idx(mine / "t10k-labels.idx1-ubyte", np.zeros(20, np.uint8))
    with pytest.raises(ValueError, match="several different t10k labels files"):
        read("mnist", mine)


def test_idx_of_whole_numbers(mine: Path) -> None:
    for name, values in idx_files().items():
        header = bytes((0, 0, 0x0C, values.ndim)) + np.asarray(values.shape, ">u4").tobytes()
        content = header + values.astype(">i4").tobytes()
        real.write(mine / name, content if "images" in name else gzip.compress(content))
    assert sizes(read("mnist", mine)) == [55, 5, 20]
    real.write(mine / "t10k-labels-idx1-ubyte", bytes((0, 0, 0x0C, 1, 0, 0, 0, 1)) + np.int32(300).byteswap().tobytes())
    with pytest.raises(ValueError, match="values from 300 to 300; only those from 0 to 255"):
        read("mnist", mine)


def test_emnist_is_turned_upright_and_has_no_dead_class(mine: Path, capsys: Captured) -> None:
    mine.mkdir()
    for name, values in idx_files(first=1).items():
        idx.write_idx(mine / f"emnist-letters-{name.replace('t10k', 'test')}", values)
    data = read("mnist", mine, transposed=True)
    assert data.info.classes == [str(number) for number in range(1, 11)]
    assert torch.equal(data.test.inputs[:, 0], torch.from_numpy(digits(20, 20)[0]).transpose(1, 2))
    assert sorted(set(data.train.targets.tolist())) == list(range(10))
    assert "the label 0 is not used: there are 10 classes, 1 to 10" in capsys.readouterr().err
    read("mnist", mine)
    assert "EMNIST's images are stored column by column; --transposed turns them upright" in capsys.readouterr().err


def test_several_sets_of_idx_files(mine: Path) -> None:
    mine.mkdir()
    for name, values in idx_files().items():
        for kind in ("letters", "digits"):
            idx.write_idx(mine / f"emnist-{kind}-{name}", values)
    with pytest.raises(ValueError, match=r"several sets \(emnist-digits, emnist-letters\)"):
        read("mnist", mine)


# --- Images -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("top", "bits"), [(4000, 12), (250, 8)])
def test_values_of_fewer_bits_in_16_are_bright(top: int, bits: int, mine: Path, capsys: Captured) -> None:
    real.classed(mine, range(12))
    values = np.zeros((32, 32), np.uint16)
    values[:, 16:] = top
    real.save(Image.fromarray(values), mine / "red" / "deep.png")
    data = read("cifar10", mine)
    matches = [i for s in (data.train, data.validation, data.test) for i in s.inputs if int(i[:, :, :16].max()) == 0]
    assert len(matches) == 1
    assert int(matches[0][:, :, 16:].min()) > 240
    assert (
        f"1 image of 16 bits with no value above {4095 if bits == 12 else 255} taken as {bits} bits (red/deep.png)"
        in (capsys.readouterr().err)
    )


def test_only_the_first_frame_is_read_and_that_is_reported(mine: Path, capsys: Captured) -> None:
    real.classed(mine, range(12))
    frames = [real.scene(500), real.scene(501)]
    frames[0].save(mine / "red" / "moving.webp", save_all=True, append_images=frames[1:])
    read("cifar10", mine)
    assert "of 1 image with several frames the first is read (red/moving.webp)" in capsys.readouterr().err


def test_avif_images_in_the_folder_of_a_class_are_read(mine: Path) -> None:
    real.classed(mine, range(12))
    before = read("cifar10", mine).sizes
    for index in range(20):
        real.scene(600 + index).save(mine / "red" / f"phone{index}.avif")
    after = read("cifar10", mine).sizes
    assert sum(after.values()) == sum(before.values()) + 20


def test_one_image_in_two_classes_is_reported(mine: Path, capsys: Captured) -> None:
    real.classed(mine, range(12))
    shutil.copyfile(mine / "red" / "03.png", mine / "blue" / "copy.png")
    read("cifar10", mine)
    assert "1 image has the content of one of another class (blue/copy.png in blue and red/03.png in red)" in (
        capsys.readouterr().err
    )


def test_files_that_are_no_images_are_named(mine: Path, capsys: Captured) -> None:
    real.classed(mine, range(12))
    real.write(mine / "red" / "notes.txt", "x")
    (mine / "red" / "more").mkdir()
    read("cifar10", mine)
    error = capsys.readouterr().err
    assert "ignored 2 in the folders of the classes (red/more, red/notes.txt): not .jpg" in error
    assert "HEIC" not in error
    real.write(mine / "red" / "IMG_1.HEIC", "x")
    read("cifar10", mine)
    assert "convert HEIC to JPEG" in capsys.readouterr().err


# --- More of what tools write -----------------------------------------------------------------------------------------


def test_masks_in_vocs_layout(mine: Path, decathlon: Command, capsys: Captured) -> None:
    """As CVAT exports them: three folders, which are no classes of images."""
    real.masked(mine, range(12))
    for before, after in (("images", "JPEGImages"), ("masks", "SegmentationClass")):
        (mine / before).rename(mine / after)
    shutil.copytree(mine / "SegmentationClass", mine / "SegmentationObject")
    assert sum(sizes(read("pets", mine))) == 12
    assert json.loads(decathlon("inspect", mine, "--json").out)["dataset"] == "pets"
    assert (
        "folders of data with boxes or masks, not of classes"
        in decathlon("train", "cifar10-skip", "--data", mine).error
    )


def test_masks_beside_their_images_are_recognised(mine: Path, decathlon: Command) -> None:
    real.masked(mine, range(6))
    for mask in (mine / "masks").iterdir():
        mask.rename(mine / f"{mask.stem}_mask.png")
    for image in (mine / "images").iterdir():
        image.rename(mine / image.name)
    (mine / "images").rmdir()
    (mine / "masks").rmdir()
    assert "give --mask-suffix _mask" in decathlon("inspect", mine).error


def test_heic_under_another_name(tmp_path: Path) -> None:
    (tmp_path / "IMG_1.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    with pytest.raises(ValueError, match="it is HEIC, as phones write it; convert it to JPEG"):
        images.open_image(str(tmp_path / "IMG_1.jpg"))


def test_sixteen_bits_with_a_transparent_colour() -> None:
    """Pillow's conversion to RGBA would clip all values above 255 to white."""
    ramp = np.tile(np.linspace(0, 65535, 40).astype(np.uint16), (40, 1))
    image = Image.fromarray(ramp)
    image.info["transparency"] = 0
    pixels = np.asarray(images.to_rgb(image))[0, :, 0]
    assert pixels[0] == 0
    assert pixels[20] == pytest.approx(131, abs=3)


def test_excels_first_line(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("sep=;\ntext;label\ngood;pos\nbad;neg\n")
    rows = text_tables.read_table(table, ("text", "label"))
    assert [(row.line, row.values) for row in rows] == [(3, ("good", "pos")), (4, ("bad", "neg"))]
