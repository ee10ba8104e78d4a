"""A user's own images with boxes, as the tools of the field export them: PASCAL VOC, COCO and YOLO."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from defusedxml import ElementTree

from decathlon.data.io import files, yolo
from decathlon.data.io.images import IMAGE_SUFFIXES
from decathlon.data.io.listing import (
    FileIndex,
    choose_splits,
    find_folder,
    find_splits,
    has_suffix,
    list_folder,
    raise_errors,
    similar_names,
    split_name,
    walk,
)
from decathlon.data.io.own_coco import Listing, coco_folders, find_coco, read_coco_sides
from decathlon.data.io.voc_coco import Annotation, read_xml
from decathlon.messages import some, warn

XML_FOLDERS, IMAGE_FOLDERS = ("annotations",), ("jpegimages", "images", "image", "imgs", "img")
Pairs = list[tuple[Path, Path]]  # image and XML file
LAYOUTS = (
    "it is neither a tree of VOC's (XML files in Annotations, images in JPEGImages, images or beside them), nor COCO's "
    "JSON (train.json, annotations.json or as CVAT, Roboflow, Label Studio and COCO name it), nor YOLO's layout "
    "(images, labels, data.yaml)"
)


@dataclass(frozen=True)
class BoxFiles:
    """Images with boxes, listed but not read.

    Attributes:
        kind: `PASCAL VOC`, `COCO` or `YOLO`.
        files: All that is read.
        counts: Images of each split, where the files' names do not tell.
        read: Reads the annotations.
    """

    kind: str
    files: list[Path]
    counts: dict[str, int]
    read: Callable[[], Listing]


def find_boxes(path: Path) -> BoxFiles:
    """What a user's path holds.

    Raises:
        FileNotFoundError: Listed images or XML files are absent: names ten of them.
        ValueError: It is none of the layouts, or is not clear.
    """
    folder = path if path.is_dir() else path.parent
    if path.is_dir() and (sides := list_voc(path)):
        listed = [file for pairs in sides.values() for pair in pairs for file in pair]
        counts = {side: len(pairs) for side, pairs in sides.items()}
        return BoxFiles("PASCAL VOC", listed, counts, partial(read_voc, sides, path))
    if has_suffix(path, yolo.CONFIG_SUFFIXES) or (path.is_dir() and yolo.find_yolo(path)):
        config = None if path.is_dir() else path  # where there are several, the user names one
        alone = config is not None and yolo.config_value(config, "names") is not None
        suffixes = (*IMAGE_SUFFIXES, ".txt", ".names", *(() if alone else yolo.CONFIG_SUFFIXES))
        if not (folders := yolo.find_yolo(folder)):
            raise ValueError(f"{folder} has no images and labels folders, as YOLO's layout has")
        listed = files_below(folder, [top for both in folders.values() for top in both], suffixes)
        listed += [config] if config and config not in listed else []
        return BoxFiles("YOLO", listed, {}, partial(_checked, partial(yolo.read_yolo, folder, folders, config), folder))
    if jsons := find_coco(path):
        tops = [top for side, file in jsons.items() for top in coco_folders(folder, side, file)]
        listed = files_below(folder, tops, (*IMAGE_SUFFIXES, ".json"))
        return BoxFiles("COCO", listed, {}, partial(_checked, partial(read_coco_sides, folder, jsons), folder))
    raise ValueError(f"{path}: {LAYOUTS}")


def files_below(folder: Path, tops: list[Path], suffixes: tuple[str, ...]) -> list[Path]:
    """The user's files below a folder, and below those of `tops` that a link puts elsewhere: `walk` follows none."""
    here = folder.resolve()
    linked = [top for top in dict.fromkeys(tops) if top.is_dir() and not top.resolve().is_relative_to(here)]
    return [file for top in (folder, *linked) for file in walk(top) if has_suffix(file, suffixes)]


def _checked(read: Callable[[], Listing], where: Path) -> Listing:
    sides, names = read()
    warn_names(names, where)
    check_difficult(sides, where)
    return sides, names


