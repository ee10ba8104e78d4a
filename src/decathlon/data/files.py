"""Files as strangers make them: opened only where they are plain files, read with a bound, unpacked with care."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

MOST = 1 << 30  # bytes that are read of one file, packed or not
DEEPEST = 50  # levels of JSON: many times what any file here has
ENDS = 100  # times that an archive may be asked for more after its end
NAME = 200  # characters of a class's name: tables of names are as wide as the longest


def plain(path: Path | str) -> Path:
    """The path, where a plain file (or a link to one) lies there: a pipe would be waited for, a device has no end.

    Raises:
        FileNotFoundError: Nothing lies there.
        ValueError: Something else does.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path} is no plain file" + ("; it is a folder: name its files" if path.is_dir() else ""))
    return path


def content(path: Path, most: int = MOST) -> bytes:
    """All bytes of a plain file.

    Raises:
        FileNotFoundError, ValueError: As `plain`; or it has more than `most` bytes.
    """
    with plain(path).open("rb") as file:
        if (size := path.stat().st_size) > most:
            raise ValueError(f"{path} has {size:,} bytes; at most {most:,} are read")
        return file.read()


def stamp(status: os.stat_result) -> tuple[int, int, int]:
    """What changes when a file does, for the keys of caches: its size and both times of change.

    The second of the times cannot be set, so that a copy which keeps the first (`cp -p`, an archive) is seen as well.
    """
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def sha256(path: Path) -> str:
    """Of a plain file's bytes, in hexadecimal. Raises as `plain`."""
    digest = hashlib.sha256()
    with plain(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def text(path: Path, most: int = MOST) -> str:
    """A plain file's text. Raises ValueError, naming the file and the place, where it is not UTF-8; else as above."""
    found = content(path, most)
    try:
        return found.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: byte {error.start}") from None


def from_json(given: str) -> Any:
    """Parse JSON. Raises ValueError for all that is wrong with it, too deep a nesting included."""
    try:
        found = json.loads(given)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [found]
    for _ in range(DEEPEST):  # what could just be parsed could still not be shown
        level = [
            inner
            for one in level
            if isinstance(one, (dict, list))
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return found
    raise ValueError("it is nested too deeply")


def class_names(names: Sequence[str], where: Path | str) -> Sequence[str]:
    """The names, where all can stand in tables and files. Raises ValueError for one that is too long, or no text."""
    for name in names:
        if len(name) > NAME:
            raise ValueError(f"{where} names a class of {len(name):,} characters; at most {NAME} are taken")
        if name.encode(errors="replace").decode() != name:
            raise ValueError(f"{where} names a class {name!r}, which is not UTF-8")
    return names


# --- Archives ---------------------------------------------------------------------------------------------------------


class Bounded:
    """A file of which at most so many bytes are read, whatever it claims: what is unpacked can be a bomb."""

    def __init__(self, file: Any, most: int, path: Path) -> None:
        self.file, self.left, self.path, self.ends = file, most, path, 0

    def read(self, size: int) -> bytes:
        """The next bytes, as many as `size` or fewer. Raises ValueError beyond the bound."""
        found: bytes = self.file.read(size)
        self.left -= len(found)
        if self.left < 0:
            raise Refused(f"{self.path} unpacks to more bytes than its like has: a bomb, or another archive")
        self.ends += not found
        if self.ends > ENDS:  # tarfile would go on, for as long as a header says
            raise Refused(f"{self.path} is damaged or cut short: it ends within a file")
        return found


class Refused(ValueError):
    """An archive holds what it should not."""


def members(path: Path, most: int, count: int) -> Iterator[tuple[str, IO[bytes]]]:
    """The plain files of a tar archive, gzipped or not, one after the other, each to be read before the next.

    It is read as a stream, never sought in: sizes that lead backwards (CVE-2025-8194) cannot make it go round for ever.
    Nor can those beyond its end (CVE-2026-11972): `Bounded` sees to that.

    Args:
        path: The archive.
        most: Bytes that it may unpack to.
        count: Members that it may have.

    Yields:
        A file's name, which leads nowhere else, and the open file, to be read under `telling`.

    Raises:
        ValueError: It is damaged or cut short; holds a link, a device, or a name that leads outside; or is a bomb.
    """
    with plain(path).open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream: Any = Bounded(gzip.GzipFile(fileobj=raw) if packed else raw, most, path)
        number = 0
        with telling(path, Exception), tarfile.open(fileobj=stream, mode="r|") as tar:  # headers fail in any way
            while member := tar.next():
                cast(Any, tar).members = []  # it would keep them all
                number += 1
                if number > count:
                    raise Refused(f"{path} holds more than {count:,} files: a bomb, or another archive")
                file = _opened(path, tar, member)
                if file is not None:
                    yield member.name, file


def _opened(path: Path, tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes] | None:
    """The open file, None for a folder. Raises Refused for whatever else."""
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\\" in member.name or "\0" in member.name:
        raise Refused(f"{path} holds {member.name!r}, which leads outside its folder")
    if member.isdir():
        return None
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.sparse is not None:
        raise Refused(f"{path} holds {member.name!r}, which is no plain file: neither links nor devices are unpacked")
    return tar.extractfile(member)


DAMAGED: tuple[type[Exception], ...] = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile)


@contextmanager
def telling(path: Path, *kinds: type[Exception]) -> Iterator[None]:
    """Turn what a damaged archive raises, and errors of these kinds, into a ValueError that names it."""
    try:
        yield
    except Refused:
        raise
    except (*DAMAGED, *kinds) as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path} is damaged or cut short: {reason}") from None


def unpack(path: Path, folder: Path, wanted: Callable[[str], str], most: int, count: int) -> None:
    """Unpack the plain files of an archive below `folder`, each under the name that `wanted` gives it, if any.

    Raises:
        ValueError: As `members`.
        OSError: They cannot be written.
    """
    for name, file in members(path, most, count):
        if inner := wanted(name):
            place = folder / inner
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as out, telling(path):
                shutil.copyfileobj(file, out)


def gunzipped(path: Path, sizes: Callable[[bytes], int], header: int) -> bytes:
    """Unpack a gzip file no further than one byte beyond what its first bytes promise.

    Args:
        path: The file.
        sizes: Gives, of the first `header` bytes, how many there should be in all. Raises ValueError.
        header: How many bytes that takes.

    Raises:
        ValueError: It is no whole gzip file, or promises more than `MOST` bytes.
    """
    try:
        with gzip.open(plain(path)) as file:
            first = file.read(header)
            wanted = sizes(first) if len(first) == header else 0
            if wanted > MOST:
                raise ValueError(f"{path} promises {wanted:,} bytes; at most {MOST:,} are unpacked")
            found = bytearray(first)
            while len(found) <= wanted and (chunk := file.read(min(1 << 20, wanted + 1 - len(found)))):
                found += chunk
            return bytes(found)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is no whole gzip file: {error}") from None
