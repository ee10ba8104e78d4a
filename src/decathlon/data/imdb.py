"""IMDB: 50,000 film reviews, positive or negative, and 50,000 without a label (Maas et al. 2011, ACL).

The tree `aclImdb/{train,test}/<class>/*.txt`, with `train/unsup` for the unlabelled ones. A user's own texts: such a
tree with any classes, or a CSV or JSON-lines file with the columns `text` and `label`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from decathlon import writing
from decathlon.data import Source, Split, composed, files, hold_out, say
from decathlon.data.download import fetch, md5

URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
MD5 = "7c2ac02c03563afcf9b574c7e56c153a"
LABELLED = 25_000  # reviews in each split of the official release
JSON = (".jsonl", ".ndjson")
NEITHER = (type(None), list, dict)  # what is no text and no label
DIVIDED = b"by class"  # part of a cache's key: what is cached of texts that were divided otherwise is none of these
UNPACKED = (1 << 30, 200_000)  # bytes and files that its archive may have: about twice as many as it has


@dataclass(frozen=True)
class Texts:
    """Cleaned texts with their labels.

    Attributes:
        name: The copy, as results name it.
        classes: Names of the labels.
        train, test: Texts.
        train_labels, test_labels: Their labels, places in `classes`.
        unlabelled: Texts without a label, from the training side; may be empty.
        key: Hash of the source and its division, for caches.
    """

    name: str
    classes: list[str]
    train: list[str]
    train_labels: list[int]
    test: list[str]
    test_labels: list[int]
    unlabelled: list[str]
    key: str


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
        return tree(source.path, name) if source.path.is_dir() else table(source.path, name)
    if source.kind == "sample":
        return tree(composed.reviews(source.folder / "sample" / f"imdb-{composed.VERSION}"), "imdb-sample")
    found = tree(official(source), "imdb")
    whole = len(found.train) == len(found.test) == LABELLED
    return found if whole else Texts(**{**vars(found), "name": f"imdb-{len(found.train) + len(found.test)}"})


def official(source: Source) -> Path:
    """The folder aclImdb, downloaded and unpacked where it is missing."""
    folder = source.folder / "aclImdb"
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        return folder
    if not source.download:
        raise FileNotFoundError(f"IMDB is not in {folder}")
    archive = source.folder / URL.rpartition("/")[2]
    if archive.exists() and md5(archive) != MD5:
        raise ValueError(f"{archive} is damaged or cut short: its checksum is wrong; delete it and run again")
    if not archive.exists():
        try:
            fetch([URL], archive, MD5)
        except ConnectionError as error:
            raise ConnectionError(f"{error}; or unpack it to {folder}; or use --data sample") from None
    say(f"unpacking {archive}")
    with writing.told(folder), writing.scratch(folder) as part:
        files.unpack(archive, part, lambda name: name, *UNPACKED)
        if not (part / "aclImdb").is_dir():
            raise ValueError(f"{archive} holds no folder aclImdb; delete it and run again")
        writing.settle(part / "aclImdb", folder)
    return folder


def tree(folder: Path, name: str) -> Texts:
    """Read `<split>/<class>/*.txt`; without a test folder a tenth of the training texts becomes the test split.

    Raises:
        ValueError: A class folder is missing or empty, or a file is not UTF-8: names it.
    """
    top = folder / "train" if (folder / "train").is_dir() else folder
    classes = sorted(path.name for path in top.iterdir() if path.is_dir() and path.name != "unsup")
    files.class_names(classes, top)
    if len(classes) < 2:
        raise ValueError(f"{top} must hold a folder of .txt files for each class; it holds {classes or 'none'}")
    digest = hashlib.sha256()
    train, labels = _classes(top, classes, digest)
    if (folder / "test").is_dir():
        test, test_labels = _classes(folder / "test", classes, digest)
    else:
        train, labels, test, test_labels = _divide(train, labels)
        digest.update(DIVIDED)
    unlabelled = _folder(top / "unsup", digest) if (top / "unsup").is_dir() else []
    return Texts(name, classes, train, labels, test, test_labels, unlabelled, digest.hexdigest()[:16])


def _classes(folder: Path, classes: list[str], digest: hashlib._Hash) -> tuple[list[str], list[int]]:
    texts, labels = [], []
    for number, name in enumerate(classes):
        if not (folder / name).is_dir():
            raise ValueError(f"{folder} has no folder {name!r}, but the training side has")
        found = _folder(folder / name, digest)
        if not found:
            raise ValueError(f"{folder / name} holds no .txt file")
        texts += found
        labels += [number] * len(found)
    return texts, labels


def _folder(folder: Path, digest: hashlib._Hash) -> list[str]:
    texts = []
    for path in sorted(folder.glob("*.txt")):
        content = files.content(path)
        digest.update(content)
        texts.append(clean(decode(content, path)))
    digest.update(f"{folder.name} {len(texts)}".encode())
    return texts


def table(path: Path, name: str) -> Texts:
    """Read a CSV or JSON-lines file with the columns text and label; a tenth of it becomes the test split.

    Raises:
        ValueError: The columns are not there (says which are), or a line is damaged.
    """
    content = files.content(path)
    rows = _rows(content, path, ("text", "label"))
    classes = sorted({str(row["label"]) for row in rows})
    files.class_names(classes, path)
    if len(classes) < 2:
        raise ValueError(f"{path} has one label only, {classes[0]!r}")
    places = {label: place for place, label in enumerate(classes)}
    labels = [places[str(row["label"])] for row in rows]
    texts = [clean(str(row["text"])) for row in rows]
    train, train_labels, test, test_labels = _divide(texts, labels)
    key = hashlib.sha256(content + DIVIDED).hexdigest()[:16]
    return Texts(name, classes, train, train_labels, test, test_labels, [], key)


def _rows(content: bytes, path: Path, wanted: tuple[str, ...]) -> list[Any]:
    """The rows of a CSV file, or the lines of JSON lines, each with all the columns that are wanted.

    Only a line feed ends a line of JSON. What spreadsheets put before the first column's name is dropped.
    """
    text = decode(content, path).removeprefix("\ufeff")
    csv.field_size_limit(sys.maxsize)
    try:
        if path.suffix in JSON:
            rows = [files.from_json(line) for line in text.split("\n") if line.strip()]
        else:
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except (ValueError, csv.Error) as error:
        kind = "JSON" if path.suffix in JSON else "CSV"
        raise ValueError(f"{path} has a line that is no {kind}: {error}") from None
    if not rows:
        raise ValueError(f"{path} holds no rows")
    columns = list(rows[0]) if isinstance(rows[0], dict) else []
    if not set(wanted) <= set(columns):
        one = f"only {columns[0]!r} (commas separate columns)" if len(columns) == 1 else ", ".join(map(str, columns))
        those = f"columns {' and '.join(wanted)}" if len(wanted) > 1 else f"column {wanted[0]}"
        raise ValueError(f"{path} needs the {those}; it has {one or 'none'}")
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or any(isinstance(row.get(key), NEITHER) for key in wanted):
            raise ValueError(f"{path}: row {number + 1} has no {' or no '.join(wanted)}")
    return rows


def _divide(texts: list[str], labels: list[int]) -> tuple[list[str], list[int], list[str], list[int]]:
    """Put a tenth of each class aside as the test split, by a fixed draw."""
    numbers = Split(torch.arange(len(texts)), torch.tensor(labels))
    train, test = (part.inputs.tolist() for part in hold_out(numbers, 10, by_class=True))
    return [texts[i] for i in train], [labels[i] for i in train], [texts[i] for i in test], [labels[i] for i in test]


def decode(content: bytes, path: Path) -> str:
    """Bytes as UTF-8 text. Raises ValueError, naming the file and the place, where they are not."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: byte {error.start}; save it as UTF-8") from None


