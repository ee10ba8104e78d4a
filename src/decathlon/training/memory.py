"""Memory: its peak in a training alone, and how the C library keeps what was freed."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from contextlib import suppress
from pathlib import Path

import torch

PROCESS = Path("/proc/self")


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next tensors instead of returning it; other C libraries are left alone.

    By default each large tensor is a mapping of its own, whose pages are zeroed anew for every batch: a fifth of the
    time of training a detector, and a quarter of evaluating it.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is not None and hasattr(libc, "mallopt"):
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no allocation is a mapping of its own
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


class MemoryMeter:
    """Peak memory from here on: on a GPU of all tensors, on a CPU what the process grows by.

    Args:
        device: The device of the training.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.before = device, None if device.type == "cuda" else _restart()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def peak_mib(self) -> int | None:
        """Peak in MiB; None where the system does not tell."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) // 2**20
        peak = _status_kib("VmHWM")
        return None if self.before is None or peak is None else max(0, peak - self.before) // 2**10


def _restart() -> int | None:
    """Free what can be freed, restart the system's record of this process's peak, and return its memory in KiB."""
    gc.collect()
    with suppress(AttributeError, OSError):  # of glibc: else memory that was freed would hide as much of the growth
        ctypes.CDLL(None).malloc_trim(0)
    try:
        (PROCESS / "clear_refs").write_text("5")  # proc(5): resets VmHWM
    except OSError:
        return None
    return _status_kib("VmRSS")


def _status_kib(name: str) -> int | None:
    """A line of /proc/self/status (Linux)."""
    with suppress(OSError):
        if match := re.search(rf"^{name}:\s+(\d+) kB", (PROCESS / "status").read_text(), re.MULTILINE):
            return int(match[1])
    return None
