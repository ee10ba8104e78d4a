"""Reading files of any origin: regular files only, with a bound on their size."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MAX_FILE_BYTES = 1 << 30  # bytes that are read of one file, packed or not
MAX_JSON_DEPTH = 50  # levels of JSON: many times what any file here has
MAX_CLASS_NAME = 200  # characters of a class's name: tables of names are as wide as the longest


def check_file(path: Path | str) -> Path:
    """The path, where a plain file (or a link to one) lies there: a pipe would be waited for, a device has no end.

    Raises:
        FileNotFoundError: Nothing lies there.
        ValueError: Something else does.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(
            f"{path} is not a regular file" + ("; it is a folder: name its files" if path.is_dir() else "")
        )
    return path


def read_bytes(path: Path, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """All bytes of a plain file.

    Raises:
        FileNotFoundError, ValueError: As `check_file`; or it has more than `max_bytes` bytes.
    """
    with check_file(path).open("rb") as file:
        if (size := path.stat().st_size) > max_bytes:
            raise ValueError(f"{path} has {size:,} bytes; at most {max_bytes:,} are read")
        return file.read()


def file_stamp(status: os.stat_result) -> tuple[int, int, int]:
    """What changes when a file does, for the keys of caches: its size and both times of change.

    The second of the times cannot be set, so that a copy which keeps the first (`cp -p`, an archive) is seen as well.
    """
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def sha256(*paths: Path) -> str:
    """Of the bytes of plain files, one after the other, in hexadecimal. Raises as `check_file`."""
    digest = hashlib.sha256()
    for path in paths:
        with check_file(path).open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def read_text(path: Path, max_bytes: int = MAX_FILE_BYTES) -> str:
    """A plain file's text without a byte-order mark.

    Raises ValueError, naming the file and the line, where it is not UTF-8; else as above.
    """
    return decode_text(read_bytes(path, max_bytes), path)


def decode_text(content: bytes, path: Path) -> str:
    """Bytes as UTF-8 text without a byte-order mark. Raises ValueError, with file and line, where they are not."""
    try:
        return content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path} is not UTF-8: byte {error.start}, in line {line}") from None


def parse_json(text: str) -> Any:
    """Parse JSON. Raises ValueError for all that is wrong with it, too deep a nesting included."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [value]
    for _ in range(MAX_JSON_DEPTH):  # what could just be parsed could still not be shown
        level = [
            inner
            for item in level
            if isinstance(item, (dict, list))
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return value
    raise ValueError("it is nested too deeply")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is something else.
    """
    try:
        value = parse_json(read_text(path))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {str(error).removeprefix(f'{path} ')}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} is damaged: it contains no object")
    return value


def check_class_names(names: Sequence[str], where: Path | str) -> Sequence[str]:
    """The names, where all can stand in tables and files. Raises ValueError for one that is too long, or no text."""
    for name in names:
        if len(name) > MAX_CLASS_NAME:
            raise ValueError(f"{where} names a class of {len(name):,} characters; at most {MAX_CLASS_NAME} are taken")
        if name.encode(errors="replace").decode() != name:
            raise ValueError(f"{where} names a class {name!r}, which is not UTF-8")
    return names
