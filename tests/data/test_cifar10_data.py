"""Reading CIFAR-10 and images of any kind: what is wrong is found and named, and nothing foreign is run."""

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

from decathlon.data import cifar10
from decathlon.data.base import Data, DataInfo, Source
from decathlon.data.io import cifar_pickle, download, image_folder
from decathlon.data.synthetic import shapes

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def official(folder: Path) -> Data:
    return cifar10.load(Source("official", None, folder, download=False))


def own(path: Path) -> Data:
    return cifar10.load(Source("own", path, path.parent / "data"))


def save(path: Path, number: int = 0, size: tuple[int, int] = (32, 32)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (number, 0, 0)).save(path, quality=100)


def tree(folder: Path, sides: tuple[str, ...] = ("train", "test"), classes: tuple[str, ...] = ("a", "b")) -> Path:
    """Six images a class; the red of each tells which it is: side, class, number."""
    for s, side in enumerate(sides):
        for c, name in enumerate(classes):
            for n in range(6):
                save(folder / side / name / f"{n}.png", 100 * s + 10 * c + n)
    return folder


def pickled(pixels: np.ndarray, labels: list[int]) -> bytes:
    return pickle.dumps({"data": pixels, "labels": labels, "filenames": ["x.png"]}, protocol=4)


def release(folder: Path, monkeypatch: pytest.MonkeyPatch, plain: bool = False) -> Path:
    """A tiny release of six batches of 20, whose checksums and counts are taken for the true ones."""
    folder.mkdir(parents=True)
    draw, sums = np.random.default_rng(0), {}
    for name in cifar10.PYTHON_BATCHES:
        pixels, labels = draw.integers(0, 256, (20, 3072), dtype=np.uint8), [*range(10)] * 2
        rows = np.concatenate([np.array(labels, np.uint8)[:, None], pixels], 1).tobytes()
        content = rows if plain else pickled(pixels, labels)
        (folder / (f"{name}.bin" if plain else name)).write_bytes(content)
        sums[name] = hashlib.md5(content).hexdigest()
    monkeypatch.setattr(cifar10, "PYTHON_BATCHES", sums)
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
    assert (data.name, data.info) == ("cifar10", DataInfo(CLASSES))
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
    with pytest.raises(ValueError, match=r"data_batch_3 is not .* published: its checksum is wrong.*as a folder"):
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
    """The same archive, in the cache of the same data folder, whose checksum nobody has looked at."""
    folder = release(tmp_path / "x/cifar-10-batches-bin", monkeypatch, plain=True)
    archive = packed(folder, tmp_path / "cifar-10-binary.tar.gz", monkeypatch)
    monkeypatch.setitem(cifar10.ARCHIVES, archive.name, "0" * 32)
    cifar10.load(Source("own", tmp_path, tmp_path, download=False))
    for _ in range(2):
        with pytest.raises(ValueError, match=r"cifar-10-binary.tar.gz is damaged or cut short: its checksum is wrong"):
            official(tmp_path)


