"""A full disk and a read-only one end in one clear line; what was there stays, and goes on when there is space."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from bad_server import Server
from conftest import Command
from disk import Disk, disk
from resuming import interrupt_after
from test_kills import arrays_to_cache, kept_pictures, picture_files, same
from test_reliability import TRAIN

from decathlon.data.io import atomic, cache, download
from decathlon.training import checkpoint

__all__ = ["disk"]  # a fixture

pytestmark = pytest.mark.usefixtures("without_plots")

WHOLE: list[tuple[bytes, bytes]] = []


def result(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "model.safetensors").read_bytes(), (folder / "metrics.jsonl").read_bytes()


@pytest.fixture
def whole(decathlon: Command) -> tuple[bytes, bytes]:
    """Weights and metrics of a run that nothing stopped."""
    if not WHOLE:
        assert decathlon(*TRAIN, "--epochs", "3", "--out", "whole").status == 0
        WHOLE.append(result(Path("whole")))
    return WHOLE[0]


def test_a_disk_that_fills_up(disk: Disk, whole: tuple[bytes, bytes], decathlon: Command) -> None:
    """There is room for two checkpoints; the third is what fails."""
    folder = disk.place / "run"
    disk.become("size=2m")
    answer = decathlon(*TRAIN, "--epochs", "3", "--out", folder)
    assert answer.status == 1
    third = folder / "checkpoint" / "step-00000063.safetensors"
    assert answer.error == (
        f"decathlon: could not write {third}: No space left on device; make space there; "
        f"then continue the training: --resume {folder}"
    )
    names = sorted(path.name for path in (folder / "checkpoint").iterdir())
    assert names == [f"step-000000{step}.{kind}" for step in (21, 42) for kind in ("json", "safetensors")]
    loaded = checkpoint.load(folder, "mnist-mlp")
    assert loaded is not None
    assert loaded.state.step == 42
    again = decathlon("train", "mnist-mlp", "--resume", folder)
    assert (again.status, again.error) == (1, answer.error)
    disk.become("size=64m")
    assert decathlon("train", "mnist-mlp", "--resume", folder).status == 0
    assert result(folder) == whole


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_no_space_at_all(
    how: str, disk: Disk, whole: tuple[bytes, bytes], decathlon: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = disk.place / "run"
    with monkeypatch.context() as patch:
        interrupt_after(patch, 30)
        assert decathlon(*TRAIN, "--epochs", "3", "--out", folder).status == 1
    before = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    disk.fill() if how == "full" else disk.become("ro")
    reason = "No space left on device; make space" if how == "full" else "Read-only file system; it must be writable"
    answer = decathlon("train", "mnist-mlp", "--resume", folder)
    assert answer.status == 1
    assert f"could not write {folder}/" in answer.error
    assert reason in answer.error
    assert {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    new = decathlon(*TRAIN, "--out", disk.place / "new")
    assert new.status == 1
    assert str(disk.place / "new") in new.error
    assert "val accuracy" not in new.err, "no training before the folder is known to be writable"
    disk.clear() if how == "full" else disk.become("rw")
    assert decathlon("train", "mnist-mlp", "--resume", folder).status == 0
    assert result(folder) == whole


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_sample_data(how: str, disk: Disk, decathlon: Command) -> None:
    for name in ("mnist-mlp", "cifar10-cnn", "imdb-textcnn", "pets-unet", "voc-retinanet"):
        command = ("train", name, "--data", "sample", "--data-dir", disk.place, "--dry-run")
        disk.fill() if how == "full" else disk.become("ro")
        answer = decathlon(*command)
        assert answer.status == 1
        assert ("No space left on device" if how == "full" else "Read-only file system") in answer.error
        assert str(disk.place) in answer.error
        disk.clear() if how == "full" else disk.become("rw")
        assert list(disk.place.rglob("*.part")) == []


def test_caches(disk: Disk, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = disk.place / "cache" / "digits.npz"
    for ready, undo in ((disk.fill, disk.clear), (lambda: disk.become("ro"), lambda: disk.become("rw"))):
        ready()
        assert same(cache.load_or_make(path, arrays_to_cache))
        assert "could not be kept for the next start: " in capsys.readouterr().err
        undo()
        assert not path.exists()
    assert same(cache.load_or_make(path, arrays_to_cache))
    assert same(cache.read_arrays(path))
    disk.become("size=256k")
    large = {"large": np.zeros(1 << 20, np.uint8)}
    assert cache.load_or_make(path.with_name("large.npz"), lambda: large).keys() == large.keys()
    assert [p.name for p in path.parent.iterdir()] == ["digits.npz"], "nothing half is left"


def test_decoded_images(disk: Disk, tmp_path: Path) -> None:
    picture_files(tmp_path)
    path = disk.place / "cache" / "voc"
    path.parent.mkdir()
    expected = kept_pictures(tmp_path / "voc")
    disk.fill()
    with pytest.raises(OSError, match=r"could not be kept in .*cache: No space left on device"):
        kept_pictures(path)
    disk.clear()
    disk.become("ro")
    with pytest.raises(OSError, match=r"could not be kept in .*cache: Read-only file system"):
        kept_pictures(path)
    disk.become("rw")
    assert list(path.parent.iterdir()) == []
    assert kept_pictures(path) == expected


def test_downloads(disk: Disk, server: Server) -> None:
    content = bytes(range(256)) * 4000
    path, checksum = disk.place / "file", hashlib.md5(content).hexdigest()
    server.files = {"file": content}
    disk.become("ro")
    with pytest.raises(atomic.Unwritable, match=r"could not write .*: Read-only file system; it must be writable"):
        download.fetch([server.url()], path, checksum)
    assert server.asked == []
    disk.become("rw")
    disk.become("size=512k")
    with pytest.raises(atomic.Unwritable, match=r"could not write .*: No space left on device; make space there"):
        download.fetch([server.url()], path, checksum)
    assert not path.exists()
    have = path.with_name("file.part").stat().st_size
    assert 400_000 < have <= 512 << 10
    disk.become("size=64m")
    assert download.fetch([server.url()], path, checksum).read_bytes() == content
    assert server.asked == [("/file", None), ("/file", f"bytes={have}-")], "and it is not tried again in vain"
