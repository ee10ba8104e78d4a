"""Writing a file in one step: what is left of killed processes goes, what others are writing stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from decathlon.data.io import atomic


def test_parts_of_other_hosts_and_living_processes_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "gpu")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = [f"x.gpu-{ended.pid}.part", f"x.gpu-1-{ended.pid}.part", f"x.gpu-{os.getppid()}.part", "x.cpu-1.part"]
    for name in names:
        (tmp_path / name).touch()
    with atomic.temporary_path(tmp_path / "x"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])
