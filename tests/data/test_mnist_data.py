"""Reading MNIST: what is wrong with a file is found and named; what is missing is fetched and verified."""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from bad_server import Server
from conftest import Command
from hypothesis import given, settings
from hypothesis import strategies as st

from decathlon.data import mnist
from decathlon.data.base import parse_source
from decathlon.data.io import download, idx
from decathlon.data.synthetic import digits as sample


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    return sample.write_digits(tmp_path / "own")


def test_sample_is_seeded_and_read_by_the_same_loader(tmp_path: Path) -> None:
    one, two = (sample.write_digits(tmp_path / name) for name in ("one", "two"))
    for name in mnist.FILES:
        assert (one / name).read_bytes() == (two / name).read_bytes()
    data = mnist.load(parse_source("sample", str(tmp_path)))
    assert (len(data.train), len(data.validation), len(data.test)) == (1375, 125, 297)
    assert data.train.inputs.shape[1:] == (1, 28, 28)
    assert data.name == "mnist-sample"
    assert sorted(set(data.test.targets.tolist())) == list(range(10))


def test_own_files_may_be_gzipped_and_of_other_classes(digits: Path) -> None:
    labels = idx.read_idx(digits / "train-labels-idx1-ubyte", 1)
    idx.write_idx(digits / "train-labels-idx1-ubyte", labels % 3)
    idx.write_idx(digits / "t10k-labels-idx1-ubyte", idx.read_idx(digits / "t10k-labels-idx1-ubyte", 1) % 3)
    for name in mnist.FILES:
        (digits / f"{name}.gz").write_bytes(gzip.compress((digits / name).read_bytes()))
        (digits / name).unlink()
    data = mnist.load(parse_source(str(digits)))
    assert data.info.classes == ["0", "1", "2"]
    assert data.name == "own:own"


def header(*sizes: int) -> bytes:
    return bytes((0, 0, 8, len(sizes))) + struct.pack(f">{len(sizes)}I", *sizes)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train-images-idx3-ubyte", b"", ["is empty"]),
        ("train-images-idx3-ubyte", header(1500, 28, 28) + bytes(784 * 1499), ["cut short", "1500 × 28 × 28"]),
        ("train-images-idx3-ubyte", header(1500, 28, 28)[:9], ["cut short"]),
        ("train-images-idx3-ubyte", b"\x89PNG" + bytes(100), ["not an IDX file", "89 50 4e 47"]),
        ("train-labels-idx1-ubyte", header(1500, 28, 28) + bytes(784 * 1500), ["not an IDX file", "1 dimensions"]),
        ("train-labels-idx1-ubyte", header(7) + bytes(7), ["1500 images", "7 labels"]),
        ("t10k-images-idx3-ubyte", header(297, 32, 32) + bytes(297 * 1024), ["32×32"]),
        ("t10k-images-idx3-ubyte", header(297, 28, 28) + bytes(297 * 784 + 1), ["too long"]),
        ("t10k-images-idx3-ubyte", header(2**32 - 1, 2**32 - 1, 2**32 - 1), ["cut short"]),
    ],
)
def test_damaged_files_are_named(name: str, content: bytes, words: list[str], digits: Path, decathlon: Command) -> None:
    (digits / name).write_bytes(content)
    answer = decathlon("train", "mnist-mlp", "--data", digits)
    assert answer.status == 1
    for word in [*words, name]:
        assert word in answer.error
    assert not Path("runs").exists()


def test_damaged_gzip_is_named(digits: Path, decathlon: Command) -> None:
    name = "train-images-idx3-ubyte"
    (digits / f"{name}.gz").write_bytes(gzip.compress((digits / name).read_bytes())[:1000])
    (digits / name).unlink()
    answer = decathlon("train", "mnist-mlp", "--data", digits)
    assert answer.status == 1
    assert f"{name}.gz" in answer.error


def test_flipped_gzip_is_named(digits: Path, decathlon: Command) -> None:
    name = "train-images-idx3-ubyte"
    packed = bytearray(gzip.compress((digits / name).read_bytes()))
    for place in range(2000, 2100):
        packed[place] ^= 255
    (digits / f"{name}.gz").write_bytes(packed)
    (digits / name).unlink()
    answer = decathlon("train", "mnist-mlp", "--data", digits)
    assert answer.status == 1
    assert f"{name}.gz" in answer.error


