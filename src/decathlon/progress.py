"""What the user sees and does while the loop runs: a progress bar, and Ctrl-C."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn, track
from torch import Tensor

from decathlon.checkpoint import State

T = TypeVar("T")
CONSOLE = Console(stderr=True)  # one for all bars: only so can one stand under another


def tracked(items: Iterable[T], what: str, total: int) -> Iterable[T]:
    """The items, with a bar (in a terminal only) that goes when they are through."""
    return track(items, what, total, console=CONSOLE, transient=True) if CONSOLE.is_terminal else items


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set: the loop then stops between two steps. A second Ctrl-C stops at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def note(number: int, frame: Any) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Rows:
    """The progress bar: steps and their speed, loss, and the validation metric as last measured."""

    def __init__(self, name: str, total: int, visible: bool) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(20), TextColumn("{task.percentage:>3.0f}%"))
        self.bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=CONSOLE, disable=not visible)
        self.name, self.metric, self.shown = name, "", 0.0
        self.row = self.bar.add_task(name, total=total)

    def __enter__(self) -> Rows:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def update(self, state: State, sums: dict[str, Tensor]) -> None:
        """Show the step; the loss five times a second at the most, since reading it makes a GPU wait."""
        if time.monotonic() - self.shown > 0.2:
            self.shown = time.monotonic()
            loss = sums["loss"].item() / state.batch if state.batch else 0.0
            self._show(state, f"epoch {state.epoch + 1}  loss {loss:.3f}")

    def measured(self, state: State, name: str, value: float) -> None:
        """Show the metric as measured on validation after an epoch."""
        self.metric = f"  val {name} {value:.4f}"
        self._show(state, f"epoch {state.epoch}")

    def _show(self, state: State, what: str) -> None:
        speed = self.bar.tasks[0].speed
        what += f"  {speed:.1f} steps/s" if speed else ""
        self.bar.update(self.row, completed=state.step, description=f"{self.name}  {what}{self.metric}")
