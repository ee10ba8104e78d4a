"""Reading CIFAR-10 and pictures of any kind: what is wrong is found and named, and nothing foreign is run."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from bad_server import Server
from PIL import Image

from decathlon.data import Data, Source, cifar10, download, drawn, photo

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def official(folder: Path) -> Data:
    return cifar10.load(Source("official", None, folder, download=False))


def own(path: Path) -> Data:
    return cifar10.load(Source("own", path, path.parent / "data"))


def save(path: Path, number: int = 0, size: tuple[int, int] = (32, 32)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (number, 0, 0)).save(path, quality=100)


def tree(folder: Path, sides: tuple[str, ...] = ("train", "test"), classes: tuple[str, ...] = ("a", "b")) -> Path:
    """Six pictures a class; the red of each tells which it is: side, class, number."""
    for s, side in enumerate(sides):
        for c, name in enumerate(classes):
            for n in range(6):
                save(folder / side / name / f"{n}.png", 100 * s + 10 * c + n)
    return folder


def pickled(pixels: np.ndarray, labels: list[int]) -> bytes:
    return pickle.dumps({"data": pixels, "labels": labels, "filenames": ["x.png"]}, protocol=2)


def release(folder: Path, monkeypatch: pytest.MonkeyPatch, plain: bool = False) -> Path:
    """A tiny release of six batches of 20, whose checksums and counts are taken for the true ones."""
    folder.mkdir(parents=True)
    draw, sums = np.random.default_rng(0), {}
    for name in cifar10.PICKLED:
        pixels, labels = draw.integers(0, 256, (20, 3072), dtype=np.uint8), [*range(10)] * 2
        rows = np.concatenate([np.array(labels, np.uint8)[:, None], pixels], 1).tobytes()
        content = rows if plain else pickled(pixels, labels)
        (folder / (f"{name}.bin" if plain else name)).write_bytes(content)
        sums[name] = hashlib.md5(content).hexdigest()
    monkeypatch.setattr(cifar10, "PICKLED", sums)
    monkeypatch.setattr(cifar10, "COUNTS", {"train": 100, "test": 20})
    return folder


def packed(folder: Path, archive: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    monkeypatch.setitem(cifar10.ARCHIVES, archive.name, download.md5(archive))
    return archive


def same(one: Data, other: Data) -> bool:
    return all(
        torch.equal(getattr(one, part).inputs, getattr(other, part).inputs)
        and torch.equal(getattr(one, part).targets, getattr(other, part).targets)
        for part in ("train", "validation", "test")
    )


@pytest.mark.parametrize("plain", [False, True])
def test_release_is_read_from_folder_and_archive(plain: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "cifar-10-batches-bin" if plain else "cifar-10-batches-py"
    folder = release(tmp_path / "one" / name, monkeypatch, plain)
    data = official(tmp_path / "one")
    assert (data.name, data.meta) == ("cifar10", {"classes": CLASSES})
    assert (len(data.train), len(data.validation), len(data.test)) == (92, 8, 20)
    assert (data.test.inputs.dtype, data.test.inputs.shape) == (torch.uint8, (20, 3, 32, 32))
    assert data.test.targets.tolist() == [*range(10)] * 2
    if not plain:
        first = pickle.loads((folder / "test_batch").read_bytes())["data"][0]
        assert data.test.inputs[0, 1, 2, 3] == first[1024 + 2 * 32 + 3]
    (tmp_path / "two").mkdir()
    archive = packed(folder, tmp_path / "two" / f"cifar-10-{'binary' if plain else 'python'}.tar.gz", monkeypatch)
    assert same(official(tmp_path / "two"), data)
    assert own(archive).name == f"own:{archive.name}"
    assert same(own(tmp_path / "one"), data)


def test_wrong_checksum_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = release(tmp_path / "cifar-10-batches-py", monkeypatch)
    batch = folder / "data_batch_3"
    content = bytearray(batch.read_bytes())
    content[5000] ^= 1  # a pixel
    batch.write_bytes(content)
    with pytest.raises(ValueError, match=r"data_batch_3 is damaged: its checksum is wrong; delete"):
        official(tmp_path)
    batch.unlink()
    with pytest.raises(FileNotFoundError, match="has no data_batch_3"):
        official(tmp_path)


def test_archive_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = packed(release(tmp_path / "x", monkeypatch), tmp_path / "cifar-10-python.tar.gz", monkeypatch)
    archive.write_bytes(archive.read_bytes()[:100_000])
    with pytest.raises(ValueError, match=r"cifar-10-python.tar.gz is damaged or cut short: its checksum"):
        official(tmp_path)
    with pytest.raises(ValueError, match=r"cifar-10-python.tar.gz is damaged or cut short"):
        own(archive)


def test_what_was_read_as_ones_own_is_not_the_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same files, in the cache of the same data folder, whose checksums nobody has looked at."""
    release(tmp_path / "cifar-10-batches-py", monkeypatch)
    monkeypatch.setitem(cifar10.PICKLED, "data_batch_2", "0" * 32)
    cifar10.load(Source("own", tmp_path, tmp_path, download=False))
    for _ in range(2):
        with pytest.raises(ValueError, match=r"data_batch_2 is damaged: its checksum is wrong"):
            official(tmp_path)