def check_difficult(sides: dict[str, list[Annotation]], where: Path) -> None:
    """Say how many boxes are marked difficult, or as crowds: they are neither trained on nor counted.

    Raises:
        ValueError: All boxes of the images to train on are.
    """
    marked = {a.image_path.name: sum(a.difficult) for side in sides.values() for a in side if any(a.difficult)}
    if not marked:
        return
    training = [flag for annotation in sides.get("train", []) for flag in annotation.difficult]
    if training and all(training):
        raise ValueError(
            f"{where}: all {len(training):,} boxes to train on are marked difficult, or as crowds (iscrowd), as CVAT "
            "exports masks: they would be neither trained on nor counted; set the mark to 0, or export polygons"
        )
    total = sum(len(annotation.difficult) for side in sides.values() for annotation in side)
    warn(
        f"{where}: {sum(marked.values()):,} of {total:,} boxes are marked difficult, or as crowds (iscrowd): they are "
        f"neither trained on nor counted ({some(marked)})"
    )


def warn_names(names: list[str], where: Path) -> None:
    """Say which class names look alike."""
    for remark in similar_names(names):
        warn(f"{where}: the classes {remark}")


# --- PASCAL VOC -------------------------------------------------------------------------------------------------------


def list_voc(path: Path) -> dict[str, Pairs]:
    """Image and XML file of every annotated image, by split; nothing where there are no XML files.

    Layouts: `Annotations/` and `JPEGImages/` or `images/`, with lists in `ImageSets/Main` or without; XML files beside
    their images; each of these in `train/`, `valid/` and `test/`, too. Folders below are read as well.

    Raises:
        FileNotFoundError: Images or XML files are absent: names ten of them.
        ValueError: Two images or XML files have one name, or a list is empty or leads outside.
    """
    if find_folder(path, *XML_FOLDERS) is None and (tops := find_splits(path)):
        trees = {side: VocTree.at(top) for side, top in tops.items()}
        if all(tree.xmls.files for tree in trees.values()):
            return {side: tree.pairs() for side, tree in trees.items()}
        if any(tree.xmls.files for tree in trees.values()):
            missing = next(tops[side] for side, tree in trees.items() if not tree.xmls.files)
            raise ValueError(f"{missing} contains no XML file, as the other splits do")
        return {}
    tree = VocTree.at(path)
    if len(tree.xmls.files) == 1 and _root_tag(tree.xmls.files[0]) == "annotations":
        raise ValueError(
            f"{tree.xmls.files[0]} is CVAT's own format, which is not read: export boxes as COCO, PASCAL VOC or YOLO"
        )
    return tree.divided() if tree.xmls.files else {}


