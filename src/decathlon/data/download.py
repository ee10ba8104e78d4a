"""Fetch a file so that it is either there whole, or not there: resumable, verified, moved into place in one step."""

from __future__ import annotations

import errno
import hashlib
import http.client
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from decathlon.data import files

CHUNK = 1 << 16
DISK = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EFBIG, errno.EDQUOT)  # not the network's fault
TRIES = 4  # of each address
TIMEOUT = 20  # seconds without a byte until the connection counts as dead


def md5(path: Path) -> str:
    """MD5 of a file: what the data sets' publishers give. It finds damage; it is no protection against forgery."""
    digest = hashlib.md5(usedforsecurity=False)
    with files.plain(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def fetch(urls: Sequence[str], path: Path, checksum: str, wait: float = 1.0) -> Path:
    """Download to `path` from the first of `urls` that gives a file with this MD5.

    What an earlier, broken download left in `path`.part is continued. `wait` is the pause before the second try, in
    seconds; it doubles.

    Raises:
        OSError: The disk is full or may not be written to.
        ConnectionError: No address gave the file; says why the last one did not, and where to put it by hand.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    reason = "no address"
    for url in urls:
        for attempt in range(TRIES):
            try:
                _get(url, part)
            except urllib.error.HTTPError as error:
                reason = f"{url} answered {error.code} {error.reason}"
                if error.code == 416:  # the part is as long as the file, or longer: start again
                    part.unlink(missing_ok=True)
                elif error.code < 500:
                    break
            except (OSError, http.client.HTTPException) as error:
                cause = getattr(error, "reason", error)
                if getattr(cause, "errno", None) in DISK:
                    raise
                reason = f"{url}: {cause}"
                if isinstance(cause, socket.gaierror) or getattr(cause, "errno", None) == errno.ENETUNREACH:
                    break  # no network: trying again only costs time
            else:
                if md5(part) == checksum:
                    return part.replace(path)
                reason = f"{url} gave a damaged file (its checksum is not {checksum})"
                part.unlink()
            if attempt < TRIES - 1:
                time.sleep(wait * 2**attempt)
    raise ConnectionError(f"could not download {path.name}: {reason}. Offline? Put the file at {path} yourself")


def _get(url: str, part: Path) -> None:
    """Append the rest of `url` to `part`, from the start where the server knows no ranges."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        if answer.status != 206:
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        with Progress(*columns, console=Console(stderr=True)) as bar, part.open("ab" if have else "wb") as file:
            row = bar.add_task(part.name.removesuffix(".part"), total=total, completed=have)
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                bar.advance(row, len(chunk))
    size = part.stat().st_size
    if total is not None and size < total:
        raise ConnectionError(f"the connection broke after {size} of {total} bytes")