def test_the_archive_is_fetched_once(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = release(tmp_path / "made/cifar-10-batches-bin", monkeypatch, plain=True)
    archive = packed(folder, tmp_path / "made/cifar-10-binary.tar.gz", monkeypatch)
    server.files = {archive.name: archive.read_bytes()}
    monkeypatch.setattr(cifar10, "URL", server.url(""))
    for _ in range(2):
        found = cifar10.load(Source("official", None, tmp_path / "data"))
        assert same(found, official(tmp_path / "made"))
    assert [path for path, _ in server.asked] == [f"/{archive.name}"]


def test_an_empty_folder_of_the_release_hides_no_pictures(tmp_path: Path) -> None:
    tree(tmp_path / "cifar10", classes=tuple(CLASSES))
    (tmp_path / "cifar-10-batches-py").mkdir()
    assert official(tmp_path).name == "cifar10-png-120"


@pytest.mark.parametrize(
    ("name", "kind", "word"),
    [
        ("../data_batch_1", tarfile.REGTYPE, "leads outside"),
        ("x/data_batch_1", tarfile.SYMTYPE, "is no plain file"),
        ("x/data_batch_1", tarfile.LNKTYPE, "is no plain file"),
    ],
)
def test_archive_may_not_reach_out(name: str, kind: bytes, word: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "inside"
        tar.addfile(member, io.BytesIO())
    with pytest.raises(ValueError, match=word) as error:
        own(tmp_path / "evil.tar.gz")
    assert "evil.tar.gz" in str(error.value)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("owned",)


def test_a_pickle_runs_nothing() -> None:
    with pytest.raises(ValueError, match=r"batch is no batch.*asks for \w+.mkdir"):
        cifar10.pickled_batch(pickle.dumps({"data": Evil(), "labels": [1]}), Path("batch"))
    assert not Path("owned").exists()


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickles_of_any_age_are_read(protocol: int) -> None:
    pixels = np.arange(2 * 3072).astype(np.uint8).reshape(2, 3072)
    content = pickle.dumps({"data": pixels, "labels": [3, 4]}, protocol)
    if protocol == 2:  # as numpy 1 named it, which wrote the release
        content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    found, labels = cifar10.pickled_batch(content, Path("batch"))
    assert np.array_equal(found.reshape(2, 3072), pixels)
    assert labels.tolist() == [3, 4]


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80\x02}", pickle.dumps([1]), pickled(np.zeros((2, 7), np.uint8), [0, 1])]
    + [pickled(np.zeros((2, 3072), np.uint8), labels) for labels in ([0, 10], [0], [])],
)
def test_no_batch_is_named(content: bytes) -> None:
    with pytest.raises(ValueError, match="some/batch"):
        cifar10.pickled_batch(content, Path("some/batch"))


