"""A small disk of its own, that can be full or read-only: a tmpfs, where we may mount one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


class Disk:
    """A mounted tmpfs."""

    def __init__(self, path: Path, size: str = "64m") -> None:
        path.mkdir()
        self.place = path
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "decathlon-test", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no disk may be mounted here, which takes root: {done.stderr.strip()}")

    def become(self, option: str) -> None:
        """`size=…`, `ro` or `rw`."""
        subprocess.run(["mount", "-o", f"remount,{option}", str(self.place)], check=True)

    def fill(self) -> None:
        """Leave not a byte."""
        with (self.place / "ballast").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    def clear(self) -> None:
        (self.place / "ballast").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    small_disk = Disk(tmp_path / "disk")
    yield small_disk
    subprocess.run(["umount", "-l", str(small_disk.place)], check=True)
