"""What is refused: files that promise more than they hold, archives that lead outside, code, and pictures too large."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import pickle
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest
import spoiled
import torch
from conftest import Command
from openers import OPENERS
from PIL import Image

from decathlon.data import cifar10, embeddings, imdb, pets, pretrained, voc
from decathlon.data.base import parse_source
from decathlon.data.io import cache, cifar_pickle, images
from decathlon.data.read_options import ReadOptions
from decathlon.data.transforms import words
from decathlon.runs import bundled, load, user_model

# --- Files that promise more than they hold ---------------------------------------------------------------------------


def test_a_promise_takes_no_memory(tmp_path: Path) -> None:
    """Headers of 2**31 items and more, over a few bytes."""
    huge = 2**31 - 1
    contents: dict[str, bytes] = {
        "idx": spoiled.idx(1, 1, 1)[:4] + huge.to_bytes(4, "big") * 3 + bytes(9),
        "idx.gz": gzip.compress(spoiled.idx(1)[:4] + huge.to_bytes(4, "big") + bytes(9)),
        "safetensors": (64).to_bytes(8, "little")
        + json.dumps({"a": {"dtype": "F32", "shape": [huge, 9], "data_offsets": [0, 4]}}).encode().ljust(64),
    }
    for name, content in contents.items():
        assert not hostile.readers()[name].holds(content, tmp_path)


def test_zipped_bombs_are_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "w.pth"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("w/data.pkl", bytes(50 << 20))
    assert bomb.stat().st_size < 1 << 20
    assert not hostile.readers()["weights"].holds(bomb.read_bytes(), tmp_path)
    np.savez_compressed(tmp_path / "kept.npz", a=np.zeros(1 << 20))
    arrays = cache.load_or_make(tmp_path / "kept.npz", lambda: {"a": np.ones(1)})
    assert arrays["a"].tolist() == [1], "what is kept is never compressed: it was made again"


@pytest.mark.parametrize("size", ["hidden", "classes"])
def test_a_config_cannot_ask_for_memory(size: str, tmp_path: Path) -> None:
    contents = hostile.run_files()
    config = json.loads(json.dumps(spoiled.CONFIG))
    if size == "hidden":
        config["recipe"]["hidden"] = 2**36
    else:
        config["info"]["classes"] = [str(n) for n in range(200_000)]
    contents["config.json"] = json.dumps(config).encode()
    hostile.write(tmp_path, contents)
    with pytest.raises(ValueError, match="does not fit the network"):
        load.load_run(tmp_path)


@pytest.mark.parametrize(
    ("task_id", "field"),
    [("pets-unet", "image_size"), ("imdb-textcnn", "max_length"), ("mnist-autoencoder", "n_trees")],
)
def test_a_config_cannot_ask_for_work_that_no_weight_bounds(task_id: str, field: str, tmp_path: Path) -> None:
    folder = bundled.folder(task_id)
    assert folder is not None
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["recipe"][field] = 16 * 10**9
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=rf"config\.json is damaged: --{field.replace('_', '-')} must be at most"):
        load.load_run(tmp_path)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"num_hidden_layers": 10**9}, "lacks"),
        ({"hidden_size": 2**40}, "lacks|cannot be read"),
        ({"vocab_size": 2**40}, "lacks|cannot be read"),
        ({"num_hidden_layers": -1}, "lacks"),
        ({"bos_token_id": 10**6}, "special tokens"),
    ],
)
def test_an_encoder_cannot_ask_for_memory(change: dict[str, int], word: str, tmp_path: Path) -> None:
    contents = hostile.encoder_files()
    contents["config.json"] = json.dumps(json.loads(contents["config.json"]) | change).encode()
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=word):
        embeddings.load_encoder(str(tmp_path), 10, (), "mean", download=False)


def test_one_long_word_does_not_widen_the_table() -> None:
    vocabulary = words.build_vocabulary([["a" * 100_000, "film"]] * 5, 10, 1)
    assert vocabulary == ["film"]


def test_many_labels_take_no_longer_than_few(tmp_path: Path) -> None:
    path = tmp_path / "many.csv"
    path.write_text("text,label\n" + "".join(f"a,{n}\n" for n in range(20_000)))
    with hostile.limited(path.stat().st_size * 10):
        assert len(imdb.read_table(path, "x", ReadOptions()).classes) == 20_000


# --- Archives ---------------------------------------------------------------------------------------------------------


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 1, **more: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size if kind == tarfile.REGTYPE else 0
    for key, value in more.items():
        setattr(info, key, value)
    return info


KINDS = {
    "up": member("x/../../evil"),
    "root": member("/tmp/evil"),
    "backslash": member("..\\evil"),
    "symbolic link": member("x/link", tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hard link": member("x/link", tarfile.LNKTYPE, linkname="../../../etc/passwd"),
    "pipe": member("x/pipe", tarfile.FIFOTYPE),
    "device": member("x/null", tarfile.CHRTYPE, devmajor=1, devminor=3),
    "disk": member("x/disk", tarfile.BLKTYPE),
    "sparse": member("x/sparse", tarfile.GNUTYPE_SPARSE),
}


def unpackers(folder: Path) -> dict[str, Callable[[Path], Any]]:
    """Every place that unpacks; each is given an archive."""

    def reviews(archive: Path) -> None:
        path = folder / "imdb" / archive.name
        path.mkdir(parents=True)
        (path / "aclImdb_v1.tar.gz").write_bytes(archive.read_bytes())
        imdb.find_official(parse_source("official", str(path)))

    return {
        "cifar10": lambda archive: cifar10.read_batches(archive, False),
        "voc": lambda archive: voc.unpack_tree([archive], folder / "out" / "VOC2007"),
        "pets": lambda archive: pets.unpack(archive, folder / "out" / "images"),
        "imdb": reviews,
    }


@pytest.mark.parametrize("name", list(KINDS))
@pytest.mark.parametrize("packed", [True, False])
def test_archives_hold_plain_files_inside_or_are_refused(name: str, packed: bool, tmp_path: Path) -> None:
    archive = tmp_path / f"{name.replace(' ', '-')}.tar.gz"
    with tarfile.open(archive, "w:gz" if packed else "w") as tar:
        tar.addfile(KINDS[name], io.BytesIO(b"x"))
    for unpacker in unpackers(tmp_path).values():
        with pytest.raises(ValueError, match=r"leads outside|is not a regular file|damaged"):
            unpacker(archive)
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name or ".part" in path.name or path.is_fifo()]
    assert not Path("/tmp/evil").exists()


def test_bombs_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten million zeros, and a thousand files, where a thousandth of that may be."""
    few = (10_000, 100)
    for module in (imdb, voc, pets):
        monkeypatch.setattr(module, "MAX_UNPACKED", few)
    monkeypatch.setattr(cifar10, "MAX_BATCH_BYTES", few[0])
    for name, count, size in (("large", 1, 10_000_000), ("many", 1000, 0)):
        archive = tmp_path / f"{name}.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            for number in range(count):
                tar.addfile(member(f"images/{number}", size=size), io.BytesIO(bytes(size)))
        for unpacker in unpackers(tmp_path).values():
            with hostile.limited(1000), pytest.raises(ValueError, match="bomb"):
                unpacker(archive)
    (tmp_path / "header.tar").write_bytes(pax_bomb())
    for unpacker in unpackers(tmp_path).values():
        with hostile.limited(1000), pytest.raises((ValueError, FileNotFoundError), match=r"header\.tar|aclImdb_v1"):
            unpacker(tmp_path / "header.tar")


