"""Files and folders that are there whole or not at all, whatever stops the process that writes them."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
SHUT = (errno.EROFS, errno.EACCES, errno.EPERM)


class Unwritable(OSError):
    """A file could not be written: the message is one line that says which and why."""


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A name beside `path` to write a file to, which takes its place in one step when all went well.

    Raises:
        Unwritable: What was at `path` before is still there.
    """
    with told(path), scratch(path) as part:
        yield part
        settle(part, path)


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """A name beside `path` for a file or folder in the making; what is left of it at the end is removed.

    So is what killed processes left. The name holds host and process, since a data folder may be shared.
    """
    host = socket.gethostname()
    for left in path.parent.glob(f"{glob.escape(f'{path.name}.{host}-')}*.part"):
        number = left.name.removesuffix(".part").rpartition("-")[2]
        if not (number.isdigit() and _alive(int(number))):
            remove(left)
    part = path.with_name(f"{path.name}.{host}-{os.getpid()}.part")
    try:
        yield part
    finally:
        remove(part)


def settle(part: Path, path: Path) -> None:
    """Give a finished file or folder its name. After a power cut the old one is there, or the whole new one."""
    if part.is_dir():
        os.sync()  # there are thousands of files in it
        try:
            part.rename(path)
        except OSError:
            if not path.is_dir():  # or another process was faster, and made the same
                raise
    else:
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    with contextlib.suppress(OSError):  # not all kinds of disk can do it
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, where there is one and it may be done."""
    with contextlib.suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Say of an OSError what could not be written, and the way out: raises Unwritable."""
    try:
        yield
    except Unwritable:
        raise
    except OSError as error:
        way = "; make space there" if error.errno in FULL else "; it must be writable" if error.errno in SHUT else ""
        failed = Unwritable(f"could not write {path}: {error.strerror or error}{way}")
        failed.errno = error.errno
        raise failed from error


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
