"""The content of a user's folder: files that are not the user's are ignored, splits are recognised by their names."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, takewhile
from pathlib import Path

from decathlon.messages import some, warn

# What systems and programs leave among the user's files; names that begin with a dot are left out as well.
SYSTEM_NAMES = frozenset(
    (
        *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
        *("@eadir", "__pycache__", "lost+found"),
    )
)
SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
SPLITS = ("train", "test", "val")  # in the order in which examples are kept
ONLY_SPLITS = "only the splits train, val and test are read"
YEAR = re.compile(r"[-_]?(19|20)\d\d$")
MAX_ERRORS = 10  # unreadable files that an error names
MISSING = ("null", "none", "n/a", "na", "#n/a", "<na>")  # how programs write that there is no value; R writes NA


def is_hidden(name: str) -> bool:
    """Whether a file or folder is not the user's: `.DS_Store`, `._cat.png`, `__MACOSX`, `Thumbs.db`, `~$table.csv`."""
    return name.startswith((".", "~$")) or name.casefold() in SYSTEM_NAMES


def list_folder(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files and the folders in a folder that are the user's, sorted by name; what is neither counts as a file.

    Raises:
        OSError: It cannot be read.
    """
    files, folders = list[Path](), list[Path]()
    with os.scandir(folder) as entries:
        for entry in entries:
            if not is_hidden(entry.name):
                (folders if entry.is_dir() else files).append(folder / entry.name)
    return sorted(files), sorted(folders)


def walk(folder: Path) -> Iterator[Path]:
    """The user's files in a folder and all folders below it, sorted; links to folders are not followed."""
    files, folders = list_folder(folder)
    yield from files
    for inner in folders:
        if not inner.is_symlink():
            yield from walk(inner)


def has_suffix(path: Path | str, suffixes: Iterable[str]) -> bool:
    """Whether a file's name ends in one of these, whatever their case."""
    return Path(path).suffix.casefold() in suffixes


def split_name(name: str) -> str | None:
    """`train`, `val` or `test` for the names that people give to these splits, whatever their case; else None.

    A year behind it does not count: COCO's `train2017` is train.
    """
    word = YEAR.sub("", name.casefold())
    return next((split for split, names in SPLIT_NAMES.items() if word in names), None)


def has_year(path: Path) -> bool:
    """Whether a name ends in a year."""
    return YEAR.search(path.stem) is not None


def check_no_splits(classes: Iterable[str], folder: Path) -> None:
    """Raise ValueError where folders of classes are named like splits: `train` and `test1`, or `train_images`.

    So are those of downloads with a table of labels. One class can be called `train`.
    """
    classes = list(classes)
    content = re.compile(r"[-_ ]?(\d+|images?|imgs?|photos?|data|set|texts?)$", re.IGNORECASE)
    splits = {name: split for name in classes if (split := split_name(content.sub("", name)))}
    if len(set(splits.values())) > 1 and len(splits) >= len(classes) - 1:
        raise ValueError(
            f"{folder} holds {some(splits)}, which are named like splits but hold no folder for each class; sort the "
            "files into such folders (tables of labels are not read), or rename these folders if they are classes"
        )


def warn_unused(folder: Path, used: Iterable[Path], why: str) -> None:
    """Say which files and folders in a folder are not read."""
    known = set(used)
    if unused := [path.name for path in sorted(chain(*list_folder(folder))) if path not in known]:
        warn(f"{folder}: ignored {some(unused)}: {why}")


def find_splits(folder: Path, accept: Callable[[Path], bool] = lambda path: True) -> dict[str, Path]:
    """The folders of the splits in a folder, in the order of `SPLITS`; none where there is no training split.

    Args:
        folder: Where to look.
        accept: Whether a folder is a split: a class can be called `train`, too.

    Raises:
        ValueError: Two folders are one split, `val` and `valid` for example.
    """
    return choose_splits((path for path in list_folder(folder)[1] if accept(path)), folder)


def choose_splits(paths: Iterable[Path], where: Path) -> dict[str, Path]:
    """As `find_splits`, of given files or folders whose names without ending are those of splits."""
    chosen: dict[str, Path] = {}
    for path in paths:
        split = split_name(path.stem if path.is_file() else path.name)
        if split in chosen and has_year(path) != has_year(chosen[split]):
            chosen[split] = path if has_year(chosen[split]) else chosen[split]  # `train` comes before `train2017`
        elif split in chosen:
            names = f"{chosen[split].name} and {path.name}"
            raise ValueError(f"{where} holds {names}, both of which name the {split} split: merge them")
        elif split:
            chosen[split] = path
    return {split: chosen[split] for split in SPLITS if split in chosen} if "train" in chosen else {}


def find_folder(folder: Path, *names: str) -> Path | None:
    """The one folder in a folder that has one of these names, whatever their case; None where there is none.

    Raises:
        ValueError: There are several.
    """
    if not folder.is_dir():
        return None
    matching = [path for path in list_folder(folder)[1] if path.name.casefold() in names]
    if len(matching) > 1:
        raise ValueError(f"{folder} holds {some(path.name for path in matching)}: keep one of them")
    return matching[0] if matching else None


class FileIndex:
    """The user's files below a folder, found by their path or name without ending, whatever its case."""

    def __init__(self, folder: Path, suffixes: Iterable[str]) -> None:
        self.folder = folder
        endings = tuple(suffixes)
        self.files = [path for path in walk(folder) if has_suffix(path, endings)] if folder.is_dir() else []
        self._by_path: dict[str, list[Path]] = {}
        self._by_name: dict[str, list[Path]] = {}
        for path in self.files:
            relative = path.relative_to(folder)
            for key in {str(relative.with_suffix("").as_posix()), relative.as_posix()}:
                self._by_path.setdefault(fold(key), []).append(path)
            for key in {path.stem, path.name}:
                self._by_name.setdefault(fold(key), []).append(path)

    def find(self, name: str, anywhere: bool = False) -> list[Path]:
        """The files of this path below the folder, with or without ending.

        With `anywhere` those of this name, too, whose folders agree with the path in most names from the last on.
        Names in the very same case come before others.
        """
        key = name.replace("\\", "/")
        matching = self._by_path.get(fold(key), [])
        if not matching and anywhere:
            key = key.rpartition("/")[2]
            matching = same_tail(name, self._by_name.get(fold(key), []))
        exact = [path for path in matching if path.as_posix().endswith(key) or path.stem == Path(key).name]
        return exact or matching


def same_tail(name: str, paths: list[Path]) -> list[Path]:
    """Of these files those whose folders agree with those of a path in most names, counted from the last."""
    wanted = [fold(part) for part in name.replace("\\", "/").split("/")[-2::-1]]
    counts = []
    for path in paths:
        pairs = zip(wanted, map(fold, path.parts[-2::-1]), strict=False)
        counts.append(len(list(takewhile(lambda pair: pair[0] == pair[1], pairs))))
    return [path for path, count in zip(paths, counts, strict=True) if count == max(counts)]


def fold(name: str) -> str:
    """A name for comparing: without case, and with letters composed, which macOS takes apart (й as и and a breve)."""
    return unicodedata.normalize("NFC", name).casefold()


def clean_name(name: str) -> str:
    """A class name without blanks around it, single blanks in it, and letters with accents composed."""
    return " ".join(unicodedata.normalize("NFC", name).split())


def similar_names(names: Iterable[str]) -> list[str]:
    """What is suspicious about class names: `'Cat' and 'cat' differ in case only`, `'1' and '1.0' are one number`."""
    lower: dict[str, str] = {}
    numbers: dict[float, str] = {}
    remarks = []
    for name in names:
        if (key := name.casefold()) in lower:
            remarks.append(f"{lower[key]!r} and {name!r} differ in case only")
        lower.setdefault(key, name)
        try:
            number = float(name)
        except ValueError:
            continue
        if number in numbers:
            remarks.append(f"{numbers[number]!r} and {name!r} are the same number")
        numbers.setdefault(number, name)
        if number != number:
            remarks.append(f"{name!r} may stand for a missing value")
    remarks += [f"{name!r} may stand for a missing value" for name in names if name.casefold() in MISSING]
    return remarks


def raise_errors(errors: list[Exception], where: Path) -> None:
    """Raise one error for all files of a set that cannot be read: ten are named, the others counted.

    Args:
        errors: Nothing is raised where there are none; of one its own type and message are kept.
        where: The set, whose path is left out of the messages.

    Raises:
        ValueError, OSError: As above.
    """
    if len(errors) == 1:
        raise errors[0]
    if errors:
        words = [str(error).replace(f"{where}{os.sep}", "") for error in errors[:MAX_ERRORS]]
        more = f"; and {len(errors) - MAX_ERRORS:,} more" if len(errors) > MAX_ERRORS else ""
        kind = FileNotFoundError if all(isinstance(error, FileNotFoundError) for error in errors) else ValueError
        raise kind(f"{where}: {len(errors):,} files cannot be read: {'; '.join(words)}{more}")