def test_the_archive_is_fetched_once(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = release(tmp_path / "made/cifar-10-batches-bin", monkeypatch, plain=True)
    archive = packed(folder, tmp_path / "made/cifar-10-binary.tar.gz", monkeypatch)
    server.files = {archive.name: archive.read_bytes()}
    monkeypatch.setattr(cifar10, "URL", server.url(""))
    for _ in range(2):
        loaded = cifar10.load(Source("official", None, tmp_path / "data"))
        assert same(loaded, official(tmp_path / "made"))
    assert [path for path, _ in server.asked] == [f"/{archive.name}"]


def test_an_empty_folder_of_the_release_hides_no_images(tmp_path: Path) -> None:
    tree(tmp_path / "cifar10", classes=tuple(CLASSES))
    (tmp_path / "cifar-10-batches-py").mkdir()
    assert official(tmp_path).name == "cifar10-png-120"


@pytest.mark.parametrize(
    ("name", "kind", "word"),
    [
        ("../data_batch_1", tarfile.REGTYPE, "leads outside"),
        ("x/data_batch_1", tarfile.SYMTYPE, "is not a regular file"),
        ("x/data_batch_1", tarfile.LNKTYPE, "is not a regular file"),
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


def read_batch(content: bytes, checksum: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    checksum = checksum or hashlib.md5(content).hexdigest()
    return cifar_pickle.read_published_batch(content, checksum, Path("some/batch"))


def test_a_pickle_runs_nothing() -> None:
    """It is not unpickled, whatever is in it; and if its checksum were taken for right, the allow-list would hold."""
    content = pickle.dumps({"data": Evil(), "labels": [1]})
    with pytest.raises(ValueError, match=r"some/batch is not the batch that CIFAR-10's authors published"):
        read_batch(content, "0" * 32)
    with pytest.raises(ValueError, match=r"some/batch is not a batch.*asks for \w+.mkdir"):
        read_batch(content)
    assert not Path("owned").exists()


def test_own_pickled_batches_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = release(tmp_path / "mine", monkeypatch)
    (folder / "test_batch").write_bytes(pickled(np.zeros((1, 3072), np.uint8), [1]))
    with pytest.raises(ValueError, match=r"test_batch is not .*its checksum is wrong.*images as a folder"):
        own(folder)


def test_a_batch_as_python_2_wrote_it_is_read() -> None:
    """As in the release: protocol 2, bytes as 8-bit strings, numpy's names of its first version."""
    pixels = (np.arange(2 * 3072) % 251).astype(np.uint8).reshape(2, 3072)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02M\x00\x0c\x86"
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<I", pixels.size)
        + pixels.tobytes()
        + b"tb"
    )
    images, labels = read_batch(b"\x80\x02}(U\x04data" + array + b"U\x06labels](K\x03K\x04eu.")
    assert np.array_equal(images, pixels)
    assert labels.tolist() == [3, 4]


@pytest.mark.parametrize("content", [b"\x80\x02}.", pickle.dumps([1])])
def test_no_batch_is_named(content: bytes) -> None:
    with pytest.raises(ValueError, match="some/batch"):
        read_batch(content)


@pytest.mark.parametrize("content", [b"", bytes(3072), b"\x0a" + bytes(3072)])
def test_no_plain_batch_is_named(content: bytes) -> None:
    with pytest.raises(ValueError, match="some/batch"):
        cifar10.parse_binary_batch(content, Path("some/batch"))


@pytest.mark.parametrize(("ending", "name"), [("jpg", "cifar10-jpeg-80"), ("png", "cifar10-png-80")])
def test_official_folder_of_images(ending: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for side in ("train", "test"):
        for number in range(40):
            save(tmp_path / "cifar10" / side / CLASSES[number % 10] / f"{number}.{ending}", 6 * number)
    data = official(tmp_path)
    assert (data.name, data.info.classes) == (name, CLASSES)
    monkeypatch.setattr(cifar10, "COUNTS", {"train": 40, "test": 40})
    assert official(tmp_path).name == name.removesuffix("-80")
    for side in ("train", "test"):
        (tmp_path / "cifar10" / side / "cat").rename(tmp_path / "cifar10" / side / "mouse")
    with pytest.raises(ValueError, match=r"must hold the classes airplane.*: cat, mouse is missing, or none of them"):
        official(tmp_path)


def test_official_images_have_both_sides(tmp_path: Path) -> None:
    tree(tmp_path / "cifar10", ("train",), tuple(CLASSES))
    with pytest.raises(ValueError, match="must hold train/ and test/, not train alone"):
        official(tmp_path)


def test_a_lonely_image_is_trained_on(tmp_path: Path) -> None:
    """Of 20 images three are held out by a fixed draw, wherever the lonely one stands among them, not that."""
    for place in range(20):
        folder = tmp_path / f"mine{place}"
        for number in range(19):
            save(folder / ("a" if number < place else "c") / f"{number}.png", number)
        save(folder / "b/0.png", 99)
        loaded = own(folder)
        assert loaded.info.classes.index("b") in loaded.train.targets


def test_a_class_that_would_not_be_trained_on_is_named(tmp_path: Path) -> None:
    for number, name in enumerate("abc"):
        save(tmp_path / "mine" / name / "0.png", number)
    with pytest.raises(ValueError, match=r"too few images of \w, \w: none is left to train on"):
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
    assert (data.name, data.info.classes) == ("own:mine", ["a", "b"])
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
    tree(tmp_path / "mine", ("",), ("a", "b", "c", "d"))
    one, two = own(tmp_path / "mine"), own(tmp_path / "mine")
    assert (len(one.train), len(one.validation), len(one.test)) == (21, 1, 2)
    assert same(one, two)


def test_images_of_other_sizes_are_reported_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tree(tmp_path / "mine") / "train/a/large.png", 9, (100, 50))
    (tmp_path / "mine/train/a/notes.txt").write_text("no image")
    assert len(own(tmp_path / "mine").train) == 12
    error = capsys.readouterr().err
    assert "1 of 25 images scaled and cropped to 32×32" in error
    assert "ignored 1 in the folders of the classes" in error


def test_folders_that_are_no_side_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree(tmp_path / "mine", ("train", "Test", "valid"))
    tree(tmp_path / "mine", ("extra",))
    data = own(tmp_path / "mine")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [12, 12, 12]
    assert "mine: ignored extra: only the splits train, val and test are read" in capsys.readouterr().err


def test_train_may_be_a_class(tmp_path: Path) -> None:
    tree(tmp_path / "mine", ("",), ("plane", "train"))
    (tmp_path / "mine/__MACOSX").mkdir()
    assert own(tmp_path / "mine").info.classes == ["plane", "train"]


def test_sides_of_other_names_are_no_classes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"fold1 contains no images .*; splits must be named train, test, val"):
        own(tree(tmp_path / "mine", ("fold1", "fold2")))


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
    with pytest.raises(ValueError, match=r"mine/test/d contains no images"):
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


def test_unreadable_image_is_named(tmp_path: Path) -> None:
    folder = tree(tmp_path / "mine")
    content = (folder / "train/b/3.png").read_bytes()
    for damage in (b"", b"no picture", content[:50], content[:12] + b"IHDX" + content[16:], content[:20]):
        (folder / "train/b/3.png").write_bytes(damage)
        with pytest.raises(ValueError, match=r"train/b/3.png"):
            own(folder)


@pytest.mark.parametrize("side", [8000, 60_000])
def test_huge_image_is_refused_before_it_is_decoded(side: int, tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b""))
    with pytest.raises(ValueError, match=r"bomb.png .*(8000×8000 pixels|too many pixels)"):
        image_folder.read_image(tmp_path / "bomb.png")


def test_second_start_reads_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tree(tmp_path / "mine")
    first = own(folder)
    with monkeypatch.context() as patch:
        patch.setattr(image_folder, "decode_images", lambda folder: pytest.fail("decoded again"))
        assert same(own(folder), first)
    save(folder / "test/a/0.png", 77)
    os.utime(folder / "test/a/0.png", (1, 1))
    assert 77 in reds(own(folder).test.inputs)
    content, status = (folder / "test/a/0.png").read_bytes(), (folder / "test/a/0.png").stat()
    save(folder / "test/a/0.png", 78)
    assert len((folder / "test/a/0.png").read_bytes()) == len(content), "or another size would tell"
    os.utime(folder / "test/a/0.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert 78 in reds(own(folder).test.inputs), "another image, of the same size and the same time"
    assert [path.suffix for path in (tmp_path / "data/cache").iterdir()] == [".npz"] * 3


def test_damaged_cache_is_reported_and_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_a_cache_that_cannot_be_written_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    assert len(own(tree(tmp_path / "mine")).test) == 12
    assert "could not be kept" in capsys.readouterr().err


def test_sample_is_seeded_and_read_by_the_same_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "COUNTS", {"train": 12, "test": 2})
    one, two = (cifar10.load(Source("sample", None, tmp_path / name)) for name in ("one", "two"))
    assert (one.name, one.info.classes) == ("cifar10-sample", CLASSES)
    assert (len(one.train), len(one.validation), len(one.test)) == (110, 10, 20)
    assert same(one, two)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "L", "1", "CMYK", "I;16"])