@pytest.mark.parametrize("content", [b"", bytes(3072), b"\x0a" + bytes(3072)])
def test_no_plain_batch_is_named(content: bytes) -> None:
    with pytest.raises(ValueError, match="some/batch"):
        cifar10.plain_batch(content, Path("some/batch"))


@pytest.mark.parametrize(("ending", "name"), [("jpg", "cifar10-jpeg-80"), ("png", "cifar10-png-80")])
def test_official_folder_of_pictures(ending: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for side in ("train", "test"):
        for number in range(40):
            save(tmp_path / "cifar10" / side / CLASSES[number % 10] / f"{number}.{ending}", 6 * number)
    data = official(tmp_path)
    assert (data.name, data.meta["classes"]) == (name, CLASSES)
    monkeypatch.setattr(cifar10, "COUNTS", {"train": 40, "test": 40})
    assert official(tmp_path).name == name.removesuffix("-80")
    for side in ("train", "test"):
        (tmp_path / "cifar10" / side / "cat").rename(tmp_path / "cifar10" / side / "mouse")
    with pytest.raises(ValueError, match=r"must hold the classes airplane.*: cat, mouse is missing, or none of them"):
        official(tmp_path)


def test_official_pictures_have_both_sides(tmp_path: Path) -> None:
    tree(tmp_path / "cifar10", ("train",), tuple(CLASSES))
    with pytest.raises(ValueError, match="must hold train/ and test/, not train alone"):
        official(tmp_path)


def test_a_lonely_picture_is_trained_on(tmp_path: Path) -> None:
    """Of 20 pictures three are held out by a fixed draw, wherever the lonely one stands among them, not that."""
    for place in range(20):
        folder = tmp_path / f"mine{place}"
        for number in range(19):
            save(folder / ("a" if number < place else "c") / f"{number}.png")
        save(folder / "b/0.png")
        found = own(folder)
        assert found.meta["classes"].index("b") in found.train.targets


def test_a_class_that_would_not_be_trained_on_is_named(tmp_path: Path) -> None:
    for name in "abc":
        save(tmp_path / "mine" / name / "0.png")
    with pytest.raises(ValueError, match=r"too few pictures of \w, \w: none is left to train on"):
        own(tmp_path / "mine")


def test_nothing_there_says_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"cifar-10-python.tar.gz nor cifar-10-binary.tar.gz nor cifar10/"):
        official(tmp_path)
    monkeypatch.setattr(cifar10, "URL", "http://127.0.0.1:9/")  # the discard port: nobody listens
    monkeypatch.setattr(download, "TRIES", 1)
    with pytest.raises(
        ConnectionError, match=r"cifar-10-binary.tar.gz.*cifar-10-python.tar.gz.*--data sample"
    ) as error:
        cifar10.load(Source("official", None, tmp_path))
    assert str(tmp_path) in str(error.value)


def reds(inputs: torch.Tensor) -> list[int]:
    return sorted(inputs[:, 0, 0, 0].tolist())


@pytest.mark.parametrize("other", ["test", "val"])
def test_own_sides(other: str, tmp_path: Path) -> None:
    data = own(tree(tmp_path / "mine", ("train", other)))
    assert (data.name, data.meta["classes"]) == ("own:mine", ["a", "b"])
    assert (len(data.train), len(data.validation)) == (11, 1)
    assert reds(data.test.inputs) == [100 + 10 * c + n for c in (0, 1) for n in range(6)]
    assert all(
        int(t) == int(i[0, 0, 0]) % 100 // 10 for i, t in zip(data.train.inputs, data.train.targets, strict=True)
    )


