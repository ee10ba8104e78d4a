"""IMDB: 50,000 film reviews, positive or negative, and 50,000 without a label (Maas et al. 2011, ACL).

The tree `aclImdb/{train,test}/<class>/*.txt`, with `train/unsup` for the unlabelled ones. A user's own texts: such a
tree with any classes, or tables with a column of texts and one of labels (`io/text_tables.py`).
"""

from __future__ import annotations

import hashlib
import html
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch

from decathlon.data.base import Source, Split
from decathlon.data.divide import (
    Contents,
    drop_copies,
    drop_labelled,
    hold_out,
    hold_out_blocks,
    hold_out_indices,
    warn_contradictions,
)
from decathlon.data.io import archives, atomic, files, text_tables
from decathlon.data.io.download import fetch, require_checksum
from decathlon.data.io.listing import (
    ONLY_SPLITS,
    check_no_splits,
    clean_name,
    find_splits,
    has_suffix,
    list_folder,
    raise_errors,
    similar_names,
    warn_unused,
)
from decathlon.data.io.text_tables import Row, decode_text, has_tables, read_reviews
from decathlon.data.read_options import ReadOptions
from decathlon.data.synthetic import reviews as composed
from decathlon.messages import say, some, warn

URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
MD5 = "7c2ac02c03563afcf9b574c7e56c153a"
LABELLED = 25_000  # reviews in each split of the official release
UNLABELLED = "unsup"  # the folder of texts without a label
OWN_VERSION = "own-3"  # of a user's own texts as they are read and divided, for caches: raise it when that changes
S = TypeVar("S", bound=Split)
CLEANING = b"2"  # part of a cache's key: raise it when `clean` changes
QUOTES = str.maketrans("’‘“”", "''\"\"")  # typographic quotes: don’t and don't are one word
MAX_UNPACKED = (1 << 30, 200_000)  # bytes and files that its archive may have: about twice as many as it has


@dataclass(frozen=True)
class Texts:
    """Cleaned texts with their labels.

    Attributes:
        name: The copy, as results name it.
        classes: Names of the labels.
        train, test: Texts.
        train_labels, test_labels: Their labels, indices into `classes`.
        unlabelled: Texts without a label, from the training split; may be empty.
        key: Hash of the source and its division, for caches.
        n_validation: How many of `train`, the last ones, are the user's own validation split.
    """

    name: str
    classes: list[str]
    train: list[str]
    train_labels: list[int]
    test: list[str]
    test_labels: list[int]
    unlabelled: list[str]
    key: str
    n_validation: int = 0


def load(source: Source) -> Texts:
    """Read IMDB, the sample, or the user's own texts.

    Raises:
        FileNotFoundError: Nothing is there and nothing may be downloaded; says what to put where.
        ConnectionError: It could not be downloaded.
        ValueError: A file or folder is not as it must be: names it.
    """
    if source.kind == "own":
        assert source.path is not None
        name = f"own:{source.path.resolve().name}"
        if source.path.is_dir() and not has_tables(source.path):
            return read_tree(source.path, name, own=True)
        return read_table(source.path, name, source.options)
    if source.kind == "sample":
        return read_tree(composed.write_reviews(source.folder / "sample" / f"imdb-{composed.VERSION}"), "imdb-sample")
    texts = read_tree(find_official(source), "imdb")
    whole = len(texts.train) == len(texts.test) == LABELLED
    return texts if whole else Texts(**{**vars(texts), "name": f"imdb-{len(texts.train) + len(texts.test)}"})


def find_official(source: Source) -> Path:
    """The folder aclImdb, downloaded and unpacked where it is missing."""
    folder = source.folder / "aclImdb"
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        return folder
    if folder.is_dir():
        raise FileNotFoundError(f"{folder} has not both train and test: delete it and run again")
    if not source.download:
        raise FileNotFoundError(f"IMDB is not in {folder}")
    archive = source.folder / URL.rpartition("/")[2]
    require_checksum(archive, MD5)
    if not archive.exists():
        try:
            fetch([URL], archive, MD5)
        except ConnectionError as error:
            raise ConnectionError(f"{error}; or unpack it to {folder}; or use --data sample") from None
    say(f"unpacking {archive}")
    with atomic.naming_errors(folder), atomic.temporary_path(folder) as part:
        archives.unpack(archive, part, lambda name: name, *MAX_UNPACKED)
        if not (part / "aclImdb").is_dir():
            raise ValueError(f"{archive} holds no folder aclImdb; delete it and run again")
        atomic.replace_path(part / "aclImdb", folder)
    return folder


