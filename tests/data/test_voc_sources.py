"""Where images with boxes come from besides trees of VOC's layout: COCO's JSON, and the official release."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image
from voc_trees import HEIGHT, PLACE, WIDTH, bright, mark, object_xml, own, patch, tree, whole, xml

from decathlon.data import voc
from decathlon.data.base import Data, DataInfo, Source
from decathlon.data.io import download

# --- COCO -------------------------------------------------------------------------------------------------------------


def coco(place: Path, count: int = 10, shift: int = 0, **changes: object) -> Path:
    """A folder with annotations.json and images/."""
    (place / "images").mkdir(parents=True)
    images = [{"id": n, "file_name": f"{n}.png", "width": WIDTH, "height": HEIGHT} for n in range(count)]
    box = [PLACE[0], PLACE[1], PLACE[2] - PLACE[0], PLACE[3] - PLACE[1]]
    annotations = [{"id": n, "image_id": n, "bbox": box, "category_id": 7, "iscrowd": n % 2} for n in range(count - 1)]
    categories = [{"id": 9, "name": "dog"}, {"id": 7, "name": "cat"}]
    for number, image in enumerate(images):
        mark(patch(), number + shift).save(place / "images" / str(image["file_name"]))
    root = {"images": images, "annotations": annotations, "categories": categories} | changes
    (place / "annotations.json").write_text(json.dumps(root))
    return place


@pytest.mark.parametrize("named", ["folder", "file"])
def test_coco(named: str, tmp_path: Path) -> None:
    place = coco(tmp_path / "mine")
    data = own(place if named == "folder" else place / "annotations.json")
    assert data.info.classes == ["cat", "dog"], "in the order of their ids"
    examples = whole(data)
    assert len(examples) == 10
    for number in range(9):
        picture, target = examples[number]
        assert target["boxes"].tolist() == [bright(picture)]
        assert target["labels"].tolist() == [1]
        assert target["difficult"].tolist() == [number % 2 == 1]
    assert examples[9][1]["boxes"].shape == (0, 4)


def test_coco_sides(tmp_path: Path) -> None:
    place = tmp_path / "mine"
    for number, side in enumerate(("train", "val", "test")):
        made = coco(tmp_path / side, shift=10 * number)
        (made / "images").rename(made / side)
        (place / "images").mkdir(parents=True, exist_ok=True)
        (made / side).rename(place / "images" / side)
        (made / "annotations.json").rename(place / f"{side}.json")
    data = own(place)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [10, 10, 10]


BOX = {"id": 1, "image_id": 0, "category_id": 7, "bbox": [1, 2, 3, 4]}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"annotations": [BOX | {"bbox": [1, 2, -3, 4]}]}, "annotation 1 has a reversed or empty bbox"),
        ({"annotations": [BOX | {"bbox": [1, 2, 3]}]}, "annotation 1 lacks"),
        ({"annotations": [BOX | {"bbox": [1, 2, 3, float("nan")]}]}, "reversed or empty"),
        ({"annotations": [{"id": 5}]}, "annotation 5 lacks"),
        ({"annotations": ["box"]}, "annotation 0 lacks"),
        ({"annotations": [BOX | {"category_id": 3}]}, "category 3"),
        ({"annotations": [BOX | {"image_id": 99}]}, "image 99"),
        ({"images": [{"id": 0, "file_name": "../../etc/passwd"}]}, "leads outside"),
        ({"images": [{"id": 0, "file_name": "absent.png"}]}, "absent.png, which is in none of"),
        ({"images": []}, "lists no images"),
        ({"categories": {}}, "no categories"),
        ({"images": 3}, "is not in COCO's format"),
    ],
)
def test_wrong_coco(changes: dict[str, object], complaint: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=complaint.replace("[", r"\[")):
        own(coco(tmp_path / "mine", **changes))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"images": []}', "\udcff"])
def test_no_coco_at_all(text: str, tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(ValueError, match=r"boxes\.json is not in COCO's format"):
        own(path)


# --- The official release ---------------------------------------------------------------------------------------------


def release(place: Path, sides: dict[str, str], name: str = "cat") -> Path:
    made = tree(place, {one: xml(object_xml(name)) for names in sides.values() for one in names})
    (made / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    for side, names in sides.items():
        (made / "ImageSets" / "Main" / f"{side}.txt").write_text("".join(f"{one}\n" for one in names))
    return made


def official(folder: Path, allowed: bool = False) -> Data:
    return voc.load(Source("official", None, folder, allowed))


def test_official_tree(tmp_path: Path) -> None:
    release(tmp_path / "VOCdevkit" / "VOC2007", {"trainval": "abcdefghijkl", "test": "xyz"})
    data = official(tmp_path)
    assert data.name == "voc-15"
    assert data.info == DataInfo(list(voc.CLASSES))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [10, 2, 3]
    assert data.train.example(0)[1]["labels"].tolist() == [1 + voc.CLASSES.index("cat")]  # type: ignore[attr-defined]
    assert voc.name_copy([5011, 4952]) == "voc2007"


def test_official_classes_are_the_twenty(tmp_path: Path) -> None:
    release(tmp_path / "VOCdevkit" / "VOC2007", {"trainval": "abcdef", "test": "xyz"}, "airplane")
    with pytest.raises(ValueError, match="unknown class 'airplane'"):
        official(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="it has no VOCdevkit/VOC2007"):
        official(tmp_path)


def test_half_a_release(tmp_path: Path) -> None:
    release(tmp_path / "VOCdevkit" / "VOC2007", {"trainval": "abcdef"})
    with pytest.raises(FileNotFoundError, match=r"has no ImageSets/Main/test\.txt"):
        official(tmp_path)


def archive(path: Path, made: Path, names: list[str]) -> None:
    with tarfile.open(path, "w") as tar:
        for name in names:
            tar.add(made / name, f"VOCdevkit/VOC2007/{name}")


def trust(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the archives in the folder for the official ones."""
    for name in list(voc.ARCHIVES):
        monkeypatch.setitem(voc.ARCHIVES, name, download.md5(folder / name))