def test_until_bar_needs_a_bar(digits: Path, decathlon: Command) -> None:
    answer = decathlon("train", "mnist-mlp", "--data", digits, "--until-bar")
    assert answer.status == 2
    assert "there is no bar" in answer.error


def test_own_data_have_no_bar_and_are_found_from_elsewhere(
    digits: Path, decathlon: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command = ("train", "mnist-mlp", "--data", "own", "--epochs", "8", "--hidden", "64", "--out", "run", "--json")
    done = decathlon(*command)
    assert done.status == 0, done.err
    summary = json.loads(done.out)
    assert (summary["bar"], summary["passed"], summary["seconds_to_bar"]) == (None, None, None)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert json.loads(decathlon("evaluate", "../run", "--json").out)["value"] == summary["value"]


def test_missing_files_are_named(tmp_path: Path, decathlon: Command) -> None:
    answer = decathlon("train", "mnist-mlp", "--data", tmp_path)
    assert answer.status == 1
    assert all(name in answer.error for name in mnist.FILES)


@settings(max_examples=300, deadline=None)
@given(content=st.binary(max_size=200), dimensions=st.integers(1, 3))
def test_any_bytes_are_read_or_refused(
    content: bytes, dimensions: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    try:
        values = idx.read_idx(path, dimensions)
    except ValueError as error:
        message = str(error)
    else:
        message = f"{path} was read"
        assert values.ndim == dimensions
    assert str(path) in message


@settings(max_examples=100, deadline=None)
@given(shape=st.lists(st.integers(0, 5), min_size=1, max_size=3), packed=st.booleans())
def test_written_is_read(shape: list[int], packed: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    values = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    path = tmp_path_factory.getbasetemp() / "idx"
    idx.write_idx(path, values)
    if packed:
        path.with_suffix(".gz").write_bytes(gzip.compress(path.read_bytes()))
        path = path.with_suffix(".gz")
    assert np.array_equal(idx.read_idx(path, len(shape)), values)


def test_mnist_is_fetched_verified_and_mended(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decathlon: Command
) -> None:
    made = sample.write_digits(tmp_path / "made")
    packed = {name: gzip.compress((made / name).read_bytes()) for name in mnist.FILES}
    sums = {n: (hashlib.md5(packed[n]).hexdigest(), download.md5(made / n)) for n in mnist.FILES}
    server.files = {f"{name}.gz": content for name, content in packed.items()}
    monkeypatch.setattr(mnist, "FILES", sums)
    monkeypatch.setattr(mnist, "MIRRORS", (server.url(""),))
    command = ("data", "mnist", "--data-dir", tmp_path / "folder", "--download")
    assert decathlon(*command).status == 0
    raw = tmp_path / "folder/MNIST/raw"
    assert all(download.md5(raw / name) == sums[name][1] for name in sums)
    assert not list(raw.glob("*.part"))
    server.asked.clear()
    assert decathlon(*command).status == 0
    assert server.asked == [], "nothing is fetched twice"

    damaged = raw / "train-images-idx3-ubyte"
    damaged.write_bytes(damaged.read_bytes()[:5000])
    (raw / f"{damaged.name}.gz").unlink()
    answer = decathlon(*command)
    assert answer.status == 0, answer.err
    assert str(damaged) in answer.err
    assert "fetching it again" in answer.err
    assert download.md5(damaged) == sums[damaged.name][1]
    assert [path for path, _ in server.asked] == [f"/{damaged.name}.gz"]


def test_offline_says_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decathlon: Command) -> None:
    monkeypatch.setattr(mnist, "MIRRORS", ("http://127.0.0.1:9/",))  # the discard port: nobody listens
    monkeypatch.setattr(download, "TRIES", 1)
    answer = decathlon("train", "mnist-mlp", "--data-dir", tmp_path)
    assert answer.status == 1
    for name in mnist.FILES:
        assert f"{name}.gz" in answer.error
    assert str(tmp_path / "MNIST" / "raw") in answer.error
    assert "--data sample" in answer.error
