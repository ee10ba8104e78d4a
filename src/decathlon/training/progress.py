"""The progress bar, the clock of the training time, and Ctrl-C."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from decathlon.data.io.console import CONSOLE
from decathlon.training.checkpoint import State


@contextmanager
def catch_interrupts() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, so that the loop stops between two steps. A second one stops at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def set_event(number: int, frame: Any) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    before = {number: signal.signal(number, set_event) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Clock:
    """Counts `state.train_seconds`: batches and steps, without compilation, evaluation and checkpoints.

    torch.compile works within a step, again for each new shape of a batch: from where it begins, that step does not
    count.
    """

    def __init__(self, state: State, device: torch.device, compiling: bool) -> None:
        self.state, self.device, self.zero = state, device, 0.0
        self.is_running = self.has_compiled = False
        if compiling:
            from torch._dynamo.callback import on_compile_start  # no public module tells when it compiles

            on_compile_start(lambda event: self.pause())

    def start(self) -> None:
        """Go on counting."""
        self.zero, self.is_running, self.has_compiled = time.perf_counter() - self.state.train_seconds, True, False

    def stop(self) -> None:
        """Set `state.train_seconds`."""
        self._wait_for_gpu()
        if self.is_running:
            self.state.train_seconds, self.is_running = time.perf_counter() - self.zero, False

    def pause(self) -> None:
        """torch.compile begins to work: stop until the end of the step; nothing where the clock stands."""
        if self.is_running:
            self.stop()
            self.has_compiled = True

    def skip_compilation(self) -> None:
        """At the end of a step, go on where torch.compile has stopped the clock."""
        if self.has_compiled:
            self._wait_for_gpu()
            self.start()

    def _wait_for_gpu(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


class ProgressBar:
    """Steps and their speed, the loss, and the last validation metric."""

    def __init__(self, name: str, total: int, visible: bool) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(20), TextColumn("{task.percentage:>3.0f}%"))
        self.bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=CONSOLE, disable=not visible)
        self.name, self.metric, self.updated_at = name, "", 0.0
        self.row = self.bar.add_task(name, total=total)

    def __enter__(self) -> ProgressBar:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def update(self, state: State, sums: dict[str, Tensor]) -> None:
        """Show step and loss, at most five times a second, since reading the loss makes a GPU wait."""
        if time.monotonic() - self.updated_at > 0.2:
            self.updated_at = time.monotonic()
            loss = sums["loss"].item() / state.batch if state.batch else 0.0
            self._show(state, f"epoch {state.epoch + 1}  loss {loss:.3f}")

    def show_metric(self, state: State, name: str, value: float) -> None:
        """Show the validation metric after an epoch."""
        self.metric = f"  val {name} {value:.4f}"
        self._show(state, f"epoch {state.epoch}")

    def _show(self, state: State, text: str) -> None:
        speed = self.bar.tasks[0].speed
        text += f"  {speed:.1f} steps/s" if speed else ""
        self.bar.update(self.row, completed=state.step, description=f"{self.name}  {text}{self.metric}")
