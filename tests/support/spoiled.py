"""Files as they should be, and how to spoil them: what tests/support/hostile.py tries the readers with."""

from __future__ import annotations

import copy
import io
import json
import struct
import tarfile
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save as to_safetensors

from decathlon.data import cifar10
from decathlon.data.base import DataInfo
from decathlon.tasks.base import base_recipe, get_task
from decathlon.tasks.recipe import from_dict

# --- Valid files, to be spoiled ---------------------------------------------------------------------------------------


def idx(*sizes: int) -> bytes:
    """Digits or labels as MNIST has them."""
    count = int(np.prod(sizes))
    return bytes((0, 0, 8, len(sizes))) + struct.pack(f">{len(sizes)}I", *sizes) + bytes(i % 10 for i in range(count))


def plain_batch(count: int = 2) -> bytes:
    """A binary batch of CIFAR-10."""
    return b"".join(bytes([number % 10]) + bytes(3072) for number in range(count))


def archive(packed: bool = True) -> bytes:
    """The release as an archive, with plain batches."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz" if packed else "w") as tar:
        for name in cifar10.BINARY_BATCHES:
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
    "info": {"classes": ["0", "1", "2"]},
}
SUMMARY: dict[str, Any] = {
    **{"task": "mnist-mlp", "data": "mnist-sample", "split": "test", "metric": "accuracy", "value": 0.9, "bar": 0.98},
    **{"passed": False, "counts": False, "violations": [], "metrics": {"accuracy": 0.9, "loss": 0.1}, "seed": 0},
    **{"epochs": 1, "steps": 2, "train_seconds": 1.5, "seconds_to_bar": None, "parameters": 3155, "overrides": {}},
    **{"until_bar": False, "model": None, "encoder": None, "devices": 1, "training_memory_mib": 3, "device": "cpu"},
    **{"hardware": "x", "threads": 1, "commit": None, "versions": {"torch": "2"}},
}
ENVIRONMENT = ("hardware", "device", "threads", "versions", "commit")
STATE: dict[str, Any] = {"epoch": 1, "batch": 0, "step": 3, "train_seconds": 1.0, "seconds_to_bar": None}


def mlp_weights() -> dict[str, torch.Tensor]:
    """Weights that fit `CONFIG`."""
    task = get_task(CONFIG["task"])
    recipe = from_dict(base_recipe(task, "sample"), CONFIG["recipe"])
    return task.model(recipe, DataInfo(**CONFIG["info"])).state_dict()


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
    st.sampled_from([[], {}, [[]], {"a": [1, {"b": None}]}, [0] * 50]).map(copy.deepcopy),
    st.text(max_size=20),
    st.integers(),
    st.floats(),
)


@st.composite
def bytes_of(draw: st.DrawFn, valid: bytes) -> bytes:
    """A valid file cut, stretched, with bytes changed, parts doubled or moved; or nothing like it."""
    if (how := draw(st.integers(0, 9))) < 2:  # now and then as it should be, so that well-formed data are checked, too
        return draw(st.binary(max_size=300)) if how else valid
    content = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        offset = draw(st.integers(0, max(0, len(content) - 1)))
        kind = draw(st.sampled_from(("cut", "flip", "number", "insert", "double", "remove", "swap")))
        second = draw(st.integers(0, max(0, len(content) - 1)))
        start, end = sorted((offset, second))
        if kind == "cut":
            del content[offset:]
        elif kind == "flip" and content:
            content[offset] = draw(st.integers(0, 255))
        elif kind == "number":
            value = draw(st.sampled_from((0, 1, 0x7F, 0xFF)))
            content[offset : offset + 4] = bytes([value] * 4)
        elif kind == "insert":
            content[offset:offset] = draw(st.binary(max_size=20))
        elif kind == "double":
            content[start:start] = content[start : min(end, start + 4000)]
        elif kind == "remove":
            del content[start:end]
        elif kind == "swap":
            content[start : start + 8], content[end : end + 8] = content[end : end + 8], content[start : start + 8]
    return bytes(content)


@st.composite
def text_of(draw: st.DrawFn, valid: str) -> bytes:
    """A text with words replaced by odd ones, in some encoding; or its bytes spoiled."""
    if draw(st.booleans()):
        return draw(bytes_of(valid.encode()))
    for _ in range(draw(st.integers(1, 3))):
        start, length = draw(st.integers(0, len(valid))), draw(st.integers(0, 12))
        word = draw(st.one_of(st.sampled_from(ODD_TEXTS), st.sampled_from(ODD_NUMBERS), st.just(DEEP)))
        valid = valid[:start] + str(word) + valid[start + length :]
    return valid.encode(draw(st.sampled_from(("utf-8", "utf-16", "utf-8-sig"))), "surrogatepass")


@st.composite
def value_of(draw: st.DrawFn, valid: Any) -> Any:
    """Plain data with one or two of its values, at any depth, left out, replaced or added to."""
    value = json.loads(json.dumps(valid))
    for _ in range(draw(st.integers(1, 2))):
        inside = value
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
    return value


@st.composite
def json_of(draw: st.DrawFn, valid: Any) -> bytes:
    """The same as JSON; or the text of it spoiled, nested without end, or with a key twice."""
    how, text = draw(st.integers(0, 9)), json.dumps(valid)
    if how == 0:
        return text.encode()
    if how < 6:
        return json.dumps(draw(value_of(valid))).encode()
    if how == 6:
        inside = text.replace("{", '{"x": ' + DEEP + ",", 1)
        return draw(st.sampled_from((DEEP, '{"a":' * 50_000, inside))).encode()
    if how == 7:
        return text.replace("{", '{"task": 1, "images": 2, ', 1).encode()
    return draw(text_of(text))