def test_own_three_sides_keep_their_validation(tmp_path: Path) -> None:
    data = own(tree(tmp_path / "mine", ("train", "test", "val")))
    assert (len(data.train), min(reds(data.validation.inputs)), min(reds(data.test.inputs))) == (12, 200, 100)
    assert data.train.targets.tolist() != sorted(data.train.targets.tolist()), "start values look at the first ones"
    assert all(
        int(image[0, 0, 0]) // 10 == label for image, label in zip(data.train.inputs, data.train.targets, strict=True)
    )


def test_own_without_sides_gives_a_tenth_to_the_test(tmp_path: Path) -> None:
    tree(tmp_path / "mine", ("",))
    tree(tmp_path / "mine", ("",), ("c", "d"))
    one, two = own(tmp_path / "mine"), own(tmp_path / "mine")
    assert (len(one.train), len(one.validation), len(one.test)) == (21, 1, 2)
    assert same(one, two)


def test_pictures_of_other_sizes_are_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tree(tmp_path / "mine") / "train/a/large.png", 9, (100, 50))
    (tmp_path / "mine/train/a/notes.txt").write_text("no picture")
    assert len(own(tmp_path / "mine").train) == 12
    error = capsys.readouterr().err
    assert "1 of 25 pictures scaled and cropped to 32×32" in error
    assert "passed over 1 in the folders of the classes" in error


def test_folders_that_are_no_side_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree(tmp_path / "mine", ("train", "Test", "valid"))
    assert len(own(tmp_path / "mine").train) == 10  # of 12, one of which each validates and tests
    assert "mine: passed over Test, valid: what is divided lies in train, test, val" in capsys.readouterr().err


def test_train_may_be_a_class(tmp_path: Path) -> None:
    tree(tmp_path / "mine", ("",), ("plane", "train"))
    (tmp_path / "mine/__MACOSX").mkdir()
    assert own(tmp_path / "mine").meta["classes"] == ["plane", "train"]


def test_sides_of_other_names_are_no_classes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Test holds no picture .*; sides must be called train, test, val"):
        own(tree(tmp_path / "mine", ("Train", "Test")))


def test_folders_that_do_not_match(tmp_path: Path) -> None:
    folder = tree(tmp_path / "mine")
    save(folder / "test/c/0.png")
    with pytest.raises(ValueError, match=r"mine/train has no folder 'c', but .*mine/test has"):
        own(folder)
    save(folder / "train/c/0.png")
    save(folder / "train/d/0.png")
    with pytest.raises(ValueError, match=r"mine/test has no folder 'd', but .*mine/train has"):
        own(folder)
    (folder / "test/d").mkdir()
    with pytest.raises(ValueError, match=r"mine/test/d holds no picture"):
        own(folder)


@pytest.mark.parametrize("made", [(), ("a",)])
def test_one_class_is_none(made: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match=r"mine must hold a folder"):
        own(tree(tmp_path / "mine", ("",), made))


def test_too_few(tmp_path: Path) -> None:
    save(tmp_path / "mine/a/0.png")
    save(tmp_path / "mine/b/0.png")
    with pytest.raises(ValueError, match="too few"):
        own(tmp_path / "mine")


def test_unreadable_picture_is_named(tmp_path: Path) -> None:
    folder = tree(tmp_path / "mine")
    content = (folder / "train/b/3.png").read_bytes()
    for damage in (b"", b"no picture", content[:50], content[:12] + b"IHDX" + content[16:], content[:20]):
        (folder / "train/b/3.png").write_bytes(damage)
        with pytest.raises(ValueError, match=r"train/b/3.png"):
            own(folder)


@pytest.mark.parametrize("side", [8000, 60_000])
def test_huge_picture_is_refused_before_it_is_decoded(side: int, tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b""))
    with pytest.raises(ValueError, match=r"bomb.png .*(8000×8000 pixels|exceeds limit)"):
        photo.picture(tmp_path / "bomb.png")