def test_archives_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, data = release(tmp_path / "made", {"trainval": "abcdef", "test": "xy"}), tmp_path / "data"
    data.mkdir()
    for name, side, pictures_ in zip(voc.ARCHIVES, ("trainval", "test"), ("abcdef", "xy"), strict=True):
        files = [f"Annotations/{one}.xml" for one in pictures_] + [f"JPEGImages/{one}.png" for one in pictures_]
        archive(data / name, made, [*files, f"ImageSets/Main/{side}.txt"])
    with pytest.raises(ValueError, match=r"\.tar is damaged or cut short: its checksum is wrong; delete it"):
        official(data, allowed=True)
    trust(data, monkeypatch)
    read = official(data, allowed=True)
    assert read.name == "voc-8"
    assert list(data.rglob("*.part")) == []


def test_archive_that_leads_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in voc.ARCHIVES:
        with tarfile.open(tmp_path / name, "w") as tar:
            info = tarfile.TarInfo("VOCdevkit/VOC2007/../../../evil")
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
    trust(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match="leads outside"):
        official(tmp_path, allowed=True)
    assert not (tmp_path.parent / "evil").exists()


def test_offline_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voc, "URL", "http://127.0.0.1:9/")
    monkeypatch.setattr(download, "TRIES", 1)
    with pytest.raises(ConnectionError, match=r"both archives of VOC2007 are needed there.*--data sample"):
        official(tmp_path, allowed=True)


# --- As tools write them ----------------------------------------------------------------------------------------------


def warned(capsys: pytest.CaptureFixture[str], words: str) -> bool:
    return words in " ".join(capsys.readouterr().err.split())


def test_crowds_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """CVAT marks every box of a mask as a crowd: none would be trained on."""
    own(coco(tmp_path / "half"))
    assert warned(capsys, "4 of 9 boxes are marked difficult, or as crowds (iscrowd)")
    box = {"bbox": [1, 2, 3, 4], "category_id": 7, "iscrowd": 1}
    annotations = [box | {"id": n, "image_id": n} for n in range(10)]
    with pytest.raises(ValueError, match="all 10 boxes to train on are marked difficult"):
        own(coco(tmp_path / "all", annotations=annotations))


@pytest.mark.parametrize(
    "written",
    [
        "images/Ñ%20{}.png",
        "/data/local-files/?d=images/Ñ {}.png",
        "/data/local-files/?d=images/%C3%91%20{}.png",
        "Ñ {}.png",
    ],
)
def test_names_as_label_studio_and_macos_write_them(written: str, tmp_path: Path) -> None:
    place = coco(tmp_path / "mine")
    root = json.loads((place / "annotations.json").read_text())
    for image in root["images"]:
        (place / "images" / image["file_name"]).rename(place / "images" / f"N\u0303 {image['id']}.png")  # taken apart
        image["file_name"] = written.format(image["id"])
    (place / "annotations.json").write_text(json.dumps(root))
    assert len(whole(own(place))) == 10


def yolo(place: Path, images: str, labels: str, count: int = 12) -> Path:
    for folder in (images, labels):
        (place / folder).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        mark(patch(), number).save(place / images / f"{number}.png")
        (place / labels / f"{number}.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    return place


def test_yolo_lists_divide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ultralytics' data.yaml may name lists: a random division could put neighbours of a video into the test split."""
    place = yolo(tmp_path / "mine", "images", "labels")
    (place / "data.yaml").write_text("train: train.txt\nval: val.txt\ntest: test.txt\nnames: [cat]\n")
    for name, numbers in (("train", range(6)), ("val", range(6, 8)), ("test", range(8, 11))):
        (place / f"{name}.txt").write_text("".join(f"./images/{number}.png\n" for number in numbers))
    data = own(place)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [6, 2, 3]
    assert warned(capsys, "1 images are in no list and are left out (11.png)")
    (place / "val.txt").write_text("./images/absent.png\n")
    with pytest.raises(FileNotFoundError, match=r"lists images/absent\.png, but there is no such image"):
        own(place)


def test_yolo_of_darknet(tmp_path: Path) -> None:
    place = yolo(tmp_path / "mine", "obj_train_data", "obj_train_data")
    (place / "obj.names").write_text("cat\n")
    data = own(place)
    assert data.info.classes == ["cat"]
    assert sum(map(len, (data.train, data.validation, data.test))) == 12


def test_cvats_own_format_is_named(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    patch().save(tmp_path / "images" / "1.png")
    (tmp_path / "annotations.xml").write_text("<annotations><image id='0' name='1.png'/></annotations>")
    with pytest.raises(ValueError, match="is CVAT's own format, which is not read: export boxes as COCO"):
        own(tmp_path)


def test_turned_images_whose_size_does_not_tell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = yolo(tmp_path / "mine", "images", "labels")
    (place / "data.yaml").write_text("names: [cat]\n")
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(12):
        (place / "images" / f"{number}.png").unlink()
        mark(patch(), number).save(place / "images" / f"{number}.jpg", exif=exif)
    own(place)
    assert warned(capsys, "12 images are stored turned (EXIF), and their annotations do not tell")