@dataclass(frozen=True)
class VocTree:
    """The XML files and images of a folder."""

    path: Path
    xmls: FileIndex
    images: FileIndex

    @classmethod
    def at(cls, path: Path) -> VocTree:
        """List the files of a folder of VOC's layout or of XML files beside images."""
        xml_folder, images = find_folder(path, *XML_FOLDERS), find_folder(path, *IMAGE_FOLDERS)
        return cls(path, FileIndex(xml_folder or path, (".xml",)), FileIndex(images or path, IMAGE_SUFFIXES))

    def pairs(self) -> Pairs:
        """All XML files with their images; says which images have none."""
        pairs, errors = Pairs(), list[Exception]()
        for xml in self.xmls.files:
            name = self.name_of(xml)
            try:
                pairs.append((self.find_image(name, xml, str(xml.parent)), xml))
            except (FileNotFoundError, ValueError) as error:
                errors.append(error)
        raise_errors(errors, self.path)
        self.check_unique(pairs)
        self.report_unused(pairs)
        return pairs

    def name_of(self, xml: Path) -> str:
        """Its path below the folder of the XML files, without ending: that of its image below the images' folder."""
        return xml.relative_to(self.xmls.folder).with_suffix("").as_posix()

    def check_unique(self, pairs: Pairs) -> None:
        """Raise ValueError where two XML files are of one image: each would lack the other's boxes."""
        first: dict[Path, Path] = {}
        for image, xml in pairs:
            if first.setdefault(image, xml) != xml:
                raise ValueError(f"{first[image]} and {xml.name} are both of {image.name}: keep one of them")

    def report_unused(self, pairs: Pairs) -> None:
        """Say which images have no XML file, and which of both no list names."""
        images, xmls = {image for image, _ in pairs}, {xml for _, xml in pairs}
        annotated = {self.name_of(xml).casefold() for xml in self.xmls.files}
        spare = [image for image in self.images.files if image not in images]
        bare = [
            image
            for image in spare
            if image.relative_to(self.images.folder).with_suffix("").as_posix().casefold() not in annotated
        ]
        if bare:
            names = some(image.relative_to(self.images.folder) for image in bare)
            warn(f"{self.path}: {len(bare):,} images have no XML file and are left out ({names})")
        if unlisted := [xml for xml in self.xmls.files if xml not in xmls]:
            names = some(xml.relative_to(self.xmls.folder) for xml in unlisted)
            warn(f"{self.path}: {len(unlisted):,} XML files are in no list and are left out ({names})")

    def divided(self) -> dict[str, Pairs]:
        """The pairs by the lists in ImageSets/Main: train and val, or else trainval, and test; or no list."""
        lists = self.lists()
        chosen = choose_splits([file for file in lists.values() if split_name(file.stem)], self.path)
        chosen = chosen or {side: file for file in lists.values() if (side := split_name(file.stem))}
        if not ("train" in chosen and "val" in chosen) and "trainval" in lists:
            chosen = {side: file for side, file in chosen.items() if side == "test"} | {"train": lists["trainval"]}
        elif "train" not in chosen and not chosen and "default" in lists:  # CVAT's name of a set without splits
            chosen["train"] = lists["default"]
        sides = {side: self.read_list(file) for side, file in chosen.items()}
        if not sides:  # no list, but perhaps Annotations/train, Annotations/val, …
            for side, top in find_splits(self.xmls.folder).items():
                xmls = [xml for xml in self.xmls.files if xml.is_relative_to(top)]
                sides[side] = self.read_names([self.name_of(xml) for xml in xmls], str(top))
        if not sides and (tops := find_splits(self.images.folder)):  # or the images only: images/train, images/val, …
            for pair in self.read_names([self.name_of(xml) for xml in self.xmls.files], str(self.xmls.folder)):
                if side := next((side for side, top in tops.items() if pair[0].is_relative_to(top)), None):
                    sides.setdefault(side, []).append(pair)
        self.drop_repeated(sides)
        if "train" not in sides:
            taken = {xml for pairs in sides.values() for _, xml in pairs}
            rest = [xml for xml in self.xmls.files if xml not in taken]
            sides["train"] = self.read_names([self.name_of(xml) for xml in rest], str(self.xmls.folder))
        if not sides["train"]:
            raise ValueError(f"{self.xmls.folder} contains no XML file to train on")
        everything = [pair for pairs in sides.values() for pair in pairs]
        self.check_unique(everything)
        self.report_unused(everything)
        return {side: sides[side] for side in ("train", "val", "test") if sides.get(side)}

    def lists(self) -> dict[str, Path]:
        """The lists of images in ImageSets/Main by their names in lower case."""
        sets = find_folder(self.path, "imagesets")
        main = sets and (find_folder(sets, "main") or sets)
        return (
            {file.stem.casefold(): file for file in list_folder(main)[0] if has_suffix(file, (".txt",))} if main else {}
        )

    def drop_repeated(self, sides: dict[str, Pairs]) -> None:
        """Keep each image once in a list, and of several lists in that for training."""
        annotations, repeated = set[Path](), list[str]()
        for side in ("train", "val", "test"):
            pairs = Pairs()
            for image, xml in sides.get(side, ()):
                (repeated.append(image.name) if xml in annotations else pairs.append((image, xml)))
                annotations.add(xml)
            if side in sides:
                sides[side] = pairs
        if repeated:
            warn(f"{self.path}: {len(repeated):,} images are listed twice: the first list counts ({some(repeated)})")

    def read_list(self, file: Path) -> Pairs:
        """The pairs that a list names: a line is a name as it stands, or in quotes, or with 1, 0 or -1 behind it."""
        names = []
        for line in files.read_text(file).splitlines():
            if name := line.strip():
                options = [name, name.strip("\"'"), re.sub(r"\s+-?[01]$", "", name)]
                names.append(next((option for option in options if self.xmls.find(option)), options[1]))
        if not names:
            raise ValueError(f"{file} lists no images")
        return self.read_names(names, str(file))

    def read_names(self, names: list[str], listed_in: str) -> Pairs:
        """The pairs of these names. Raises FileNotFoundError and ValueError as `list_voc`."""
        pairs, errors = Pairs(), list[Exception]()
        for name in names:
            try:
                xml = self.find_xml(name, listed_in)
                stem = xml.relative_to(self.xmls.folder).with_suffix("").as_posix()
                pairs.append((self.find_image(stem, xml, listed_in), xml))
            except (FileNotFoundError, ValueError) as error:
                errors.append(error)
        raise_errors(errors, self.path)
        return pairs

    def find_xml(self, name: str, listed_in: str) -> Path:
        """The XML file of a listed name."""
        relative = PurePosixPath(name.replace("\\", "/"))
        if not relative.name or relative.is_absolute() or ".." in relative.parts or "\0" in name:
            raise ValueError(f"{listed_in} lists {name!r}, which is not the name of an image")
        matching = self.xmls.find(str(relative)) or self.xmls.find(str(relative.with_suffix(".xml")))
        if not matching:
            raise FileNotFoundError(f"{listed_in} lists {name}, but there is no {self.xmls.folder / name}.xml")
        if len(matching) > 1:
            raise ValueError(f"{listed_in} lists {name}, of which there are {some(path.name for path in matching)}")
        return matching[0]

    def find_image(self, name: str, xml: Path, listed_in: str) -> Path:
        """The image of an XML file: that of its name, else that which it names itself."""
        matching = self.images.find(name)
        if len(matching) != 1 and (written := _written_name(xml)):
            named = [path for path in matching if path.name == written]
            matching = named or matching or self.images.find(written, anywhere=True)
        if not matching:
            raise FileNotFoundError(f"{listed_in} lists {name}, but there is no {self.images.folder / name}.jpg")
        if len(matching) > 1:
            names = some(path.relative_to(self.path) for path in matching)
            raise ValueError(f"{xml} may be of {names}: keep one of them")
        return matching[0]


