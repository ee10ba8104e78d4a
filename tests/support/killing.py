"""Processes that are killed at a chosen moment: what they leave on the disk must do for the next one.

A server process imports torch and this package once and forks a child for every attempt (multiprocessing's forkserver),
so that an attempt costs hundredths of a second instead of the seconds that the imports take. A child kills itself with
SIGKILL just before its n-th operation on a file in a given folder (Python's audit hooks tell of every opening, renaming
and removing), or is killed by us after some seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

FORKS = multiprocessing.get_context("forkserver")
PRELOADED = ["pytest", "decathlon.training.checkpoint", "decathlon.data.embeddings", "decathlon.data.io.decoded_images"]
FORKS.set_forkserver_preload(PRELOADED)
OPERATIONS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        killed: By us; else it came to its end.
        value: What the work returned, None where it was killed.
        operations: Those on files of the folder, of an attempt that came to its end.
        seconds: How long the work ran.
        output: What it printed.
    """

    killed: bool
    value: Any
    operations: list[str]
    seconds: float
    output: str


def attempt(
    work: Callable[..., Any],
    *args: Any,
    folder: Path,
    before: int | None = None,
    torn: bool = False,
    after: float | None = None,
) -> Outcome:
    """Do `work(*args)` in a process of its own, in the folder that is current now.

    Args:
        work: A function at the top of a module.
        args: What to give to it.
        folder: Whose files count.
        before: Kill it just before this operation, from 0.
        torn: And where it is on a file in the making, cut that to half, as if the kill had come while it was written.
        after: Kill it after so many seconds of work.
    """
    receiver, sender = FORKS.Pipe()
    log = folder.parent / f"{folder.name}.log"
    details = (sender, dict(os.environ), str(Path.cwd()), str(folder), str(log), before, torn)
    process = FORKS.Process(target=_child, args=(work, args, *details))
    process.start()
    sender.close()
    receiver.recv()
    start, message = time.monotonic(), None
    try:
        if after is None or receiver.poll(after):
            message = receiver.recv()
        else:
            process.kill()
    except EOFError:  # it killed itself
        pass
    seconds = time.monotonic() - start
    process.join()
    output = log.read_text(errors="replace")
    if message is None:
        assert process.exitcode == -signal.SIGKILL, f"exit status {process.exitcode}: {output}"
        return Outcome(True, None, [], seconds, output)
    return Outcome(False, *message, seconds, output)


def _child(
    work: Callable[..., Any],
    args: tuple[Any, ...],
    parent: Connection,
    environment: dict[str, str],
    current: str,
    folder: str,
    log: str,
    before: int | None,
    torn: bool,
) -> None:
    os.environ.update(environment)
    os.chdir(current)
    torch.set_num_threads(
        1
    )  # as OMP_NUM_THREADS=1 would: threads that were started before a fork are not there after it
    with Path(log).open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    done, watching = list[str](), True

    def watch(event: str, details: tuple[Any, ...]) -> None:
        nonlocal watching
        if watching and event in OPERATIONS and isinstance(details[0], (str, os.PathLike)):
            path = Path(details[0]).absolute()
            if str(path).startswith(folder):
                if len(done) == before:
                    watching = False  # what follows is an operation, too
                    if torn and path.suffix == ".part" and path.exists():
                        os.truncate(path, path.stat().st_size // 2)
                    os.kill(os.getpid(), signal.SIGKILL)
                done.append(f"{event} {str(path).removeprefix(folder).lstrip('/')}")

    sys.addaudithook(watch)
    parent.send("ready")
    value = work(*args)
    sys.stdout.flush()
    parent.send((value, done))
