"""Files as nobody should make them, and what every reader owes: well-formed data, or one error that names the file.

Shared by tests/test_hostile.py (few examples), tests/soak/test_hostile.py (many) and the fuzzers in fuzz/.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import io
import json
import pickle
import shutil
import signal
import struct
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save as to_safetensors
from transformers import RobertaConfig, RobertaModel

from decathlon import checkpoint, encoder, guard, pretrained, report, run, train
from decathlon.data import annotations, cifar10, digit, imdb, mnist, pets, photo, pictures, pieces, voc, words
from decathlon.recipe import from_dict, get_task

ERRORS = (ValueError, OSError)  # FileNotFoundError and ConnectionError are among the latter
SECONDS = 20  # a hang guard: what is tried here takes milliseconds
MEMORY = 64 << 20  # bytes beyond some multiple of the file's size that Python's and numpy's arrays may take

# --- Valid files, to be spoiled ---------------------------------------------------------------------------------------


def idx(*sizes: int) -> bytes:
    """Digits or labels as MNIST has them."""
    count = int(np.prod(sizes))
    return bytes((0, 0, 8, len(sizes))) + struct.pack(f">{len(sizes)}I", *sizes) + bytes(i % 10 for i in range(count))


def batch(labels: Any = (1, 2), protocol: int = 2) -> bytes:
    """A pickled batch of CIFAR-10."""
    pixels = np.zeros((2, 3072), np.uint8)
    return pickle.dumps({"data": pixels, "labels": list(labels), "filenames": ["a.png", "b.png"]}, protocol)


def plain_batch(count: int = 2) -> bytes:
    """The same in plain bytes."""
    return b"".join(bytes([number % 10]) + bytes(3072) for number in range(count))


def archive(packed: bool = True) -> bytes:
    """The release as an archive, with plain batches."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz" if packed else "w") as tar:
        for name in cifar10.PLAIN:
            content = plain_batch()
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def mask_bytes(mode: str, top: int) -> bytes:
    """A small mask of 0 and `top`, or with 3 a trimap."""
    out = io.BytesIO()
    values = np.array([[1, 2, 3] * 3, [2] * 9] * 3 + [[1] * 9] if top == 3 else [[0, 0, top] * 3] * 7, np.uint8)
    Image.fromarray(values).convert(mode).save(out, "PNG")
    return out.getvalue()


def image(kind: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (9, 7)) -> bytes:
    """A small picture."""
    out = io.BytesIO()
    values = np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(size[1], size[0], 3)
    Image.fromarray(values).convert(mode).save(out, kind)
    return out.getvalue()


XML = """<annotation><size><width>9</width><height>7</height><depth>3</depth></size><object><name>cat</name>
<difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>5</xmax><ymax>6</ymax></bndbox></object></annotation>"""
COCO: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "photo.png", "width": 9, "height": 7}],
    "categories": [{"id": 3, "name": "cat"}, {"id": 4, "name": "dog"}],
    "annotations": [{"id": 7, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 0}],
}
CSV = "text,label\n" + "".join(f'"a film, number {n}",{n % 2}\n' for n in range(12))
JSONL = "".join(json.dumps({"text": f"film {n}", "label": n % 2}) + "\n" for n in range(12))
CONFIG: dict[str, Any] = {
    "task": "mnist-mlp",
    "recipe": {"seed": 0, "epochs": 1, "hidden": 4, "optimizer": {"name": "adamw", "lr": 0.001}},
    "options": {"data": "sample", "data_dir": None, "devices": 1, "model": None, "until_bar": False},
    "data": "mnist-sample",
    "meta": {"classes": ["0", "1", "2"]},
}
SUMMARY: dict[str, Any] = {
    **{"task": "mnist-mlp", "data": "mnist-sample", "split": "test", "metric": "accuracy", "value": 0.9, "bar": 0.98},
    **{"passed": False, "counts": False, "broken_rules": [], "metrics": {"accuracy": 0.9, "loss": 0.1}, "seed": 0},
    **{"epochs": 1, "steps": 2, "train_seconds": 1.5, "seconds_to_bar": None, "parameters": 3155, "overrides": {}},
    **{"until_bar": False, "model": None, "encoder": None, "devices": 1, "peak_memory_mib": 3, "device": "cpu"},
    **{"hardware": "x", "threads": 1, "commit": None, "versions": {"torch": "2"}},
}
ENVIRONMENT = ("hardware", "device", "threads", "versions", "commit")
STATE: dict[str, Any] = {"epoch": 1, "batch": 0, "step": 3, "train_seconds": 1.0, "seconds_to_bar": None}