def _written_name(xml: Path) -> str:
    """The image file that an XML file names, without folders; "" where it names none."""
    try:
        root = ElementTree.fromstring(files.read_bytes(xml), forbid_dtd=True)
    except Exception:  # errors in it are reported when it is read
        return ""
    return (root.findtext("filename") or "").strip().replace("\\", "/").rpartition("/")[2]


def _root_tag(xml: Path) -> str:
    try:
        return str(ElementTree.fromstring(files.read_bytes(xml), forbid_dtd=True).tag)
    except Exception:  # errors in it are reported when it is read
        return ""


def read_voc(sides: dict[str, Pairs], where: Path) -> Listing:
    """All annotations, by split, and the classes: those of the training split.

    Raises:
        ValueError: XML files are not as they must be: names ten of them; or no image for training has a box.
    """
    errors = list[Exception]()
    annotations: dict[str, list[Annotation]] = {}
    for side, pairs in sides.items():
        annotations[side] = []
        for image, xml in pairs:
            try:
                annotations[side].append(read_xml(image, xml))
            except (ValueError, OSError) as error:
                errors.append(error)
    raise_errors(errors, where)
    names = sorted({name for annotation in annotations["train"] for name in annotation.names})
    if not names:
        raise ValueError(f"{sides['train'][0][1].parent}: none of the images to train on has a box")
    files.check_class_names(names, sides["train"][0][1].parent)
    warn_names(names, where)
    check_difficult(annotations, where)
    return annotations, names
