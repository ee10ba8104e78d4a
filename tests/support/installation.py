"""An environment with the installed wheel, whose commands run without network and repository."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from conftest import ROOT, Answer

OFFLINE = ROOT / "tests/wheel/offline.py"
UNSHARE = ["unshare", "--net", "--mount", "--map-root-user"]
TIME_LIMIT = 1800  # seconds, for a busy machine


@dataclass(frozen=True)
class Installation:
    """An environment with the wheel in it."""

    venv: Path
    home: Path
    prefix: list[str]  # what a command starts with, so that it runs isolated; empty where the machine forbids that

    def run(self, *command: str) -> Answer:
        """Run a program of the environment in the current folder."""
        done = subprocess.run(
            [*self.prefix, str(self.venv / "bin" / command[0]), *command[1:]],
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def _environment(self) -> dict[str, str]:
        """What a user's shell has, without what the tests have set."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("DECATHLON", "PYTHON", "XDG"))
        }
        nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
        return kept | nowhere | {"HOME": str(self.home), "HF_HUB_OFFLINE": "1", "no_proxy": "localhost,127.0.0.1"}


def isolation() -> list[str]:
    """The start of a command that runs without network and source; nothing where namespaces are not allowed."""
    prefix = [*UNSHARE, sys.executable, str(OFFLINE), str(ROOT / "src")]
    try:
        subprocess.run([*prefix, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return prefix
