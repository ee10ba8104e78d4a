"""What the tests share: a data folder with nothing but sample data, and the command line called in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from bad_server import Server, serving

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # bit-for-bit promises are for the CPU
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in decathlon.__main__

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Answer:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The line that a failed command ends with; asserts that it is one line and no traceback."""
        lines = self.err.strip().splitlines()
        assert lines, self
        assert "Traceback" not in self.err
        assert lines[-1].startswith("decathlon: "), self.err
        return lines[-1]


Command = Callable[..., Answer]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs in a folder of its own, and finds no data but what it makes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DECATHLON_DATA", str(cache))
    monkeypatch.setattr(os, "fsync", lambda number: None)  # no test cuts the power: thousands of files need not wait
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


@pytest.fixture
def server() -> Iterator[Server]:
    """A download server that can be told to misbehave."""
    with serving() as made:
        yield made


@pytest.fixture
def decathlon(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process, as `decathlon …` would."""
    from decathlon.cli import run_command

    def call(*args: str | Path) -> Answer:
        capsys.readouterr()
        status = run_command([str(arg) for arg in args])
        return Answer(status, *capsys.readouterr())

    return call
