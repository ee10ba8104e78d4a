"""Fetch a file so that it is either there whole, or not there: resumable, verified, moved into place in one step."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import http.client
import os
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from decathlon.data.io import atomic
from decathlon.messages import say

# Why not pooch (1.9): it cannot resume, starts a broken download again from its first byte, has no bound for a server
# that sends slowly or without end, tries again after 404, and leaves the temporary files of killed processes. A second
# way for small files only would be more code and weaker promises than this one for all (docs/reliability/downloads.md).
CHUNK_BYTES = 1 << 16
TRIES = 4  # of each address; one that brought MIN_PROGRESS_BYTES does not count
MIN_PROGRESS_BYTES = 1 << 20  # bytes
TIMEOUT = 20.0  # seconds without a byte, or with fewer than MIN_BYTES_PER_SECOND, until the connection counts as dead
MIN_BYTES_PER_SECOND = 1024
MAX_DOWNLOAD_BYTES = 8 << 30  # bytes; no data set here has a file of more than 2 GB
RETRY_STATUSES = (408, 425, 429)  # the client errors that a later try may not get


def md5(path: Path) -> str:
    """MD5 of a file: what the data sets' publishers give. It finds damage; it is no protection against forgery."""
    return _digest(path, hashlib.md5(usedforsecurity=False))


def require_checksum(path: Path, checksum: str) -> None:
    """Raise ValueError where a file is there and has not this MD5."""
    if path.exists() and md5(path) != checksum:
        raise ValueError(f"{path} is damaged or cut short: its checksum is wrong; delete it and run again")


def has_checksum(path: Path, checksum: str) -> bool:
    """Whether a file has this checksum: an MD5, or `sha256:` and how that begins."""
    kind, _, wanted = checksum.rpartition(":")
    return _digest(path, hashlib.sha256()).startswith(wanted) if kind == "sha256" else md5(path) == wanted


def fetch(urls: Sequence[str], path: Path, checksum: str, wait: float = 1.0, timeout: float = TIMEOUT) -> Path:
    """Download to `path` from the first of `urls` that gives a file with this checksum.

    What an earlier, broken download left in `path`.part is continued.

    Args:
        urls: The same file, each tried a few times.
        path: Where to.
        checksum: As `has_checksum` takes it.
        wait: The pause before the second try, in seconds; it doubles.
        timeout: As `TIMEOUT`.

    Raises:
        OSError: The disk is full or may not be written to.
        ConnectionError: No address gave the file; says why the last one did not, and where to put it by hand.
    """
    with atomic.naming_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    part, reason = path.with_name(path.name + ".part"), "no address"
    with _alone(part):
        if path.exists() and has_checksum(path, checksum):
            return path  # another process fetched it while this one waited
        complete = _size(part) > 0 and has_checksum(part, checksum)  # a process was killed before it renamed the file
        for url in urls:
            tries = 0
            while not complete and tries < TRIES:
                before = _size(part)
                complete, again, reason = _attempt(url, part, checksum, timeout)
                tries += _size(part) < before + MIN_PROGRESS_BYTES
                if not again:
                    break
                if tries < TRIES:
                    time.sleep(wait * 2**tries / 2)
        if complete:
            with atomic.naming_errors(path):
                atomic.replace_path(part, path)
            return path
    raise ConnectionError(f"could not download {path.name}: {reason}. Offline? Put the file at {path} yourself")


def _attempt(url: str, part: Path, checksum: str, timeout: float) -> tuple[bool, bool, str]:
    """Try once. Returns whether the whole file is there now, else whether another try may help, and what went wrong."""
    try:
        _get(url, part, timeout)
        ended, again, reason = True, True, f"{url} gave a damaged file (its checksum is not {checksum})"
    except atomic.Unwritable:
        raise
    except urllib.error.HTTPError as error:
        ended = error.code == 416  # the part is as long as the file, or longer
        again = ended or error.code in RETRY_STATUSES or error.code >= 500
        reason = f"{url} answered {error.code} {' '.join(str(error.reason).split())}"
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        no_network = isinstance(cause, socket.gaierror) or getattr(cause, "errno", None) == errno.ENETUNREACH
        ended, again, reason = False, not no_network, f"{url}: {cause or type(cause).__name__}"
    if _size(part) and has_checksum(part, checksum):  # whatever the server said of its length
        return True, False, ""
    if ended:
        _cut(part)
    return False, again, reason


def _get(url: str, part: Path, timeout: float) -> None:
    """Append the rest of `url` to `part`, from the start where the server knows no ranges."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from decathlon.data.io.console import CONSOLE

    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with urllib.request.urlopen(request, timeout=timeout) as response:
        content_range = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if have and not (response.status == 206 and content_range and int(content_range[1]) == have):
            have = 0
            _cut(part)
            if response.status == 206:
                raise ConnectionError("the server sent another part than was asked for")
        length = getattr(response, "length", None)  # which the response of a file: URL lacks
        total = None if length is None else have + length
        with Progress(*columns, console=CONSOLE) as bar, part.open("ab", buffering=0) as file:
            row = bar.add_task(part.name.removesuffix(".part"), total=total, completed=have)
            since, got = time.monotonic(), 0
            while chunk := memoryview(response.read1(CHUNK_BYTES)):
                got += len(chunk)
                bar.advance(row, len(chunk))
                with atomic.naming_errors(part):
                    while chunk:
                        chunk = chunk[file.write(chunk) :]
                if file.tell() > MAX_DOWNLOAD_BYTES:
                    _cut(part)
                    raise ConnectionError(f"the server sends without end: more than {MAX_DOWNLOAD_BYTES:,} bytes")
                if time.monotonic() - since > timeout:
                    if got < MIN_BYTES_PER_SECOND * timeout:
                        raise ConnectionError(f"fewer than {MIN_BYTES_PER_SECOND} bytes a second came")
                    since, got = time.monotonic(), 0
    if total is not None and _size(part) < total:
        raise ConnectionError(f"the connection broke after {_size(part)} of {total} bytes")


@contextmanager
def _alone(part: Path) -> Iterator[None]:
    """Only one process at a time writes to `part`.

    What two of them wrote would be no file, or one would go on writing after the other gave it its name.
    """
    while True:
        with atomic.naming_errors(part):
            file = part.open("ab")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"another process is fetching {part.name.removesuffix('.part')}: waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError:
                pass  # some network folders know no locks
            if _is_open_at(file, part):
                try:
                    yield
                finally:
                    if not _size(part):
                        atomic.remove(part)
                return


def _is_open_at(file: IO[bytes], part: Path) -> bool:
    """Whether an open file still has this path: another process may have renamed or removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), part.stat())
    except FileNotFoundError:
        return False


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except FileNotFoundError:  # asked in one step: another process may remove it at any moment
        return 0


def _cut(part: Path) -> None:
    with atomic.naming_errors(part):
        os.truncate(part, 0)


def _digest(path: Path, digest: hashlib._Hash) -> str:
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
