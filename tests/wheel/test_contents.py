"""What is in the wheel and in the source distribution."""

from __future__ import annotations

import email
import re
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

MAX_BYTES = 75 * 2**20
SOURCE = ROOT / "src"


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def package_files() -> set[str]:
    files = (path for path in (SOURCE / "decathlon").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(SOURCE).as_posix() for path in files}


def test_the_wheel_has_every_file_of_the_package_and_no_other(names: set[str]) -> None:
    assert {name for name in names if ".dist-info/" not in name} == package_files()


@pytest.mark.parametrize(
    "pattern",
    [
        r"decathlon/weights/[\w-]+/model\.safetensors",
        r"decathlon/weights/[\w-]+/card\.json",
        r"decathlon/weights/roberta-mini/tokenizer\.json",
        r"decathlon/reporting/templates/\w+\.html",
        r"decathlon/demo/\w+\.css",
        r"decathlon/demo/\w+\.js",
        r"decathlon/demo/photos/\w+\.jpg",
        r"decathlon/demo/photos/README\.md",  # where the photos come from
        r"decathlon/py\.typed",
        r"decathlon-[\d.]+\.dist-info/licenses/LICENSE",
    ],
)
def test_the_wheel_has_all_kinds_of_data(pattern: str, names: set[str]) -> None:
    assert any(re.fullmatch(pattern, name) for name in names)


def test_the_files_are_small_enough(wheel: Path) -> None:
    for path in (wheel, sdist(wheel)):
        assert path.stat().st_size <= MAX_BYTES, path.name


def test_the_metadata_are_those_of_pyproject(wheel: Path, names: set[str]) -> None:
    (name,) = [name for name in names if name.endswith(".dist-info/METADATA")]
    metadata = email.message_from_bytes(zipfile.ZipFile(wheel).read(name))
    text = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{metadata["Version"]}"' in text
    assert metadata["License-Expression"] == "MIT"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Requires-Python"] == ">=3.10"
    assert {"demo", "export", "pretrained", "tensorboard"} <= set(metadata.get_all("Provides-Extra", []))


def sdist(wheel: Path) -> Path:
    return wheel.with_name(wheel.name.replace("-py3-none-any.whl", ".tar.gz"))


def test_the_source_distribution_has_what_a_packager_needs(wheel: Path) -> None:
    with tarfile.open(sdist(wheel)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"src/{name}" for name in package_files()} <= names
    assert {"LICENSE", "README.md", "CHANGELOG.md", "SECURITY.md", "constraints.txt", "pyproject.toml"} <= names