def clean(text: str) -> str:
    """Text without the line breaks of HTML, with single spaces, and with ? for halves of characters."""
    whole = text.encode(errors="replace").decode()  # JSON and arguments can hold them, tokenizers cannot
    return " ".join(re.sub(r"<br\s*/?>", " ", whole).split())


def lines(given: str) -> list[str]:
    """The reviews that one argument of `predict` names: - is standard input and a file holds one a line, else a text.

    Of CSV and JSON lines it is the column `text`.

    Raises:
        ValueError: There is no review in it, it is a folder, or a file is not UTF-8.
        FileNotFoundError: One word that ends as a text file's name does, and no such file.
    """
    if given == "-":
        found = sys.stdin.read().splitlines()
    elif len(given) < 256 and (path := Path(given)).is_file():
        content = files.content(path)
        if path.suffix in (".csv", *JSON):
            found = [str(row["text"]) for row in _rows(content, path, ("text",))]
        else:
            found = decode(content, path).splitlines()
    elif 0 < len(given) < 256 and Path(given).is_dir():
        raise ValueError(f"{given} is a folder: name its files")
    elif len(given.split()) == 1 and given.lower().endswith((".txt", ".csv", ".tsv", ".md")):
        raise FileNotFoundError(f"there is no file {given}")  # mistyped: no review is written so
    else:
        found = [given]
    found = [line for line in found if line.strip()]
    if not found:
        raise ValueError(f"{given!r} holds no review")
    return found
