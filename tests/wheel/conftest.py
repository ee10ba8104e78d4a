"""The built wheel, installed into an environment of its own, and its commands run without network and repository."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Answer
from installation import Installation, isolation


@pytest.fixture(scope="session")
def wheel() -> Path:
    """The wheel that `make test-wheel` has built."""
    wheels = list((ROOT / "dist").glob("decathlon-*.whl"))
    assert len(wheels) == 1, f"run make test-wheel, which builds the wheel; dist has {wheels}"
    return wheels[0]


@pytest.fixture(scope="session")
def installation(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The environment that DECATHLON_WHEEL_VENV names, else a new one that borrows the tests' dependencies.

    The new environment holds decathlon alone. A .pth file adds the folder of the dependencies that are tested here. The
    checkout, which is installed there, too, cannot be imported from it: .pth files of added folders are not read.
    """
    home = tmp_path_factory.mktemp("home")
    given = os.environ.get("DECATHLON_WHEEL_VENV")
    if given:
        return Installation((ROOT / given).absolute(), home, isolation())
    venv = tmp_path_factory.mktemp("wheel") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin/python"), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-q", "--no-index", "--no-deps", wheel], check=True)
    (site_packages,) = venv.glob("lib/python*/site-packages")
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return Installation(venv, home, isolation())


@pytest.fixture
def run(installation: Installation) -> Callable[..., Answer]:
    """Run a program of the environment in the test's own empty folder; it must succeed."""

    def call(*command: str) -> Answer:
        answer = installation.run(*command)
        assert answer.status == 0, answer.err
        assert "Traceback" not in answer.err, answer.err
        return answer

    return call