def mlp_weights() -> dict[str, torch.Tensor]:
    """Weights that fit `CONFIG`."""
    task = get_task(CONFIG["task"])
    recipe = from_dict(train.base_recipe(task, "sample"), CONFIG["recipe"])
    return task.model(recipe, CONFIG["meta"]).state_dict()


def tensors() -> bytes:
    """The same as a safetensors file."""
    return to_safetensors(mlp_weights())


def torch_file(zipped: bool = True) -> bytes:
    """The same as torch writes them."""
    out = io.BytesIO()
    torch.save(mlp_weights(), out, _use_new_zipfile_serialization=zipped)
    return out.getvalue()


# --- How to spoil them ------------------------------------------------------------------------------------------------

DEEP = "[" * 100_000
ODD_TEXTS = ["", "\0", "\x1b[2J", "\n", "../../x", "/etc/passwd", "<script>x</script>", "$\\frac", "a" * 5000, "\ud800"]
ODD_NUMBERS = [0, -1, 2**31, 2**63, 10**400, 1e308, -1e308, float("nan"), float("inf"), 0.5, True, None]
odd = st.one_of(
    st.sampled_from(ODD_TEXTS),
    st.sampled_from(ODD_NUMBERS),
    st.sampled_from([[], {}, [[]], {"a": [1, {"b": None}]}, [0] * 50]),
    st.text(max_size=20),
    st.integers(),
    st.floats(),
)


@st.composite
def spoiled_bytes(draw: st.DrawFn, valid: bytes) -> bytes:
    """A valid file cut, stretched, with bytes changed, parts doubled or moved; or nothing like it."""
    if (how := draw(st.integers(0, 9))) < 2:  # now and then as it should be, so that well-formed data are checked, too
        return draw(st.binary(max_size=300)) if how else valid
    content = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        kind = draw(st.sampled_from(("cut", "flip", "number", "insert", "double", "remove", "swap")))
        other = draw(st.integers(0, max(0, len(content) - 1)))
        start, end = sorted((place, other))
        if kind == "cut":
            del content[place:]
        elif kind == "flip" and content:
            content[place] = draw(st.integers(0, 255))
        elif kind == "number":
            value = draw(st.sampled_from((0, 1, 0x7F, 0xFF)))
            content[place : place + 4] = bytes([value] * 4)
        elif kind == "insert":
            content[place:place] = draw(st.binary(max_size=20))
        elif kind == "double":
            content[start:start] = content[start : min(end, start + 4000)]
        elif kind == "remove":
            del content[start:end]
        elif kind == "swap":
            content[start : start + 8], content[end : end + 8] = content[end : end + 8], content[start : start + 8]
    return bytes(content)


@st.composite
def spoiled_text(draw: st.DrawFn, valid: str) -> bytes:
    """A text with words replaced by odd ones, in some encoding; or its bytes spoiled."""
    if draw(st.booleans()):
        return draw(spoiled_bytes(valid.encode()))
    for _ in range(draw(st.integers(1, 3))):
        place, length = draw(st.integers(0, len(valid))), draw(st.integers(0, 12))
        word = draw(st.one_of(st.sampled_from(ODD_TEXTS), st.sampled_from(ODD_NUMBERS), st.just(DEEP)))
        valid = valid[:place] + str(word) + valid[place + length :]
    return valid.encode(draw(st.sampled_from(("utf-8", "utf-16", "utf-8-sig"))), "surrogatepass")


@st.composite
def spoiled_value(draw: st.DrawFn, valid: Any) -> Any:
    """Plain data with one or two of its values, at any depth, left out, replaced or added to."""
    found = json.loads(json.dumps(valid))
    for _ in range(draw(st.integers(1, 2))):
        inside = found
        while True:
            keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(inside[key], (dict, list)) and inside[key] and draw(st.integers(0, 3)):
                inside = inside[key]
                continue
            if draw(st.integers(0, 4)) == 0:
                del inside[key]
            elif draw(st.integers(0, 4)) == 0 and isinstance(inside, dict):
                inside[draw(st.text(max_size=5))] = draw(odd)
            else:
                inside[key] = draw(odd)
            break
    return found


