"""PASCAL VOC: images with boxes around objects of twenty classes (Everingham et al. 2010, IJCV 88).

Read from the official layout, `VOCdevkit/VOC2007/{Annotations,JPEGImages,ImageSets/Main}`, or VOC2012's. A user's own
data, `io/own_boxes.py`: such a tree with any classes, COCO's JSON, or YOLO's layout. Images are decoded once into the
data folder's `cache`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from decathlon.data.base import Data, DataInfo, Source, Split
from decathlon.data.divide import Contents, split_three_ways
from decathlon.data.io import atomic, decoded_images, own_boxes
from decathlon.data.io.archives import unpack
from decathlon.data.io.decoded_images import DecodedImages
from decathlon.data.io.download import fetch, require_checksum
from decathlon.data.io.own_boxes import find_boxes, list_voc
from decathlon.data.io.voc_coco import Annotation, read_image_set, read_xml
from decathlon.data.synthetic import scenes
from decathlon.messages import some, warn

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
# The copies that results name without their number of images: trainval and test, of 2012 train and val.
COUNTS = {"voc2007": (5011, 4952), "voc2012": (5717, 5823)}
URL = "http://host.robots.ox.ac.uk/pascal/VOC/voc2007/"
ARCHIVES = {  # and their MD5, as torchvision gives them
    "VOCtrainval_06-Nov-2007.tar": "c52e279531787c972589f7e41ab4ae64",
    "VOCtest_06-Nov-2007.tar": "b6e924de25625d8de591ea690078ad9f",
}
SPLITS = {"VOC2007": ("trainval", "test"), "VOC2012": ("train", "val")}  # the test boxes of 2012 are not public
MAX_UNPACKED = (1 << 32, 200_000)  # bytes and files that an archive may have: many times what they have
SMALL_DATA = 1000  # images: of fewer, a sixth is held out for validation, else a twelfth

Listing = tuple[dict[str, list[Annotation]], Sequence[str]]  # the annotations of each split, and the classes
OWN_VERSION = "own-4"  # of what the cache holds of a user's own: raise it when reading changes


@dataclass(frozen=True)
class DetectionSplit(Split):
    """Images with boxes: `inputs` are indices of images (N,), `targets` the range of their boxes (N, 2)."""

    source: DecodedImages

    def to(self, device: torch.device | str) -> DetectionSplit:
        """Themselves: images are read on the CPU, also by a DataLoader's workers, where a GPU cannot be used."""
        return self

    def example(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Image uint8 (3, H, W), and its boxes.

        Returns:
            The image; `boxes` float (M, 4) in its pixels, `labels` int64 (M,) from 1, `difficult` bool (M,), and
            `scale` (4,), by which its file is larger.
        """
        number, (start, end) = int(self.inputs[index]), self.targets[index].tolist()
        decoded = self.source
        (height, width), (full_height, full_width) = decoded.sizes[number].tolist(), decoded.originals[number].tolist()
        scale = torch.tensor([full_width / width, full_height / height] * 2)
        target = {
            "boxes": torch.from_numpy(decoded.boxes[start:end]) / scale,
            "labels": torch.from_numpy(decoded.labels[start:end]),
            "difficult": torch.from_numpy(decoded.difficult[start:end]),
            "scale": scale,
        }
        return decoded.image(number), target

    def shapes(self) -> Tensor:
        """Height and width of each image: int64 (N, 2)."""
        return torch.from_numpy(self.source.sizes)[self.inputs]


def load(source: Source, longest: int = 500) -> Data:
    """Read PASCAL VOC, the drawn sample, or the user's own images with boxes.

    Args:
        source: Where from.
        longest: Pixels of a longer side; larger images are made smaller once.

    Returns:
        Splits of `DetectionSplit`; `info` holds `classes`, without the background, and whether this is the `sample`.

    Raises:
        FileNotFoundError: Nothing is there and nothing may be downloaded; or a listed file is absent.
        ConnectionError: It could not be downloaded.
        ValueError: An annotation, list or image is not as it must be: names it.
    """
    own = source.kind == "own"
    listing: Callable[[], Listing]
    if own:
        assert source.path is not None
        top = find_tree(source.path)
        boxes = find_boxes(top)
        key = decoded_images.hash_files(boxes.files, top.resolve(), OWN_VERSION, boxes.counts)
        name, listing = f"own:{source.path.resolve().name}", boxes.read
    else:
        name = "voc-sample" if source.kind == "sample" else ""
        top = find_official(source) if source.kind == "official" else _write_sample(source)
        classes = CLASSES if source.kind == "official" else ()
        sides = list_files(top, SPLITS.get(top.name, ()) if source.kind == "official" else ())
        counts = {side: len(pairs) for side, pairs in sides.items()}  # names alone do not tell where a side ends
        read_from = [file for side in sides.values() for both in side for file in both]
        key = decoded_images.hash_files(read_from, top.resolve(), classes, counts)
        listing = partial(read_voc, sides, classes)
    path = source.folder / "cache" / f"voc-{decoded_images.VERSION}-{key}-{longest}"
    decoded = decoded_images.load_or_decode(
        path, lambda out: decoded_images.decode_images(*listing(), longest, out, str(top), top if own else None), own
    )
    if source.kind == "official":
        name = name_copy(decoded.counts.tolist())
    train, validation, test = make_splits(decoded, top)
    return Data(name, train, validation, test, DataInfo(decoded.classes.tolist(), is_sample=source.kind == "sample"))


def _write_sample(source: Source) -> Path:
    return scenes.write_scenes(source.folder / "sample" / f"voc-{scenes.VERSION}") / "VOCdevkit" / "VOC2007"


def name_copy(counts: list[int]) -> str:
    """How results name this copy: as the release where it has as many images, else with their number."""
    return next((name for name, official in COUNTS.items() if list(official) == counts), f"voc-{sum(counts)}")


def make_splits(decoded: DecodedImages, where: Path) -> tuple[DetectionSplit, DetectionSplit, DetectionSplit]:
    """Training, validation and test, as `split_three_ways`."""
    rows = torch.from_numpy(decoded.rows)
    whole = DetectionSplit(torch.arange(len(decoded.sizes)), torch.stack([rows[:-1], rows[1:]], 1), decoded)
    contents = Contents(decoded.digests.tolist(), decoded.names.tolist()) if len(decoded.digests) else None
    parts, known, start = {}, dict[str, Contents](), 0
    for side, count in zip(decoded.sides.tolist(), decoded.counts.tolist(), strict=True):
        parts[side] = whole[start : start + count]
        if contents is not None:
            known[side] = contents.select(range(start, start + count))
        start += count
    return split_three_ways(parts, where, SMALL_DATA, contents=known or None)


# --- The tree ---------------------------------------------------------------------------------------------------------


def find_official(source: Source) -> Path:
    """The tree in the data folder, VOC2007 downloaded where there is none.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: As `load`.
    """
    for year, sides in SPLITS.items():
        tree = source.folder / "VOCdevkit" / year
        if tree.is_dir():
            for side in sides:
                if not (tree / "ImageSets" / "Main" / f"{side}.txt").is_file():
                    raise FileNotFoundError(
                        f"{tree} has no ImageSets/Main/{side}.txt: unpack the other archive of {year} there, too, or "
                        "delete the folder and run again"
                    )
            return tree
    if not source.download:
        raise FileNotFoundError(f"PASCAL VOC is not in {source.folder}: it has no VOCdevkit/VOC2007")
    paths = {source.folder / name: checksum for name, checksum in ARCHIVES.items()}
    for path, checksum in paths.items():
        require_checksum(path, checksum)
    try:
        archives = [path if path.exists() else fetch([URL + path.name], path, paths[path]) for path in paths]
    except ConnectionError as error:
        raise ConnectionError(
            f"{error}; both archives of VOC2007 are needed there, or unpacked as {source.folder}/VOCdevkit/VOC2007; "
            "or use --data sample, which needs no network"
        ) from None
    return unpack_tree(archives, source.folder / "VOCdevkit" / "VOC2007")


def unpack_tree(archives: list[Path], tree: Path) -> Path:
    """Unpack what is needed of the archives beside `tree`, and move it there.

    Raises:
        ValueError: An archive is damaged, or leads outside its folder.
    """

    def wanted(name: str) -> str:
        inner = name.partition(f"{tree.name}/")[2]
        return inner if inner.startswith(("Annotations/", "JPEGImages/", "ImageSets/Main/")) else ""

    with atomic.naming_errors(tree), atomic.temporary_path(tree) as part:
        for archive in archives:
            unpack(archive, part, wanted, *MAX_UNPACKED)
        if not part.is_dir():
            raise ValueError(f"{archives[0]} contains no {tree.name}: delete it and run again")
        atomic.replace_path(part, tree)
    return tree


def find_tree(path: Path) -> Path:
    """The folder of VOC's layout that lies in `path`, the first of several; else `path`."""
    inner = [] if (path / "Annotations").is_dir() else [*path.glob("VOC[0-9]*"), *path.glob("VOCdevkit/*")]
    trees = sorted(folder for folder in inner if (folder / "Annotations").is_dir())
    if len(trees) > 1:
        others = some(str(tree.relative_to(path)) for tree in trees[1:])
        warn(f"{path}: reads {trees[0].relative_to(path)}, ignored {others}: name the one to read as --data PATH")
    return trees[0] if trees else path


def list_files(tree: Path, names: tuple[str, ...] = ()) -> dict[str, list[tuple[Path, Path]]]:
    """Image and XML file of every name on each split, which are called train, val and test.

    Args:
        tree: The tree.
        names: The lists of the official training and test splits; none where the tree is a user's own or the sample.

    Raises:
        FileNotFoundError, ValueError: As `own_boxes.list_voc`, or there is nothing to train on.
    """
    if names:
        listed = {"train": read_image_set(tree, names[0]), "test": read_image_set(tree, names[1])}
        sides = {side: pairs for side, pairs in listed.items() if pairs}
    else:
        sides = list_voc(tree)
    if "train" not in sides:
        raise ValueError(f"{tree / 'Annotations'} contains no XML file to train on")
    return sides


def read_voc(sides: dict[str, list[tuple[Path, Path]]], classes: tuple[str, ...] = ()) -> Listing:
    """All annotations, by split, and the classes: those of the training split where none are given."""
    if not classes:
        return own_boxes.read_voc(sides, sides["train"][0][1].parent)
    return {side: [read_xml(*pair) for pair in pairs] for side, pairs in sides.items()}, classes
