"""Unpacking tar and gzip archives of any origin, with bounds on what they unpack to."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from decathlon.data.io.files import MAX_FILE_BYTES, check_file

MAX_READS_AT_END = 100  # times that an archive may be asked for more after its end


class BoundedReader:
    """A file of which at most `max_bytes` are read, whatever it claims: archives can be decompression bombs."""

    def __init__(self, file: Any, max_bytes: int, path: Path) -> None:
        self.file, self.left, self.path, self.ends = file, max_bytes, path, 0

    def read(self, size: int) -> bytes:
        """The next bytes, as many as `size` or fewer. Raises ValueError beyond the bound."""
        content: bytes = self.file.read(size)
        self.left -= len(content)
        if self.left < 0:
            raise UnsafeArchive(
                f"{self.path} unpacks to more bytes than this data set has: a decompression bomb, or another archive"
            )
        self.ends += not content
        if self.ends > MAX_READS_AT_END:  # tarfile would go on, for as long as a header says
            raise UnsafeArchive(f"{self.path} is damaged or cut short: it ends within a file")
        return content


class UnsafeArchive(ValueError):
    """An archive holds what it should not."""


def iterate_members(path: Path, max_bytes: int, max_members: int) -> Iterator[tuple[str, IO[bytes]]]:
    """The plain files of a tar archive, gzipped or not, one after the other, each to be read before the next.

    It is read as a stream, without seeking: negative sizes (CVE-2025-8194) cannot cause an infinite loop. Nor can sizes
    beyond its end (CVE-2026-11972), since `BoundedReader` limits the reads there.

    Args:
        path: The archive.
        max_bytes: Bytes that it may unpack to.
        max_members: Files that it may have.

    Yields:
        A file's name, which leads nowhere else, and the open file, to be read under `naming_archive_errors`.

    Raises:
        ValueError: It is damaged or cut short; holds a link, a device, or a name that leads outside; or is a bomb.
    """
    with check_file(path).open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream: Any = BoundedReader(gzip.GzipFile(fileobj=raw) if packed else raw, max_bytes, path)
        number = 0
        with (
            naming_archive_errors(path, Exception),
            tarfile.open(fileobj=stream, mode="r|") as tar,
        ):  # headers fail in any way
            while member := tar.next():
                cast(Any, tar).members = []  # it would keep them all
                number += 1
                if number > max_members:
                    raise UnsafeArchive(f"{path} holds more than {max_members:,} files: a bomb, or another archive")
                file = _opened(path, tar, member)
                if file is not None:
                    yield member.name, file


def _opened(path: Path, tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes] | None:
    """The open file, None for a folder. Raises UnsafeArchive for anything else."""
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\\" in member.name or "\0" in member.name:
        raise UnsafeArchive(f"{path} holds {member.name!r}, which leads outside its folder")
    if member.isdir():
        return None
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.sparse is not None:
        raise UnsafeArchive(
            f"{path} holds {member.name!r}, which is not a regular file: neither links nor devices are unpacked"
        )
    return tar.extractfile(member)


DAMAGE_ERRORS: tuple[type[Exception], ...] = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile)


@contextmanager
def naming_archive_errors(path: Path, *kinds: type[Exception]) -> Iterator[None]:
    """Turn what a damaged archive raises, and errors of these kinds, into a ValueError that names it."""
    try:
        yield
    except UnsafeArchive:
        raise
    except (*DAMAGE_ERRORS, *kinds) as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path} is damaged or cut short: {reason}") from None


def unpack(path: Path, folder: Path, wanted: Callable[[str], str], max_bytes: int, max_members: int) -> None:
    """Unpack the plain files of an archive below `folder`, each under the name that `wanted` gives it, if any.

    Raises:
        ValueError: As `iterate_members`.
        OSError: They cannot be written.
    """
    for name, file in iterate_members(path, max_bytes, max_members):
        if inner := wanted(name):
            target = folder / inner
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as out, naming_archive_errors(path):
                shutil.copyfileobj(file, out)


def gunzip(path: Path, sizes: Callable[[bytes], int], header: int) -> bytes:
    """Unpack a gzip file no further than one byte beyond what its first bytes promise.

    Args:
        path: The file.
        sizes: Gives, of the first `header` bytes, how many there should be in all. Raises ValueError.
        header: How many bytes that takes.

    Raises:
        ValueError: It is not a whole gzip file, or promises more than `MAX_FILE_BYTES` bytes.
    """
    try:
        with gzip.open(check_file(path)) as file:
            first = file.read(header)
            wanted = sizes(first) if len(first) == header else 0
            if wanted > MAX_FILE_BYTES:
                raise ValueError(f"{path} promises {wanted:,} bytes; at most {MAX_FILE_BYTES:,} are unpacked")
            content = bytearray(first)
            while len(content) <= wanted and (chunk := file.read(min(1 << 20, wanted + 1 - len(content)))):
                content += chunk
            return bytes(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is not a whole gzip file: {error}") from None