@st.composite
def spoiled_json(draw: st.DrawFn, valid: Any) -> bytes:
    """The same as JSON; or the text of it spoiled, nested without end, or with a key twice."""
    how, text = draw(st.integers(0, 9)), json.dumps(valid)
    if how == 0:
        return text.encode()
    if how < 6:
        return json.dumps(draw(spoiled_value(valid))).encode()
    if how == 6:
        inside = text.replace("{", '{"x": ' + DEEP + ",", 1)
        return draw(st.sampled_from((DEEP, '{"a":' * 50_000, inside))).encode()
    if how == 7:
        return text.replace("{", '{"task": 1, "images": 2, ', 1).encode()
    return draw(spoiled_text(text))


# --- The property -----------------------------------------------------------------------------------------------------


class Hang(BaseException):
    """It took too long."""


@contextlib.contextmanager
def limited(size: int) -> Iterator[None]:
    """Fail where the inside takes longer than `SECONDS`, or memory far beyond `size` bytes (as Python counts it)."""

    def ring(number: int, frame: Any) -> None:
        raise Hang(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    tracemalloc.start()
    try:
        yield
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert most < MEMORY + 100 * size, f"{most:,} bytes for a file of {size:,}"


def held(read: Callable[[], Any], well_formed: Callable[[Any], bool], named: str, size: int | None = None) -> bool:
    """Whether it was read; asserts that it is then well-formed, and else that the one error names the file.

    With the `size` of the file, time and memory are limited, too.
    """
    with contextlib.nullcontext() if size is None else limited(size):
        try:
            found = read()
        except ERRORS as error:
            said = f"{type(error).__name__}: {error}"
            found = None
        else:
            said = ""
    if said:
        assert named in said, f"{named} is not named: {said}"
        return False
    assert well_formed(found), found
    return True


def listing(folder: Path) -> list[tuple[str, int]]:
    """What lies in a folder: nothing may be added by reading."""
    return sorted((str(path), path.lstat().st_size) for path in folder.rglob("*"))


# --- The readers ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reader:
    """A reader under test.

    Attributes:
        examples: Strategy for the bytes of the file.
        name: The file.
        read: Reads it, wherever it lies.
        well_formed: Whether what was read is.
    """

    examples: st.SearchStrategy[bytes]
    name: str
    read: Callable[[Path], Any]
    well_formed: Callable[[Any], bool]

    def holds(self, content: bytes, folder: Path) -> bool:
        """Assert the property for these bytes; whether they were read."""
        path = folder / self.name
        path.write_bytes(content)
        before = listing(folder)
        read = held(lambda: self.read(path), self.well_formed, self.name, len(content))
        assert listing(folder) == before, "something was written"
        return read


def good_texts(found: imdb.Texts) -> bool:
    sides = ((found.train, found.train_labels), (found.test, found.test_labels))
    fit = all(len(texts) == len(labels) and set(labels) <= set(range(len(found.classes))) for texts, labels in sides)
    rows = words.encode(map(words.split, found.train), words.vocabulary(map(words.split, found.train), 50, 1), 20)
    return fit and len(found.classes) > 1 and rows.shape == (len(found.train), 20)


def good_boxes(found: annotations.Annotation) -> bool:
    boxes, _ = pictures.fitted(annotations.Annotation(**{**vars(found), "size": None}), (9, 7), 1)
    inside, kept = pictures.clipped(boxes, (9, 7), pictures.Tally())
    fit = len(found.boxes) == len(found.names) == len(found.difficult) == len(kept)
    return fit and bool(np.isfinite(inside).all()) and all(isinstance(name, str) for name in found.names)


def coco(path: Path) -> list[annotations.Annotation]:
    found, classes = annotations.read_coco(path, [path.parent])
    assert all(name in classes for one in found for name in one.names)
    return found


def good_batch(found: tuple[np.ndarray, np.ndarray]) -> bool:
    pixels, labels = found
    fit = pixels.shape == (len(labels), 3, 32, 32) and pixels.dtype == np.uint8
    return fit and 0 <= labels.min() <= labels.max() < 10


def good_pictures(found: cifar10.Pictures) -> bool:
    return good_batch((found.pixels, found.labels)) and sum(found.sides.values()) == len(found.labels)


def good_picture(found: tuple[torch.Tensor, list[str]]) -> bool:
    return found[0].shape == (3, 32, 32) and found[0].dtype == torch.uint8


def mask(path: Path, official: bool) -> np.ndarray:
    photo_ = path.parent / "photo.png"
    return pets.read(pets.Pair("train", photo_, path, official))[1]


def good_tensors(found: dict[str, torch.Tensor]) -> bool:
    return all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in found.items())


