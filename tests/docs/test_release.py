"""What a release needs: one version, a changelog, and licences that are allowed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import decathlon

ENTRY = re.compile(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})$", re.MULTILINE)


def test_the_version_is_the_same_everywhere() -> None:
    newest = ENTRY.findall((ROOT / "CHANGELOG.md").read_text())[0][0]
    assert f'\nversion = "{newest}"\n' in (ROOT / "pyproject.toml").read_text()
    assert decathlon.__version__ == newest


def test_the_changelog_is_in_order() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    entries = ENTRY.findall(text)
    assert len(entries) == text.count("\n## ")
    assert [date for _, date in entries] == sorted((date for _, date in entries), reverse=True)
    kinds = {line.removeprefix("### ") for line in text.splitlines() if line.startswith("### ")}
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_links_of_the_changelog_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", (ROOT / "CHANGELOG.md").read_text()):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def pip_licenses(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the packages of this environment and those in a folder, as `make check` does."""
    program = Path(sys.executable).with_name("pip-licenses")
    environment = os.environ | {"PYTHONPATH": str(folder)}
    return subprocess.run([program], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("AGPL-3.0-only", False),
        ("GPL-3.0-or-later", False),
        ("MIT AND GPL-2.0-only", False),
        ("LGPL-3.0-only", False),
        ("", False),
    ],
)
def test_a_package_with_another_licence_is_refused(licence: str, allowed: bool, tmp_path: Path) -> None:
    folder = tmp_path / "made_up-1.0.dist-info"
    folder.mkdir()
    expression = f"License-Expression: {licence}\n" if licence else ""
    (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: made-up\nVersion: 1.0\n{expression}")
    done = pip_licenses(tmp_path)
    if allowed:
        assert done.returncode == 0, done.stderr
        assert "made-up" in done.stdout
    else:
        assert done.returncode == 1
        assert "made-up:1.0" in done.stderr