def test_second_start_reads_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tree(tmp_path / "mine")
    first = own(folder)
    with monkeypatch.context() as patch:
        patch.setattr(photo, "decode", lambda folder: pytest.fail("decoded again"))
        assert same(own(folder), first)
    save(folder / "test/a/0.png", 77)
    os.utime(folder / "test/a/0.png", (1, 1))
    assert 77 in reds(own(folder).test.inputs)
    content, status = (folder / "test/a/0.png").read_bytes(), (folder / "test/a/0.png").stat()
    save(folder / "test/a/0.png", 78)
    assert len((folder / "test/a/0.png").read_bytes()) == len(content), "or another size would tell"
    os.utime(folder / "test/a/0.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert 78 in reds(own(folder).test.inputs), "another picture, of the same size and the same time"
    assert [path.suffix for path in (tmp_path / "data/cache").iterdir()] == [".npz"] * 3


def test_damaged_cache_is_said_and_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = own(tree(tmp_path / "mine"))
    (cache,) = (tmp_path / "data/cache").iterdir()
    whole = cache.read_bytes()
    flipped = bytearray(whole)
    flipped[3000] ^= 255
    for damage in (b"", whole[:2000], bytes(flipped)):
        cache.write_bytes(damage)
        capsys.readouterr()
        assert same(own(tmp_path / "mine"), first)
        assert f"{cache} is damaged or cannot be read: making it again" in capsys.readouterr().err
        assert cache.read_bytes()[3000:3100] == whole[3000:3100]


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    assert len(own(tree(tmp_path / "mine")).test) == 12
    assert "could not be kept" in capsys.readouterr().err


def test_sample_is_seeded_and_read_by_the_same_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawn, "COUNTS", {"train": 12, "test": 2})
    one, two = (cifar10.load(Source("sample", None, tmp_path / name)) for name in ("one", "two"))
    assert (one.name, one.meta["classes"]) == ("cifar10-sample", CLASSES)
    assert (len(one.train), len(one.validation), len(one.test)) == (110, 10, 20)
    assert same(one, two)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "L", "1", "CMYK", "I;16"])
def test_any_kind_of_picture_is_read(mode: str, tmp_path: Path) -> None:
    """Left half black, right half white."""
    grey = Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 64, 0).repeat(32, 1))
    if mode == "I;16":
        grey = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    (grey if mode == "I;16" else grey.convert("RGB").convert(mode)).save(path)
    found, notes = photo.picture(path)
    assert (found.shape, found.dtype) == ((3, 32, 32), torch.uint8)
    assert int(found[:, :, :14].max()) < 5
    assert int(found[:, :, 18:].min()) > 250
    assert notes == ["scaled from 64×64 to 32×32"]


def test_transparent_is_white_and_turned_is_upright(tmp_path: Path) -> None:
    Image.new("RGBA", (32, 32), (9, 9, 9, 0)).save(tmp_path / "clear.png")
    assert photo.picture(tmp_path / "clear.png")[0].min() == 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: the left of the file is the top
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, :32] = 255
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    found, notes = photo.picture(str(tmp_path / "turned.png"))
    assert int(found[:, :14].min()) == 255
    assert int(found[:, 18:].max()) == 0
    assert "cropped to its middle" in notes[-1]
    assert "32×64" in notes[-1]


def test_fractions_become_bytes(tmp_path: Path) -> None:
    Image.fromarray(np.full((32, 32), 0.4, np.float32)).save(tmp_path / "fractions.tif")
    assert set(photo.picture(tmp_path / "fractions.tif")[0].flatten().tolist()) == {102}
    values = np.full((32, 32), 51, np.float32)
    values[0, 0], values[0, 1] = np.nan, 300
    Image.fromarray(values).save(tmp_path / "odd.tif")
    assert set(photo.picture(tmp_path / "odd.tif")[0].flatten().tolist()) == {0, 43, 255}


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    Image.fromarray(np.full((32, 32), 100 * 257, np.uint16)).save(tmp_path / "deep.png")
    assert set(photo.picture(tmp_path / "deep.png")[0].flatten().tolist()) == {100}


def test_what_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none.png"):
        photo.picture("none.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ValueError, match=r"text.png"):
        photo.picture(tmp_path / "text.png")