@functools.cache
def readers() -> dict[str, Reader]:
    """All of them."""
    image_bytes = st.sampled_from(("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")).flatmap(
        lambda kind: spoiled_bytes(image(kind))
    )
    masks = st.sampled_from(("L", "P", "1")).flatmap(lambda mode: spoiled_bytes(mask_bytes(mode, 255)))
    return {
        "idx": Reader(spoiled_bytes(idx(3, 4, 5)), "a-ubyte", lambda p: mnist.read_idx(p, 3), lambda a: a.ndim == 3),
        "idx.gz": Reader(
            st.one_of(spoiled_bytes(gzip.compress(idx(9))), spoiled_bytes(idx(9)).map(gzip.compress)),
            "a-ubyte.gz",
            lambda p: mnist.read_idx(p, 1),
            lambda a: a.ndim == 1,
        ),
        "pickle": Reader(
            st.sampled_from((0, 2, 4, 5)).flatmap(lambda p: spoiled_bytes(batch(protocol=p))),
            "data_batch_1",
            lambda p: cifar10.pickled_batch(p.read_bytes(), p),
            good_batch,
        ),
        "plain batch": Reader(
            spoiled_bytes(plain_batch()), "test_batch.bin", lambda p: cifar10.plain_batch(p.read_bytes(), p), good_batch
        ),
        "archive": Reader(
            st.one_of(spoiled_bytes(archive()), spoiled_bytes(archive(packed=False))),
            "cifar-10-binary.tar.gz",
            lambda p: cifar10.batches(p, False),
            good_pictures,
        ),
        "picture": Reader(image_bytes, "a.png", photo.picture, good_picture),
        "digit": Reader(image_bytes, "a.png", lambda p: digit.read_digit(str(p)), lambda f: f[0].shape == (1, 28, 28)),
        "scene": Reader(image_bytes, "a.png", pictures.read, lambda f: f[0].mode == "RGB" and 1 <= f[1] <= 8),
        "trimap": Reader(
            spoiled_bytes(mask_bytes("L", 3)), "mask.png", lambda p: mask(p, True), lambda a: a.shape == (7, 9)
        ),
        "mask": Reader(masks, "mask.png", lambda p: mask(p, False), lambda a: set(np.unique(a)) <= {1, 2}),
        "xml": Reader(spoiled_text(XML), "a.xml", lambda p: annotations.read_xml(Path("a.png"), p), good_boxes),
        "coco": Reader(spoiled_json(COCO), "a.json", coco, lambda found: all(map(good_boxes, found))),
        "csv": Reader(spoiled_text(CSV), "a.csv", lambda p: imdb.table(p, "a"), good_texts),
        "jsonl": Reader(
            st.one_of(spoiled_text(JSONL), spoiled_json({"text": "x", "label": "y"}).map(lambda b: JSONL.encode() + b)),
            "a.jsonl",
            lambda p: imdb.table(p, "a"),
            good_texts,
        ),
        "safetensors": Reader(spoiled_bytes(tensors()), "model.safetensors", run.load_weights, good_tensors),
        "weights": Reader(
            st.booleans().flatmap(lambda zipped: spoiled_bytes(torch_file(zipped))),
            "w.pth",
            pretrained.read,
            good_tensors,
        ),
        "json": Reader(spoiled_json(SUMMARY), "summary.json", guard.summary, lambda found: found["task"] is not None),
        "lines": Reader(spoiled_json({"epoch": 1}), "metrics.jsonl", run.read_lines, lambda f: isinstance(f, list)),
    }