def pax_bomb() -> bytes:
    """A header of names that says it is four terabytes long."""
    info = member("x", tarfile.XHDTYPE)
    info.size = 1 << 42
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(512)


@pytest.mark.parametrize("size", [b"\xff" * 10 + b"\xfc\x00", b"\x80" + b"\x7f" * 11], ids=["negative", "huge"])
def test_sizes_that_lead_anywhere_end(size: bytes, tmp_path: Path) -> None:
    """CVE-2025-8194 and CVE-2026-11972: tarfile reads the same header, or beyond the end, for ever."""
    info = bytearray(member("images/x", size=512).tobuf(tarfile.GNU_FORMAT))
    info[124:136] = size  # in base 256
    info[148:156] = b" " * 8
    info[148:156] = b"%06o\0 " % sum(info)
    path = tmp_path / "backwards.tar"
    path.write_bytes(bytes(info) * 4)
    for name, unpacker in unpackers(tmp_path).items():
        if name != "imdb":
            with hostile.limited(1000), pytest.raises((ValueError, FileNotFoundError), match="backwards"):
                unpacker(path)


# --- Code -------------------------------------------------------------------------------------------------------------


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("owned",)


def test_no_pickle_runs_anything(tmp_path: Path) -> None:
    """Wherever a file could be a pickle: batches, weights as torch writes them, arrays as numpy writes them."""
    with pytest.raises(ValueError, match="its checksum is wrong"):
        cifar_pickle.read_published_batch(pickle.dumps({"data": Evil()}), "0" * 32, Path("data_batch_1"))
    path = tmp_path / "evil.pth"
    for zipped in (True, False):
        torch.save({"a": Evil()}, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(ValueError, match=r"evil\.pth"):
            pretrained.read_tensors(path)
    np.savez(tmp_path / "kept.npz", a=np.array([Evil()], object))
    assert cache.load_or_make(tmp_path / "kept.npz", lambda: {"a": np.ones(1)})["a"].tolist() == [1]
    assert not Path("owned").exists()


def test_an_encoders_config_runs_nothing(tmp_path: Path) -> None:
    """auto_map names a file beside it, and other fields fetch code from the hub: neither is looked at."""
    contents = hostile.encoder_files()
    more = {
        "auto_map": {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"},
        "_attn_implementation": "somebody/kernels",
        "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True},
        "architectures": ["evil.Model"],
    }
    contents["config.json"] = json.dumps(json.loads(contents["config.json"]) | more).encode()
    contents["evil.py"] = b"import os; os.mkdir('owned')"
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    encoder = embeddings.load_encoder(str(tmp_path), 10, (), "mean", download=False)
    assert embeddings.embed(encoder, ["a film"]).shape == (1, encoder.embedding_dim)
    assert not list(tmp_path.rglob("owned"))
    assert not Path("owned").exists()


def test_a_tokenizer_brings_no_regular_expression(tmp_path: Path) -> None:
    contents = hostile.encoder_files()
    tokenizer = json.loads(contents["tokenizer.json"])
    tokenizer["pre_tokenizer"] = {
        **{"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    }
    with pytest.raises(ValueError, match="regular expression"):
        embeddings.read_tokenizer(json.dumps(tokenizer))


def foreign_run(folder: Path) -> Path:
    """A finished run with a network of its own, as a stranger would hand it over."""
    code = "import os\nos.mkdir('owned')\nfrom decathlon.models.mlp import MLP\ndef net():\n    return MLP(784, 4, 3)\n"
    config = spoiled.CONFIG | {"options": spoiled.CONFIG["options"] | {"model": "net.py:net"}}
    contents = hostile.run_files() | {"config.json": json.dumps(config).encode(), "model.py": code.encode()}
    hostile.write(folder, contents)
    return folder


def test_a_strangers_run_does_not_run_its_code(
    tmp_path: Path, decathlon: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = foreign_run(tmp_path / "theirs")
    (tmp_path / "a.png").write_bytes(spoiled.image())
    for command in (
        ("evaluate", folder),
        ("predict", "mnist-mlp", "a.png", "--run", folder),
        ("compare", folder, folder),
        ("export", "mnist-mlp", "--run", folder),
    ):
        answer = decathlon(*command)
        assert answer.status == 1
        assert "model.py is a program" in answer.error
    (folder / "summary.json").unlink()
    answer = decathlon("train", "mnist-mlp", "--resume", folder)
    assert "model.py is a program" in answer.error
    assert not Path("owned").exists()
    monkeypatch.setenv(user_model.TRUST, "1")
    assert load.load_run(folder).config.options.model == "net.py:net"
    assert Path("owned").exists()


# --- Pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opener", list(OPENERS))
@pytest.mark.parametrize("side", [7100, 10_000, 40_000])
def test_images_over_the_limit_are_refused_before_decoding(opener: str, side: int, tmp_path: Path) -> None:
    """A header of so many pixels over almost nothing: decoding it would take memory, or complain of its end."""
    content = bytearray(spoiled.image())
    content[16:24] = side.to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path = tmp_path / "huge.png"
    path.write_bytes(content)
    with hostile.limited(1000), pytest.raises(ValueError, match=rf"huge\.png.*({side}×{side}|too many pixels)"):
        OPENERS[opener](path)


@pytest.mark.parametrize("kind", ["EPS", "ICO"])
def test_kinds_of_images_that_nobody_needs(kind: str, tmp_path: Path) -> None:
    """An EPS file starts Ghostscript."""
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, kind)
    for name, opener in OPENERS.items():
        path = tmp_path / f"{name}.png"
        path.write_bytes(out.getvalue())
        with pytest.raises(ValueError, match="is not an image that can be read"):
            opener(path)


def test_a_chunk_that_says_it_is_huge_takes_no_memory(tmp_path: Path) -> None:
    """Found by hypothesis: for a PNG of 78 bytes whose pixels say that they have 83 MB as many bytes were asked for."""
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), "red").save(buffer, "PNG")
    content = bytearray(buffer.getvalue())
    offset = content.index(b"IDAT") - 4
    content[offset : offset + 4] = (1 << 30).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(content)
    with hostile.limited(len(content)), contextlib.suppress(ValueError):
        images.open_image(str(tmp_path / "a.png"))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["predict", "mnist-mlp", "a.png", "--save", "masks"], "--save is for masks and boxes"),
        (["predict", "mnist-mlp", "a.png", "--text-column", "review"], "--text-column does not apply to this task"),
        (["predict", "mnist-mlp", "a.png", "--device", "gpu"], "device 'gpu': there is none such here"),
        (["predict", "mnist-mlp", "a.png", "--device", "cuda:7"], "device 'cuda:7': there is none such here"),
        (["grade", "net.py", "--quick", "--seeds", "2"], "which --quick leaves out"),
        (["inspect", "photos", "--transposed"], "--transposed does not apply"),
    ],
)
def test_options_that_would_do_nothing(args: list[str], words: str, decathlon: Command) -> None:
    Path("net.py").write_text('TASK = "mnist-mlp"\n')
    for number, label in enumerate(("cat", "dog") * 3):
        path = Path("photos", label, f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (number * 40, 0, 0)).save(path)
    Image.fromarray(np.eye(28, dtype=np.uint8) * 255).save("a.png")
    answer = decathlon(*args)
    assert words in answer.error
    assert answer.status == 2


def test_of_an_option_given_twice_the_last_value_counts(decathlon: Command) -> None:
    """A wrapper script may add one: the recipe must be that of the data that are trained on."""
    args = ["train", "mnist-mlp", "--data", "nowhere", "--data", "sample", "--dry-run", "--json"]
    assert json.loads(decathlon(*args).out)["recipe"] == "sample"


def test_attempts_beside_other_folders(decathlon: Command) -> None:
    for name in ("20260101-120000", "backup", "20260101-120000-old"):
        Path("runs/mnist-mlp/attempts", name).mkdir(parents=True)
        Path("runs/mnist-mlp/attempts", name, "net.py").write_text("")
    (row,) = json.loads(decathlon("attempts", "mnist-mlp", "--json").out)
    assert row["folder"].endswith("20260101-120000")