# --- Trees ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelledTexts:
    """Texts of one split, with their labels and the names by which messages call them."""

    texts: list[str]
    labels: list[int]
    names: list[str]

    def __len__(self) -> int:
        return len(self.texts)


def read_tree(folder: Path, name: str, own: bool = False) -> Texts:
    """Read `<split>/<class>/*.txt`; without a test folder a tenth of the training texts becomes the test split.

    Args:
        folder: The tree.
        name: Of the copy.
        own: Whether it is a user's own, in which copies of one text are kept in one split.

    Raises:
        ValueError: A class folder is missing or empty, or files are not UTF-8: names them.
    """
    tops = find_splits(folder, lambda path: bool(list_folder(path)[1])) or {"train": folder}
    top = tops["train"]
    folders = [path.name for path in list_folder(top)[1] if path.name != UNLABELLED]
    classes = [clean_name(folder_name) for folder_name in folders] if own else folders
    files.check_class_names(classes, top)
    if len(classes) < 2:
        raise ValueError(f"{top} must hold a folder of .txt files for each class; it holds {folders or 'none'}")
    check_no_splits(classes, top)
    if len(set(classes)) < len(classes):
        raise ValueError(f"{top} holds two folders {next(n for n in classes if classes.count(n) > 1)!r}: keep one")
    digest = hashlib.sha256((OWN_VERSION if own else "").encode() + CLEANING)
    sides = {side: _read_classes(tops[side], folders, digest, top, own) for side in tops}
    unlabelled = _read_folder(top / UNLABELLED, digest, own)[0] if (top / UNLABELLED).is_dir() else []
    if not own and "test" in sides:
        return _without_check(name, classes, sides, unlabelled, digest)
    if top != folder:
        warn_unused(folder, tops.values(), ONLY_SPLITS)
    for place in tops.values():
        warn_unused(place, list_folder(place)[1], "only the folders of the classes are read")
    return _divide(name, classes, sides, unlabelled, digest.hexdigest()[:16], folder)


def _without_check(
    name: str, classes: list[str], sides: dict[str, LabelledTexts], unlabelled: list[str], digest: hashlib._Hash
) -> Texts:
    """The official texts and the sample, as they are divided."""
    train, test = sides["train"], sides["test"]
    return Texts(
        *(name, classes, train.texts, train.labels, test.texts, test.labels, unlabelled, digest.hexdigest()[:16])
    )


def _read_classes(folder: Path, classes: list[str], digest: hashlib._Hash, train: Path, own: bool) -> LabelledTexts:
    labelled = LabelledTexts([], [], [])
    here = [path.name for path in list_folder(folder)[1] if path.name != UNLABELLED]
    for name in sorted(set(here) ^ set(classes)):
        if name in classes:
            raise ValueError(f"{folder} has no folder {name!r}, but the training split has")
        raise ValueError(f"{train} has no folder {name!r}, but {folder} has: both need the same classes")
    errors = list[Exception]()
    for number, name in enumerate(classes):
        try:
            texts, names = _read_folder(folder / name, digest, own)
        except ValueError as error:
            errors.append(error)
            continue
        if not texts:
            raise ValueError(f"{folder / name} holds no .txt file with a text")
        labelled.texts.extend(texts)
        labelled.labels.extend([number] * len(texts))
        labelled.names.extend(names)
    raise_errors(errors, folder)
    return labelled


