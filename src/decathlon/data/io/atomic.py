"""Files and folders that are there whole or not at all, whatever stops the process that writes them."""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


class Unwritable(OSError):
    """A file could not be written: the message is one line that says which and why."""


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """A name beside `path` to write a file to, which takes its place in one step when all went well.

    Raises:
        Unwritable: What was at `path` before is still there.
    """
    with naming_errors(path), temporary_path(path) as part:
        yield part
        replace_path(part, path)


@contextmanager
def temporary_path(path: Path) -> Iterator[Path]:
    """A name beside `path` for a file or folder in the making; what is left of it at the end is removed.

    So is what killed processes left. The name holds host and process, since a data folder may be shared.
    """
    host = socket.gethostname()
    for left in path.parent.glob(f"{glob.escape(f'{path.name}.{host}-')}*.part"):
        number = left.name.removeprefix(f"{path.name}.{host}-").removesuffix(".part")
        if number.isdigit() and not _alive(int(number)):  # else of another host, whose name begins with this one's
            remove(left)
    part = path.with_name(f"{path.name}.{host}-{os.getpid()}.part")
    try:
        yield part
    finally:
        remove(part)


def replace_path(part: Path, path: Path) -> None:
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
def naming_errors(path: Path) -> Iterator[None]:
    """Say of an OSError what could not be written, and the way out: raises Unwritable."""
    try:
        yield
    except Unwritable:
        raise
    except OSError as error:
        way = (
            "; make space there"
            if error.errno in DISK_FULL
            else "; it must be writable"
            if error.errno in READ_ONLY
            else ""
        )
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


def write_text(path: Path, text: str) -> Path:
    """Write beside and move into place, so that the file is never half there."""
    with write_atomically(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, value: Any) -> None:
    """Write JSON in one step."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def save_weights(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors as safetensors, beside and moved into place. Tied weights are written twice."""
    # Not by save_file: it has a temporary file of its own in the folder, which stays there after a kill.
    content = save({name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()})
    with write_atomically(path) as part:
        part.write_bytes(content)
