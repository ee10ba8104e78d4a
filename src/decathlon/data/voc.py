"""PASCAL VOC: photos with boxes around things of twenty classes (Everingham et al. 2010, IJCV 88).

Read from the official layout, `VOCdevkit/VOC2007/{Annotations,JPEGImages,ImageSets/Main}`, or VOC2012's. A user's own
data: such a tree with any classes, or COCO's JSON with a folder of pictures. Pictures are decoded once into the data
folder's `cache`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from decathlon import writing
from decathlon.data import Data, Source, Split, divided, drawn_scenes, files, pictures
from decathlon.data.annotations import ENDINGS, Annotation, listed, pair, read_coco, read_xml
from decathlon.data.download import fetch, md5
from decathlon.data.pictures import Pictures

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
# The copies that results name without their number of pictures: trainval and test, of 2012 train and val.
COUNTS = {"voc2007": (5011, 4952), "voc2012": (5717, 5823)}
URL = "http://host.robots.ox.ac.uk/pascal/VOC/voc2007/"
ARCHIVES = {  # and their MD5, as torchvision gives them
    "VOCtrainval_06-Nov-2007.tar": "c52e279531787c972589f7e41ab4ae64",
    "VOCtest_06-Nov-2007.tar": "b6e924de25625d8de591ea690078ad9f",
}
SIDES = {"VOC2007": ("trainval", "test"), "VOC2012": ("train", "val")}  # the test boxes of 2012 are not public
UNPACKED = (1 << 32, 200_000)  # bytes and files that an archive may have: many times what they have
SMALL = 1000  # pictures: of fewer, a sixth is held out for validation, else a twelfth

Listing = tuple[dict[str, list[Annotation]], Sequence[str]]  # the annotations of each side, and the classes


@dataclass(frozen=True)
class Scenes(Split):
    """Pictures with boxes: `inputs` are numbers of pictures (N,) and `targets` their rows among the boxes (N, 2)."""

    source: Pictures

    def to(self, device: torch.device | str) -> Scenes:
        """Themselves: pictures are read on the CPU, also by a DataLoader's workers, where a GPU cannot be used."""
        return self

    def example(self, place: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Picture uint8 (3, H, W), and its boxes.

        Returns:
            The picture; `boxes` float (M, 4) in its pixels, `labels` int64 (M,) from 1, `difficult` bool (M,), and
            `scale` (4,), by which its file is larger.
        """
        number, (start, end) = int(self.inputs[place]), self.targets[place].tolist()
        kept = self.source
        (high, wide), (full_high, full_wide) = kept.sizes[number].tolist(), kept.originals[number].tolist()
        scale = torch.tensor([full_wide / wide, full_high / high] * 2)
        target = {
            "boxes": torch.from_numpy(kept.boxes[start:end]) / scale,
            "labels": torch.from_numpy(kept.labels[start:end]),
            "difficult": torch.from_numpy(kept.difficult[start:end]),
            "scale": scale,
        }
        return kept.picture(number), target

    def shapes(self) -> Tensor:
        """Height and width of each picture: int64 (N, 2)."""
        return torch.from_numpy(self.source.sizes)[self.inputs]


def load(source: Source, longest: int = 500) -> Data:
    """Read PASCAL VOC, the drawn sample, or the user's own pictures with boxes.

    Args:
        source: Where from.
        longest: Pixels of a longer side; larger pictures are made smaller once.

    Returns:
        Splits of `Scenes`; `meta` holds `classes`, without the background, and whether this is the `sample`.

    Raises:
        FileNotFoundError: Nothing is there and nothing may be downloaded; or a listed file is absent.
        ConnectionError: It could not be downloaded.
        ValueError: An annotation, list or picture is not as it must be: names it.
    """
    if source.kind == "own":
        assert source.path is not None
        name, place = f"own:{source.path.resolve().name}", tree(source.path) or source.path
    elif source.kind == "sample":
        name, place = "voc-sample", drawn_scenes.scenes(source.folder / "sample" / f"voc-{drawn_scenes.VERSION}")
        place = place / "VOCdevkit" / "VOC2007"
    else:
        name, place = "", official(source)
    classes = CLASSES if source.kind == "official" else ()
    listing: Callable[[], Listing]
    if (place / "Annotations").is_dir():
        sides = lists(place, SIDES.get(place.name, ()) if source.kind == "official" else ())
        read_from = [file for side in sides.values() for both in side for file in both]
        counts = {side: len(pairs) for side, pairs in sides.items()}  # names alone do not tell where a side ends
        listing = partial(read_voc, sides, classes)
    else:
        found, counts = coco_files(place), {}
        read_from = sorted(path for path in _folder(place).rglob("*") if path.suffix.lower() in (*ENDINGS, ".json"))
        listing = partial(read_coco_sides, place, found)
    key = pictures.hashed(read_from, place.resolve(), classes, counts)
    path = source.folder / "cache" / f"voc-{pictures.VERSION}-{key}-{longest}"
    kept = pictures.cached(path, lambda out: pictures.decode(*listing(), longest, out, str(place)))
    if source.kind == "official":
        name = copy_name(kept.counts.tolist())
    train, validation, test = splits(kept, place)
    return Data(name, train, validation, test, {"classes": kept.classes.tolist(), "sample": source.kind == "sample"})


def copy_name(counts: list[int]) -> str:
    """How results name this copy: as the release where it has as many pictures, else with their number."""
    return next((name for name, official in COUNTS.items() if list(official) == counts), f"voc-{sum(counts)}")


def splits(kept: Pictures, place: Path) -> tuple[Scenes, Scenes, Scenes]:
    """Training, validation and test, as `divided` says."""
    rows = torch.from_numpy(kept.rows)
    whole = Scenes(torch.arange(len(kept.sizes)), torch.stack([rows[:-1], rows[1:]], 1), kept)
    parts, start = {}, 0
    for side, count in zip(kept.sides.tolist(), kept.counts.tolist(), strict=True):
        parts[side] = whole[start : start + count]
        start += count
    return divided(parts, place, SMALL)


# --- The tree ---------------------------------------------------------------------------------------------------------


def official(source: Source) -> Path:
    """The tree in the data folder, VOC2007 downloaded where there is none.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: As `load`.
    """
    for year, sides in SIDES.items():
        place = source.folder / "VOCdevkit" / year
        if place.is_dir():
            for side in sides:
                if not (place / "ImageSets" / "Main" / f"{side}.txt").is_file():
                    raise FileNotFoundError(
                        f"{place} has no ImageSets/Main/{side}.txt: unpack the other archive of {year} there, too, or "
                        "delete the folder and run again"
                    )
            return place
    if not source.download:
        raise FileNotFoundError(f"PASCAL VOC is not in {source.folder}: it has no VOCdevkit/VOC2007")
    paths = {source.folder / name: checksum for name, checksum in ARCHIVES.items()}
    for path, checksum in paths.items():
        if path.exists() and md5(path) != checksum:
            raise ValueError(f"{path} is damaged or cut short: its checksum is wrong; delete it and run again")
    try:
        archives = [path if path.exists() else fetch([URL + path.name], path, paths[path]) for path in paths]
    except ConnectionError as error:
        raise ConnectionError(
            f"{error}; both archives of VOC2007 are needed there, or unpacked as {source.folder}/VOCdevkit/VOC2007; "
            "or use --data sample, which needs no network"
        ) from None
    return unpacked(archives, source.folder / "VOCdevkit" / "VOC2007")


def unpacked(archives: list[Path], place: Path) -> Path:
    """Unpack what is needed of the archives beside `place`, and move it there.

    Raises:
        ValueError: An archive is damaged, or leads outside its folder.
    """

    def wanted(name: str) -> str:
        inner = name.partition(f"{place.name}/")[2]
        return inner if inner.startswith(("Annotations/", "JPEGImages/", "ImageSets/Main/")) else ""

    with writing.told(place), writing.scratch(place) as part:
        for archive in archives:
            files.unpack(archive, part, wanted, *UNPACKED)
        if not part.is_dir():
            raise ValueError(f"{archives[0]} holds no {place.name}: delete it and run again")
        writing.settle(part, place)
    return place


def tree(path: Path) -> Path | None:
    """The folder of VOC's layout that is `path` or lies in it; None where there is none."""
    places = (path, *sorted(path.glob("VOC[0-9]*")), *sorted(path.glob("VOCdevkit/*")))
    return next((place for place in places if (place / "Annotations").is_dir()), None)


def lists(place: Path, names: tuple[str, ...]) -> dict[str, list[tuple[Path, Path]]]:
    """Picture and XML file of every name on each side, which are called train, val and test.

    Args:
        place: The tree.
        names: The lists of the official training and test sides; none where the tree is a user's own. That may have
            train.txt and val.txt, or else trainval.txt, and test.txt; or no list: what is in none is for training.
    """
    if names:
        found = {"train": listed(place, names[0]), "test": listed(place, names[1])}
    else:
        found = {side: listed(place, side) for side in ("train", "val", "test")}
        if not (found["train"] and found["val"]) and (whole := listed(place, "trainval")):
            found |= {"train": whole, "val": None}
        if not found["train"]:
            taken = {xml for pairs in found.values() for _, xml in pairs or ()}
            xmls = sorted(path for path in (place / "Annotations").glob("*.xml") if path not in taken)
            found["train"] = [pair(place, path.stem, str(path.parent)) for path in xmls]
    sides = {side: pairs for side, pairs in found.items() if pairs}
    if "train" not in sides:
        raise ValueError(f"{place / 'Annotations'} holds no XML file to train on")
    return sides


def read_voc(sides: dict[str, list[tuple[Path, Path]]], classes: tuple[str, ...]) -> Listing:
    """All annotations, side by side, and the classes: those found in training where none are given."""
    found = {side: [read_xml(*both) for both in pairs] for side, pairs in sides.items()}
    names = classes or sorted({name for one in found["train"] for name in one.names})
    place = sides["train"][0][1].parent
    if not names:
        raise ValueError(f"{place}: none of the pictures to train on has a box")
    return found, classes or files.class_names(names, place)


# --- COCO -------------------------------------------------------------------------------------------------------------


def coco_files(place: Path) -> dict[str, Path]:
    """The JSON file of each side: `place` itself, or {train,val,test}.json or annotations.json in it.

    Raises:
        ValueError: There is none.
    """
    if place.is_file() and place.suffix.lower() == ".json":
        return {"train": place}
    for folder in (place, place / "annotations"):
        found = {side: folder / f"{side}.json" for side in ("train", "val", "test")}
        found = {side: path for side, path in found.items() if path.is_file()}
        if "train" in found:
            return found
        if (folder / "annotations.json").is_file():
            return {"train": folder / "annotations.json"}
    raise ValueError(
        f"{place} is neither a tree of VOC's (Annotations and JPEGImages), nor COCO's JSON (train.json or "
        "annotations.json, with pictures beside it or in images)"
    )


def read_coco_sides(place: Path, files: dict[str, Path]) -> Listing:
    """All annotations, side by side, and the classes: the categories of the training file."""
    folder, found, names = _folder(place), {}, list[str]()
    for side, path in files.items():
        places = list(dict.fromkeys((path.parent, folder, folder / "images", folder / "images" / side, folder / side)))
        found[side], classes = read_coco(path, places)
        names = names or classes
    return found, names


def _folder(place: Path) -> Path:
    return place if place.is_dir() else place.parent
