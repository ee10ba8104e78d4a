"""Whatever lies in a file, it is read as what it should be or refused in one line that names it; nothing else happens.

The properties run with few examples here, and with many in tests/soak/test_many_hostile.py.
"""

from __future__ import annotations

from pathlib import Path

import hostile
import pytest
import spoiled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXAMPLES = 25


def thorough(examples: int) -> settings:
    """The same examples at every run where they are few: `make test` must not fail by chance."""
    checks = list(HealthCheck)
    few = examples <= EXAMPLES
    return settings(max_examples=examples, deadline=None, database=None, suppress_health_check=checks, derandomize=few)


def try_reader(name: str, folder: Path, examples: int) -> int:
    """Assert what a reader owes for so many files; how many of them were tried."""
    reader = hostile.readers()[name]
    (folder / "photo.png").write_bytes(spoiled.image())
    tried = []

    @thorough(examples)
    @given(content=reader.examples)
    def holds(content: bytes) -> None:
        tried.append(reader.holds(content, folder))

    holds()
    return len(tried)


@pytest.mark.parametrize("name", list(hostile.readers()))
def test_any_file_is_read_or_refused(name: str, tmp_path: Path) -> None:
    assert try_reader(name, tmp_path, EXAMPLES) >= EXAMPLES


def try_folder(name: str, folder: Path, examples: int) -> int:
    """The same for what is a folder of files: one of them is spoiled each time."""
    place = hostile.folders()[name]
    tried = []

    @thorough(examples)
    @given(data=st.data())
    def holds(data: st.DataObject) -> None:
        tried.append(place.holds(data, folder / f"{name}-{len(tried)}"))

    holds()
    return len(tried)


@pytest.mark.parametrize("name", list(hostile.folders()))
def test_any_folder_is_read_or_refused(name: str, tmp_path: Path) -> None:
    assert try_folder(name, tmp_path, EXAMPLES) >= EXAMPLES


@pytest.mark.parametrize("name", list(hostile.readers()))
def test_the_file_as_it_should_be_is_read(name: str, tmp_path: Path) -> None:
    """A reader that refuses everything would pass the properties."""
    reader = hostile.readers()[name]
    (tmp_path / "photo.png").write_bytes(spoiled.image())
    assert reader.holds(reader.valid, tmp_path)


@pytest.mark.parametrize("name", list(hostile.folders()))
def test_the_folder_as_it_should_be_is_read(name: str, tmp_path: Path) -> None:
    place = hostile.folders()[name]
    hostile.write(tmp_path, place.files())
    read = place.read(tmp_path)
    assert read is not None  # of a checkpoint that is not taken
    assert place.well_formed(read)