# --- Folders of several files -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Folder:
    """What is a folder to its reader.

    Attributes:
        files: Its files as they should be.
        spoiled: Of some, strategies for other contents.
        read: Reads the folder.
        well_formed: Whether what was read is.
    """

    files: Callable[[], dict[str, bytes]]
    spoiled: dict[str, st.SearchStrategy[bytes]]
    read: Callable[[Path], Any]
    well_formed: Callable[[Any], bool]

    def holds(self, data: st.DataObject, folder: Path) -> bool:
        """Assert the property with one file spoiled; whether it was read."""
        contents = self.files()
        name = data.draw(st.sampled_from(sorted(self.spoiled)))
        contents[name] = data.draw(self.spoiled[name])
        for one, content in contents.items():
            (folder / one).parent.mkdir(parents=True, exist_ok=True)
            (folder / one).write_bytes(content)
        before = listing(folder)
        size = sum(map(len, contents.values()))
        read = held(lambda: self.read(folder), self.well_formed, folder.name, size)
        assert listing(folder) == before, "something was written"
        shutil.rmtree(folder)
        return read


def run_files() -> dict[str, bytes]:
    """A finished run, with a checkpoint."""
    return dict(_run_files())


@functools.cache
def _run_files() -> dict[str, bytes]:
    weights = mlp_weights()
    packed = to_safetensors({f"model/{name}": tensor for name, tensor in weights.items()})
    state = STATE | {"task": CONFIG["task"], "sha256": hashlib.sha256(packed).hexdigest()}
    return {
        "config.json": json.dumps(CONFIG).encode(),
        "model.safetensors": to_safetensors(weights),
        "summary.json": json.dumps(SUMMARY).encode(),
        "environment.json": json.dumps({name: SUMMARY[name] for name in ENVIRONMENT}).encode(),
        "metrics.jsonl": b'{"epoch": 1, "train": {"loss": 0.5}, "validation": {"accuracy": 0.5, "loss": 0.1}}\n',
        "checkpoint/step-00000003.safetensors": packed,
        "checkpoint/step-00000003.json": json.dumps(state).encode(),
    }


def good_run(loaded: train.Loaded) -> bool:
    """Whether the network answers; of the other tasks that a config may name, it is enough that they are built."""
    if loaded.task.CARD.id != "mnist-mlp":
        return True
    with torch.no_grad():
        return loaded.model(torch.zeros(1, 1, 28, 28)).shape == (1, len(loaded.config["meta"]["classes"]))


def checkpoint_of(folder: Path) -> checkpoint.State | None:
    """The state of the last checkpoint, put into a network. Its checksum is right, as a forger would make it."""
    (path,) = (folder / "checkpoint").glob("*.json")
    content = path.read_bytes()
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        state = json.loads(content)
        state["sha256"] = hashlib.sha256(path.with_suffix(".safetensors").read_bytes()).hexdigest()
        state.pop("seal", None)
        path.write_text(json.dumps(state))
    found = checkpoint.load(folder, CONFIG["task"])
    path.write_bytes(content)
    if found is None:
        return None
    model = train.load_run(folder).model
    state, _ = checkpoint.restore(found, model, model)
    checkpoint.restore_optimizers(found, [torch.optim.AdamW(model.parameters())])
    return state


def good_state(state: checkpoint.State | None) -> bool:
    return state is None or min(state.step, state.epoch, state.batch, state.train_seconds) >= 0


def page(folder: Path) -> str:
    """The report of a run folder, as `decathlon report` writes it, but taken back."""
    place = folder / "report.html"
    with guard.reading(folder):
        report.write(folder, guard.summary(folder / "summary.json"))
    text = place.read_text()
    place.unlink()
    return text


def tree_files() -> dict[str, bytes]:
    """Reviews as aclImdb has them."""
    names = [f"{side}/{kind}/{n}.txt" for side in ("train", "test") for kind in ("neg", "pos") for n in range(3)]
    return {name: f"a film, {name}".encode() for name in names}


def encoder_files() -> dict[str, bytes]:
    """A tiny encoder."""
    return dict(_encoder_files())


