"""Files as nobody should make them, and what every reader owes: well-formed data, or one error that names the file.

Shared by tests/data/test_hostile.py (few examples), tests/soak/test_many_hostile.py (many) and the fuzzers in fuzz/.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import json
import shutil
import signal
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import spoiled
import torch
from hypothesis import strategies as st
from openers import read_digit
from safetensors.torch import save as to_safetensors
from transformers import RobertaConfig, RobertaModel

from decathlon.data import cifar10, embeddings, imdb, pets, pretrained, voc
from decathlon.data.io import decoded_images, idx, image_folder, own_boxes, voc_coco
from decathlon.data.read_options import ReadOptions
from decathlon.data.transforms import tokens, words
from decathlon.reporting import html
from decathlon.runs import folder as run_folder
from decathlon.runs import load, validate
from decathlon.training import checkpoint

ERRORS = (ValueError, OSError)  # FileNotFoundError and ConnectionError are among the latter
SECONDS = 20  # a hang guard: what is tried here takes milliseconds
MEMORY = 64 << 20  # bytes beyond some multiple of the file's size that Python's and numpy's arrays may take

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
            parsed = read()
        except ERRORS as error:
            message = f"{type(error).__name__}: {error}"
            parsed = None
        else:
            message = ""
    if message:
        assert named in message, f"{named} is not named: {message}"
        return False
    assert well_formed(parsed), parsed
    return True


def listing(folder: Path) -> list[tuple[str, int]]:
    """What lies in a folder: nothing may be added by reading."""
    return sorted((str(path), path.lstat().st_size) for path in folder.rglob("*"))


# --- The readers ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reader:
    """A reader under test.

    Attributes:
        valid: A file as it should be.
        examples: Strategy for the bytes of others.
        name: The file.
        read: Reads it, wherever it lies.
        well_formed: Whether what was read is.
    """

    valid: bytes
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


def read_texts(path: Path) -> imdb.Texts:
    """The texts of a table."""
    return imdb.read_table(path, "a", ReadOptions())


def good_texts(parsed: imdb.Texts) -> bool:
    sides = ((parsed.train, parsed.train_labels), (parsed.test, parsed.test_labels))
    fit = all(len(texts) == len(labels) and set(labels) <= set(range(len(parsed.classes))) for texts, labels in sides)
    rows = words.encode(
        map(words.split, parsed.train), words.build_vocabulary(map(words.split, parsed.train), 50, 1), 20
    )
    return fit and len(parsed.classes) > 1 and rows.shape == (len(parsed.train), 20)


def good_boxes(parsed: voc_coco.Annotation) -> bool:
    boxes, _ = decoded_images.fit_boxes(voc_coco.Annotation(**{**vars(parsed), "size": None}), (9, 7), 1)
    inside, indices = decoded_images.clip_boxes(boxes, (9, 7), decoded_images.BoxCounts())
    fit = len(parsed.boxes) == len(parsed.names) == len(parsed.difficult) == len(indices)
    return fit and bool(np.isfinite(inside).all()) and all(isinstance(name, str) for name in parsed.names)


def coco(path: Path) -> list[voc_coco.Annotation]:
    parsed, classes = voc_coco.read_coco(path, [path.parent])
    assert all(name in classes for annotation in parsed for name in annotation.names)
    return parsed


def good_batch(parsed: tuple[np.ndarray, np.ndarray]) -> bool:
    pixels, labels = parsed
    fit = pixels.shape == (len(labels), 3, 32, 32) and pixels.dtype == np.uint8
    return fit and 0 <= labels.min() <= labels.max() < 10


def good_pictures(parsed: cifar10.CifarArrays) -> bool:
    return good_batch((parsed.pixels, parsed.labels)) and sum(parsed.sides.values()) == len(parsed.labels)


def good_picture(parsed: tuple[torch.Tensor, list[str]]) -> bool:
    return parsed[0].shape == (3, 32, 32) and parsed[0].dtype == torch.uint8


def mask(path: Path, official: bool) -> np.ndarray:
    photo_ = path.parent / "photo.png"
    return pets.read_pair(pets.Pair("train", photo_, path, official))[1]


def good_tensors(parsed: dict[str, torch.Tensor]) -> bool:
    return all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in parsed.items())


@functools.cache
def readers() -> dict[str, Reader]:
    """All of them."""
    image_bytes = st.sampled_from(("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")).flatmap(
        lambda kind: spoiled.bytes_of(spoiled.image(kind))
    )
    masks = st.sampled_from(("L", "P", "1")).flatmap(lambda mode: spoiled.bytes_of(spoiled.mask_bytes(mode, 255)))
    return {
        "idx": Reader(
            spoiled.idx(3, 4, 5),
            spoiled.bytes_of(spoiled.idx(3, 4, 5)),
            "a-ubyte",
            lambda p: idx.read_idx(p, 3),
            lambda a: a.ndim == 3,
        ),
        "idx.gz": Reader(
            gzip.compress(spoiled.idx(9)),
            st.one_of(
                spoiled.bytes_of(gzip.compress(spoiled.idx(9))),
                spoiled.bytes_of(spoiled.idx(9)).map(gzip.compress),
            ),
            "a-ubyte.gz",
            lambda p: idx.read_idx(p, 1),
            lambda a: a.ndim == 1,
        ),
        "plain batch": Reader(
            spoiled.plain_batch(),
            spoiled.bytes_of(spoiled.plain_batch()),
            "test_batch.bin",
            lambda p: cifar10.parse_binary_batch(p.read_bytes(), p),
            good_batch,
        ),
        "archive": Reader(
            spoiled.archive(),
            st.one_of(spoiled.bytes_of(spoiled.archive()), spoiled.bytes_of(spoiled.archive(packed=False))),
            "cifar-10-binary.tar.gz",
            lambda p: cifar10.read_batches(p, False),
            good_pictures,
        ),
        "picture": Reader(spoiled.image(), image_bytes, "a.png", image_folder.read_image, good_picture),
        "digit": Reader(
            spoiled.image(), image_bytes, "a.png", lambda p: read_digit(str(p)), lambda f: f[0].shape == (1, 28, 28)
        ),
        "scene": Reader(
            spoiled.image(),
            image_bytes,
            "a.png",
            decoded_images.read_image,
            lambda f: f[0].mode == "RGB" and 1 <= f[1] <= 8,
        ),
        "trimap": Reader(
            spoiled.mask_bytes("L", 3),
            spoiled.bytes_of(spoiled.mask_bytes("L", 3)),
            "mask.png",
            lambda p: mask(p, True),
            lambda a: a.shape == (7, 9),
        ),
        "mask": Reader(
            spoiled.mask_bytes("L", 255),
            masks,
            "mask.png",
            lambda p: mask(p, False),
            lambda a: set(np.unique(a)) <= {1, 2},
        ),
        "xml": Reader(
            spoiled.XML.encode(),
            spoiled.text_of(spoiled.XML),
            "a.xml",
            lambda p: voc_coco.read_xml(Path("a.png"), p),
            good_boxes,
        ),
        "coco": Reader(
            json.dumps(spoiled.COCO).encode(),
            spoiled.json_of(spoiled.COCO),
            "a.json",
            coco,
            lambda parsed: all(map(good_boxes, parsed)),
        ),
        "csv": Reader(spoiled.CSV.encode(), spoiled.text_of(spoiled.CSV), "a.csv", read_texts, good_texts),
        "jsonl": Reader(
            spoiled.JSONL.encode(),
            st.one_of(
                spoiled.text_of(spoiled.JSONL),
                spoiled.json_of({"text": "x", "label": "y"}).map(lambda b: spoiled.JSONL.encode() + b),
            ),
            "a.jsonl",
            read_texts,
            good_texts,
        ),
        "safetensors": Reader(
            spoiled.tensors(),
            spoiled.bytes_of(spoiled.tensors()),
            "model.safetensors",
            run_folder.load_weights,
            good_tensors,
        ),
        "weights": Reader(
            spoiled.torch_file(True),
            st.booleans().flatmap(lambda zipped: spoiled.bytes_of(spoiled.torch_file(zipped))),
            "w.pth",
            pretrained.read_tensors,
            good_tensors,
        ),
        "json": Reader(
            json.dumps(spoiled.SUMMARY).encode(),
            spoiled.json_of(spoiled.SUMMARY),
            "summary.json",
            validate.summary,
            lambda parsed: parsed.task is not None,
        ),
        "lines": Reader(
            b'{"epoch": 1}\n',
            spoiled.json_of({"epoch": 1}),
            "metrics.jsonl",
            run_folder.read_lines,
            lambda f: isinstance(f, list),
        ),
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
        write(folder, contents)
        before = listing(folder)
        size = sum(map(len, contents.values()))
        read = held(lambda: self.read(folder), self.well_formed, folder.name, size)
        assert listing(folder) == before, "something was written"
        shutil.rmtree(folder)
        return read


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Write files, by their paths in the folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def run_files() -> dict[str, bytes]:
    """A finished run, with a checkpoint."""
    return dict(_run_files())


@functools.cache
def _run_files() -> dict[str, bytes]:
    weights = spoiled.mlp_weights()
    packed = to_safetensors({f"model/{name}": tensor for name, tensor in weights.items()})
    state = spoiled.STATE | {"task": spoiled.CONFIG["task"], "sha256": hashlib.sha256(packed).hexdigest()}
    return {
        "config.json": json.dumps(spoiled.CONFIG).encode(),
        "model.safetensors": to_safetensors(weights),
        "summary.json": json.dumps(spoiled.SUMMARY).encode(),
        "environment.json": json.dumps({name: spoiled.SUMMARY[name] for name in spoiled.ENVIRONMENT}).encode(),
        "metrics.jsonl": b'{"epoch": 1, "train": {"loss": 0.5}, "validation": {"accuracy": 0.5, "loss": 0.1}}\n',
        "checkpoint/step-00000003.safetensors": packed,
        "checkpoint/step-00000003.json": json.dumps(state).encode(),
    }


def good_run(loaded: load.Loaded) -> bool:
    """Whether the network answers; of the other tasks that a config may name, it is enough that they are built."""
    if loaded.task.SPEC.id != "mnist-mlp":
        return True
    with torch.no_grad():
        return loaded.model(torch.zeros(1, 1, 28, 28)).shape == (1, len(loaded.info.classes))


def checkpoint_of(folder: Path) -> checkpoint.State | None:
    """The state of the last checkpoint, put into a network. Its checksum is right, as a forger would make it."""
    (path,) = (folder / "checkpoint").glob("*.json")
    content = path.read_bytes()
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        state = json.loads(content)
        state["sha256"] = hashlib.sha256(path.with_suffix(".safetensors").read_bytes()).hexdigest()
        state.pop("json_sha256", None)
        path.write_text(json.dumps(state))
    parsed = checkpoint.load(folder, spoiled.CONFIG["task"])
    path.write_bytes(content)
    if parsed is None:
        return None
    model = load.load_run(folder).model
    state, _ = checkpoint.restore(parsed, model, model)
    checkpoint.restore_optimizers(parsed, [torch.optim.AdamW(model.parameters())])
    return state


def good_state(state: checkpoint.State | None) -> bool:
    return state is None or min(state.step, state.epoch, state.batch, state.train_seconds) >= 0


def page(folder: Path) -> str:
    """The report of a run folder, as `decathlon report` writes it, but taken back."""
    path = folder / "report.html"
    with html.naming_damaged_run(folder):
        html.write(folder, validate.summary(folder / "summary.json"))
    text = path.read_text()
    path.unlink()
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
    tokenizer = tokens.train_tokenizer(["a film of which nobody has heard", "a bad film"], 280)
    shape = {"vocab_size": 280, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = RobertaConfig(**shape, intermediate_size=8, max_position_embeddings=20, type_vocab_size=1)
    weights = RobertaModel(config, add_pooling_layer=False).state_dict()
    return {
        "config.json": json.dumps(config.to_diff_dict() | {"model_type": "roberta"}).encode(),
        "model.safetensors": to_safetensors(weights, {"format": "pt"}),
        "tokenizer.json": tokenizer.to_str().encode(),
    }


def read_encoder(folder: Path) -> tuple[embeddings.Encoder, torch.Tensor]:
    parsed = embeddings.load_encoder(str(folder), 10, (), "mean", download=False)
    return parsed, embeddings.embed(parsed, ["a film", "nobody"])


def pets_files() -> dict[str, bytes]:
    """A tree as Oxford-IIIT Pet has it."""
    names = ["a_1", "a_2", "a_3", "b_1"]
    pictures_ = {f"images/{name}.jpg": spoiled.image("JPEG") for name in names}
    masks = {f"annotations/trimaps/{name}.png": spoiled.mask_bytes("L", 3) for name in names}
    lists = {"annotations/trainval.txt": b"a_1 1 1 1\na_2 1 1 1\na_3 1 1 1\n", "annotations/test.txt": b"b_1 1 1 1\n"}
    return pictures_ | masks | lists


def voc_files() -> dict[str, bytes]:
    """A tree as PASCAL VOC has it."""
    names = ["1", "2", "3"]
    files = {f"Annotations/{name}.xml": spoiled.XML.encode() for name in names}
    files |= {f"JPEGImages/{name}.png": spoiled.image() for name in names}
    return files | {"ImageSets/Main/trainval.txt": b"1\n2\n", "ImageSets/Main/test.txt": b"3\n"}


def read_voc(folder: Path) -> Any:
    return voc.read_voc(voc.list_files(folder, ()), ())


YOLO_CONFIG = "path: .\ntrain: images/train\nnames:\n  0: cat\n  1: 'small dog'\n"
YOLO_LABELS = "0 0.5 0.5 0.2 0.4\n1 0.1 0.1 0.3 0.1 0.3 0.6\n"


def yolo_files() -> dict[str, bytes]:
    """A tree as YOLO's tools write it."""
    names = [f"{side}/{number}" for side in ("train", "val") for number in range(3)]
    labels = {f"labels/{name}.txt": YOLO_LABELS.encode() for name in names}
    return {f"images/{name}.png": spoiled.image() for name in names} | labels | {"data.yaml": YOLO_CONFIG.encode()}


