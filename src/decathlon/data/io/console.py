"""A progress bar around any iterable, in a terminal only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")
CONSOLE = Console(stderr=True)  # one for all bars: only so can one stand under another


def track_in_terminal(items: Iterable[T], what: str, total: int) -> Iterable[T]:
    """The items, with a bar (in a terminal only) that goes when they are through."""
    return track(items, what, total, console=CONSOLE, transient=True) if CONSOLE.is_terminal else items