def _read_folder(folder: Path, digest: hashlib._Hash, own: bool) -> tuple[list[str], list[str]]:
    """The texts of a folder and the names of their files; of a user's own, empty ones are left out."""
    texts, names, empty, errors = list[str](), list[str](), list[str](), list[Exception]()
    listed, folders = list_folder(folder)
    paths = [path for path in listed if has_suffix(path, (".txt",))]
    for path in paths:
        try:
            content = files.read_bytes(path)
            text = clean_text(decode_text(content, path))
        except ValueError as error:
            errors.append(error)
            continue
        digest.update((f"{len(content)} ".encode() if own else b"") + content)  # where one ends counts, too
        if own and not text:
            empty.append(path.name)
            continue
        texts.append(text)
        names.append(f"{folder.name}/{path.name}")
    raise_errors(errors, folder)
    digest.update(f"{folder.name} {len(texts)}".encode())
    if empty:
        warn(f"{folder}: {len(empty):,} empty files are left out ({some(empty)})")
    if own and (others := [path.name for path in [*listed, *folders] if path not in paths]):
        warn(f"{folder}: ignored {len(others):,} which are no .txt files: {some(others)}")
    return texts, names


# --- Tables -----------------------------------------------------------------------------------------------------------


def read_table(path: Path, name: str, options: ReadOptions) -> Texts:
    """Read a CSV or JSON file, or a folder with one for each split; without a test split a tenth becomes it.

    Labels are stripped. Rows without a label or a text are left out and counted.

    Raises:
        ValueError: The columns are not there (says which are), or a line cannot be read for certain: names it.
    """
    columns = options.text_column or "text", options.label_column or "label"
    paths = {"train": path}
    if path.is_dir():
        paths = text_tables.find_tables(path)
    rows = {
        side: _labelled_rows(file, text_tables.read_table(file, columns, ("--text-column", "--label-column")), columns)
        for side, file in paths.items()
    }
    classes = sorted({label for _, label, _ in rows["train"]})
    files.check_class_names(classes, path)
    if len(classes) < 2:
        held = f"one label only, {classes[0]!r}" if classes else "no row with a text and a label"
        raise ValueError(f"{path} has {held}")
    labels = [label for _, label, _ in rows["train"]]
    if len(classes) > max(20, len(labels) // 2):
        warn(f"{path} has {len(classes):,} labels for {len(labels):,} texts: is {columns[1]!r} their column?")
    _warn_labels(labels, path)
    sides, numbers = {}, {label: number for number, label in enumerate(classes)}
    for side, of_side in rows.items():
        if unknown := [f"{label!r} ({where})" for _, label, where in of_side if label not in numbers]:
            raise ValueError(f"{paths[side]} has the label {unknown[0]}, which the training split has not")
        texts, names = [text for text, _, _ in of_side], [where for _, _, where in of_side]
        sides[side] = LabelledTexts(texts, [numbers[label] for _, label, _ in of_side], names)
    contents = [files.read_bytes(file) for file in paths.values()]
    content = b"".join(f"{len(content)} ".encode() + content for content in contents)  # where one ends counts, too
    key = hashlib.sha256(repr((OWN_VERSION, columns, list(paths))).encode() + CLEANING + content).hexdigest()[:16]
    return _divide(name, classes, sides, [], key, path)


def _labelled_rows(path: Path, rows: list[Row], columns: tuple[str, str]) -> list[tuple[str, str, str]]:
    """Cleaned text, label and place of each row that has both; says how many have not."""
    labelled, without = list[tuple[str, str, str]](), {column: list[int]() for column in columns}
    respelled: Counter[str] = Counter()
    for line, (text, label) in rows:
        cleaned, name = clean_text(text or ""), clean_name(label or "")
        if not name:
            without[columns[1]].append(line)
        elif not cleaned:
            without[columns[0]].append(line)
        else:
            labelled.append((cleaned, name, f"line {line}"))
            respelled[f"{label!r} as {name!r}"] += label != name
    for column, lines in without.items():
        if lines:
            numbers = some(lines)
            warn(f"{path}: {len(lines):,} of {len(rows):,} rows have no {column} and are left out (lines {numbers})")
    if number := respelled.total():
        spellings = some(spelling for spelling, count in respelled.items() if count)
        warn(f"{path}: blanks were taken off {number:,} labels ({spellings})")
    return labelled


def _warn_labels(labels: list[str], path: Path) -> None:
    counts = Counter(labels)
    for remark in similar_names(sorted(counts)):
        warn(f"{path}: the labels {remark}")
    if single := sorted(label for label, count in counts.items() if count == 1):
        warn(f"{path}: {len(single):,} labels have one text only ({some(map(repr, single))})")


# --- Division ---------------------------------------------------------------------------------------------------------


def _divide(
    name: str, classes: list[str], sides: dict[str, LabelledTexts], unlabelled: list[str], key: str, where: Path
) -> Texts:
    """A user's own texts: no text is in two splits, and without a test split a tenth of each class is put aside."""
    if len(set(classes)) == len(classes):
        for remark in similar_names(classes) if where.is_dir() and not has_tables(where) else ():
            warn(f"{where}: the classes {remark}")
    unlabelled = drop_labelled(unlabelled, {text for side in sides.values() for text in side.texts}, where / UNLABELLED)
    contents = {side: Contents(labelled.texts, labelled.names) for side, labelled in sides.items()}
    for side, labelled in sides.items():
        warn_contradictions(contents[side], labelled.labels, classes, where, "texts")
    indices = {
        side: Split(torch.arange(len(labelled)), torch.tensor(labelled.labels)) for side, labelled in sides.items()
    }
    unique, contents = drop_copies(indices, contents, where, "texts")
    if "test" not in unique and "val" in unique:
        warn(f"{where} has no test split: its validation split is used as such, validation is held out of training")
        unique["test"], sides["test"] = unique.pop("val"), sides["val"]

    def select(side: str, chosen: list[int]) -> tuple[list[str], list[int]]:
        return [sides[side].texts[i] for i in chosen], [sides[side].labels[i] for i in chosen]

    train = unique["train"].inputs
    if "test" in unique:
        test, test_labels = select("test", unique["test"].inputs.tolist())
    else:
        train, held = hold_out_indices(unique["train"], 10, True, contents["train"])
        test, test_labels = select("train", held.tolist())
    texts, labels = select("train", train.tolist())
    if len(texts) < 2 or not test:
        raise ValueError(f"{where} holds too few texts to train on and to measure with: {len(texts) + len(test)}")
    validation, validation_labels = select("val", unique["val"].inputs.tolist()) if "val" in unique else ([], [])
    return Texts(
        *(name, classes, texts + validation, labels + validation_labels, test, test_labels, unlabelled, key),
        n_validation=len(validation),
    )


def divide_training(texts: Texts, split: S, source: Source) -> tuple[S, S]:
    """Training and validation: of a user's own texts their own validation split, or a twelfth of each class.

    Args:
        texts: As read.
        split: The examples made of `texts.train`, in its order.
        source: Where the texts come from.
    """
    if source.kind != "own":
        return hold_out_blocks(split)
    if count := texts.n_validation:
        return split[: len(split) - count], split[len(split) - count :]
    return hold_out(split, by_class=True, contents=Contents(texts.train, texts.train))


def clean_text(text: str) -> str:
    """Text without HTML's entities and line breaks, with plain quotes, single spaces, and ? for lone surrogates.

    Its characters are composed (NFC): an é is one character however it was typed.
    """
    whole = text.encode(errors="replace").decode()  # JSON and arguments can hold them, tokenizers cannot
    whole = re.sub(r"<\s*br\s*/?\s*>", " ", html.unescape(whole), flags=re.IGNORECASE)
    return " ".join(unicodedata.normalize("NFC", whole.translate(QUOTES)).split())


def add_unlabelled(texts: Texts, path: Path) -> Texts:
    """The same texts with those of a file added to the unlabelled: one a line, or the column `text` of a table.

    Labelled texts, in training or test, are left out, and this is reported.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not UTF-8, has no column `text`, or holds no text.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--unlabelled {path}: there is no such file")
    cleaned = [clean_text(text) for text in read_reviews(str(path))]
    more = drop_labelled(cleaned, {*texts.train, *texts.test}, path)
    key = hashlib.sha256(repr((texts.key, more)).encode(errors="surrogatepass")).hexdigest()[:16]
    return replace(texts, unlabelled=[*texts.unlabelled, *more], key=key)
