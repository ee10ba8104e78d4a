"""The properties of tests/data/test_hostile.py, with many examples. HOSTILE_EXAMPLES says how many of each."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "data"))
import hostile
import test_hostile

# Of a failing example only: large ones are nothing for a terminal.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")
EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", "2000"))


@pytest.mark.parametrize("name", list(hostile.readers()))
def test_any_file_is_read_or_refused(name: str, tmp_path: Path) -> None:
    tried = test_hostile.try_reader(name, tmp_path, EXAMPLES)
    print(f"{name}: {tried:,} files tried")
    assert tried >= EXAMPLES


@pytest.mark.parametrize("name", list(hostile.folders()))
def test_any_folder_is_read_or_refused(name: str, tmp_path: Path) -> None:
    tried = test_hostile.try_folder(name, tmp_path, EXAMPLES)
    print(f"{name}: {tried:,} folders tried")
    assert tried >= EXAMPLES