def test_any_kind_of_image_is_read(mode: str, tmp_path: Path) -> None:
    """Left half black, right half white."""
    grey = Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 64, 0).repeat(32, 1))
    if mode == "I;16":
        grey = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    (grey if mode == "I;16" else grey.convert("RGB").convert(mode)).save(path)
    image, notes = image_folder.read_image(path)
    assert (image.shape, image.dtype) == ((3, 32, 32), torch.uint8)
    assert int(image[:, :, :14].max()) < 5
    assert int(image[:, :, 18:].min()) > 250
    assert notes == ["scaled from 64×64 to 32×32"]


def test_transparent_is_white_and_turned_is_upright(tmp_path: Path) -> None:
    Image.new("RGBA", (32, 32), (9, 9, 9, 0)).save(tmp_path / "clear.png")
    assert image_folder.read_image(tmp_path / "clear.png")[0].min() == 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: the left of the file is the top
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, :32] = 255
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    image, notes = image_folder.read_image(str(tmp_path / "turned.png"))
    assert int(image[:, :14].min()) == 255
    assert int(image[:, 18:].max()) == 0
    assert "cropped to its middle" in notes[-1]
    assert "32×64" in notes[-1]


def test_fractions_become_bytes(tmp_path: Path) -> None:
    Image.fromarray(np.full((32, 32), 0.4, np.float32)).save(tmp_path / "fractions.tif")
    assert set(image_folder.read_image(tmp_path / "fractions.tif")[0].flatten().tolist()) == {102}
    values = np.full((32, 32), 51, np.float32)
    values[0, 0], values[0, 1] = np.nan, 300
    Image.fromarray(values).save(tmp_path / "odd.tif")
    assert set(image_folder.read_image(tmp_path / "odd.tif")[0].flatten().tolist()) == {0, 43, 255}


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    Image.fromarray(np.full((32, 32), 100 * 257, np.uint16)).save(tmp_path / "deep.png")
    assert set(image_folder.read_image(tmp_path / "deep.png")[0].flatten().tolist()) == {100}


def test_what_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none.png"):
        image_folder.read_image("none.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ValueError, match=r"text.png"):
        image_folder.read_image(tmp_path / "text.png")