@functools.cache
def folders() -> dict[str, Folder]:
    """All of them."""
    config, tensors_ = run_files(), encoder_files()
    checkpoint_json = next(name for name in config if name.startswith("checkpoint") and name.endswith("json"))
    checkpoint_tensors = checkpoint_json.replace("json", "safetensors")
    run_parts = {
        "config.json": spoiled.json_of(spoiled.CONFIG),
        "model.safetensors": spoiled.bytes_of(config["model.safetensors"]),
    }
    return {
        "run": Folder(run_files, run_parts, load.load_run, good_run),
        "checkpoint": Folder(
            run_files,
            {
                checkpoint_json: spoiled.json_of(json.loads(config[checkpoint_json])),
                checkpoint_tensors: spoiled.bytes_of(config[checkpoint_tensors]),
            },
            checkpoint_of,
            good_state,
        ),
        "page": Folder(
            run_files,
            {
                "config.json": spoiled.json_of(spoiled.CONFIG),
                "summary.json": spoiled.json_of(spoiled.SUMMARY),
                "environment.json": spoiled.json_of(json.loads(config["environment.json"])),
                "metrics.jsonl": spoiled.json_of(json.loads(config["metrics.jsonl"])),
            },
            page,
            lambda text: "<script>x" not in text,
        ),
        "aclimdb": Folder(
            tree_files, {"train/neg/0.txt": spoiled.text_of("a film")}, lambda f: imdb.read_tree(f, "x"), good_texts
        ),
        "encoder": Folder(
            encoder_files,
            {
                "config.json": spoiled.json_of(json.loads(tensors_["config.json"])),
                "model.safetensors": spoiled.bytes_of(tensors_["model.safetensors"]),
                "tokenizer.json": spoiled.json_of(json.loads(tensors_["tokenizer.json"])),
            },
            read_encoder,
            lambda parsed: parsed[1].shape == (2, parsed[0].embedding_dim),
        ),
        "pets": Folder(
            pets_files,
            {"annotations/trainval.txt": spoiled.text_of("a_1 1 1 1\na_2 1 1 1\na_3 1 1 1\n")},
            lambda f: pets.decode_pairs(pets.list_pairs(f), 16),
            lambda parsed: parsed["images"].shape == (len(parsed["slices"]), 3, 16, 16),
        ),
        "voc": Folder(
            voc_files,
            {
                "ImageSets/Main/trainval.txt": spoiled.text_of("1\n2\n"),
                "Annotations/1.xml": spoiled.text_of(spoiled.XML),
            },
            read_voc,
            lambda parsed: len(parsed[1]) > 0 and all(map(good_boxes, parsed[0]["train"])),
        ),
        "yolo": Folder(
            yolo_files,
            {"data.yaml": spoiled.text_of(YOLO_CONFIG), "labels/train/0.txt": spoiled.text_of(YOLO_LABELS)},
            lambda f: own_boxes.find_boxes(f).read(),
            lambda parsed: all(set(a.names) <= set(parsed[1]) and good_boxes(a) for a in parsed[0]["train"]),
        ),
    }
