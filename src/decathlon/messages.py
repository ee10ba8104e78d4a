"""How messages to the user are worded and printed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

MAX_NAMES = 3  # names that a message gives of many
_recorders: list[tuple[list[str], bool]] = []


def printable(text: object) -> str:
    r"""Escape control characters, such as \x1b, so that any text can be printed to a terminal."""
    return "".join(c if c.isprintable() or c in "\u00a0\u202f" else repr(c)[1:-1] for c in str(text))


def pluralize(number: int, noun: str) -> str:
    """`1 thread`, `2 threads`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Format a time as seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def say(message: str) -> None:
    """Print a message to standard error, apart from the results."""
    print(printable(message), file=sys.stderr, flush=True)


def some(names: Iterable[object]) -> str:
    """The first names of many, for a message: `a, b, c, …`."""
    listed = list(names)
    return ", ".join(map(str, listed[:MAX_NAMES])) + (", …" if len(listed) > MAX_NAMES else "")


def warn(message: str) -> None:
    """Say what was left out, changed or assumed in the user's data; `recording_warnings` keeps it."""
    for recorder, _ in _recorders:
        recorder.append(message)
    if not any(quiet for _, quiet in _recorders):
        say(message)


@contextmanager
def recording_warnings(quiet: bool = False) -> Iterator[list[str]]:
    """The list of all warnings that are given inside, for a cache or a page; with `quiet` they are not printed."""
    recorder: list[str] = []
    _recorders.append((recorder, quiet))
    try:
        yield recorder
    finally:
        _recorders.pop()