@functools.cache
def _encoder_files() -> dict[str, bytes]:
    tokenizer = pieces.choose(["a film of which nobody has heard", "a bad film"], 280)
    shape = {"vocab_size": 280, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = RobertaConfig(**shape, intermediate_size=8, max_position_embeddings=20, type_vocab_size=1)
    weights = RobertaModel(config, add_pooling_layer=False).state_dict()
    return {
        "config.json": json.dumps(config.to_diff_dict() | {"model_type": "roberta"}).encode(),
        "model.safetensors": to_safetensors(weights, {"format": "pt"}),
        "tokenizer.json": tokenizer.to_str().encode(),
    }


def read_encoder(folder: Path) -> tuple[encoder.Encoder, torch.Tensor]:
    found = encoder.find(str(folder), 10, (), "mean", download=False)
    return found, encoder.vectors(found, ["a film", "nobody"])


def pets_files() -> dict[str, bytes]:
    """A tree as Oxford-IIIT Pet has it."""
    names = ["a_1", "a_2", "a_3", "b_1"]
    pictures_ = {f"images/{name}.jpg": image("JPEG") for name in names}
    masks = {f"annotations/trimaps/{name}.png": mask_bytes("L", 3) for name in names}
    lists = {"annotations/trainval.txt": b"a_1 1 1 1\na_2 1 1 1\na_3 1 1 1\n", "annotations/test.txt": b"b_1 1 1 1\n"}
    return pictures_ | masks | lists


def voc_files() -> dict[str, bytes]:
    """A tree as PASCAL VOC has it."""
    names = ["1", "2", "3"]
    made = {f"Annotations/{name}.xml": XML.encode() for name in names}
    made |= {f"JPEGImages/{name}.png": image() for name in names}
    return made | {"ImageSets/Main/trainval.txt": b"1\n2\n", "ImageSets/Main/test.txt": b"3\n"}


def read_voc(folder: Path) -> Any:
    return voc.read_voc(voc.lists(folder, ()), ())


@functools.cache
def folders() -> dict[str, Folder]:
    """All of them."""
    config, tensors_ = run_files(), encoder_files()
    checkpoint_json = next(name for name in config if name.startswith("checkpoint") and name.endswith("json"))
    checkpoint_tensors = checkpoint_json.replace("json", "safetensors")
    run_parts = {"config.json": spoiled_json(CONFIG), "model.safetensors": spoiled_bytes(config["model.safetensors"])}
    return {
        "run": Folder(run_files, run_parts, train.load_run, good_run),
        "checkpoint": Folder(
            run_files,
            {
                checkpoint_json: spoiled_json(json.loads(config[checkpoint_json])),
                checkpoint_tensors: spoiled_bytes(config[checkpoint_tensors]),
            },
            checkpoint_of,
            good_state,
        ),
        "page": Folder(
            run_files,
            {
                "config.json": spoiled_json(CONFIG),
                "summary.json": spoiled_json(SUMMARY),
                "environment.json": spoiled_json(json.loads(config["environment.json"])),
                "metrics.jsonl": spoiled_json(json.loads(config["metrics.jsonl"])),
            },
            page,
            lambda text: "<script>x" not in text,
        ),
        "aclimdb": Folder(
            tree_files, {"train/neg/0.txt": spoiled_text("a film")}, lambda f: imdb.tree(f, "x"), good_texts
        ),
        "encoder": Folder(
            encoder_files,
            {
                "config.json": spoiled_json(json.loads(tensors_["config.json"])),
                "model.safetensors": spoiled_bytes(tensors_["model.safetensors"]),
                "tokenizer.json": spoiled_json(json.loads(tensors_["tokenizer.json"])),
            },
            read_encoder,
            lambda found: found[1].shape == (2, found[0].values),
        ),
        "pets": Folder(
            pets_files,
            {"annotations/trainval.txt": spoiled_text("a_1 1 1 1\na_2 1 1 1\na_3 1 1 1\n")},
            lambda f: pets.decode(pets.listed(f), 16),
            lambda found: found["photos"].shape == (len(found["places"]), 3, 16, 16),
        ),
        "voc": Folder(
            voc_files,
            {"ImageSets/Main/trainval.txt": spoiled_text("1\n2\n"), "Annotations/1.xml": spoiled_text(XML)},
            read_voc,
            lambda found: len(found[1]) > 0 and all(map(good_boxes, found[0]["train"])),
        ),
    }
