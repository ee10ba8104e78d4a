"""Opening ONNX files, also untrusted ones, and running them with onnxruntime.

The metadata holds all that is needed to use a file without this package: `preprocessing` and `postprocessing` describe
in words what `predict` does before and after the network, and the other entries do so for programs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from decathlon.data.base import DataInfo
from decathlon.data.io import files
from decathlon.errors import UsageError
from decathlon.evaluation.onnx_graph import OnnxNetwork
from decathlon.runs import validate
from decathlon.tasks.base import Task, get_task
from decathlon.tasks.recipe import Recipe, from_dict

FORMAT = "2"  # version of the metadata: raise it when an entry changes its meaning
# The other entries are JSON.
TEXT_ENTRIES = ("decathlon", "task", "data", "made_by", "preprocessing", "postprocessing", "tokenizer")
MAX_FILE_BYTES = 2**31 - 1  # the limit of protobuf
MAX_INPUT_SIZE = 10_000  # pixels of an image's side, or tokens of a text


def is_valid_size(value: Any) -> bool:
    """Whether a value is a possible number of pixels or tokens."""
    return type(value) is int and 0 < value <= MAX_INPUT_SIZE


# Checks of the values in the entry `input`, each with its requirement in words.
INPUT_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(
        ("min_size", "min_length", "length"), (is_valid_size, f"a whole number from 1 to {MAX_INPUT_SIZE}")
    ),
    "size": (
        lambda value: isinstance(value, list) and len(value) == 2 and all(map(is_valid_size, value)),
        "two such numbers",
    ),
    "pad_value": (
        lambda value: isinstance(value, list) and [type(item) for item in value] == [float] * 3,
        "three numbers",
    ),
}
ALLOWED_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")  # the standard operators of ONNX


@dataclass(frozen=True)
class Opened:
    """An ONNX file, opened for `predict`."""

    task: Task
    network: OnnxNetwork
    recipe: Recipe
    info: DataInfo
    data: str


def import_extra(name: str) -> Any:
    """Import a package of the extra `[export]`.

    Raises:
        RuntimeError: It is not installed; the message has the command.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        missing = name.partition(".")[0]
        raise RuntimeError(f"{missing} is not installed; it comes with: pip install 'decathlon[export]'") from None


def open_file(path: Path, task: Task | None = None, threads: int = 0) -> Opened:
    """Read an ONNX file that `decathlon export` wrote, for this task where one is given.

    Raises:
        FileNotFoundError: There is no such file, or the forest beside it is missing.
        UsageError: It is for another task.
        ValueError: It was not written by `decathlon export`, is damaged, or refers to other files.
    """
    model = parse_model(path)
    entries = read_metadata(path, model)
    task = task or get_task(entries["task"])
    if entries["task"] != task.SPEC.id:
        raise UsageError(f"{path} is for {entries['task']}, not for {task.SPEC.id}")
    try:
        recipe = from_dict(task.recipe(), entries["recipe"])
    except ValueError as error:
        raise ValueError(f"{path}: its entry 'recipe' is damaged: {error}") from None
    run = make_runner(path, model.SerializeToString(), threads, len(entries["labels"]))
    return Opened(
        task,
        OnnxNetwork(run, entries, open_forest(path, entries, threads)),
        recipe,
        validate.data_info(entries["info"], path),
        entries["data"],
    )


def parse_model(path: Path) -> Any:
    """Parse an ONNX file. No other file is ever opened for it.

    Tensors of an ONNX file may be stored in other files, and onnxruntime 1.32 reads those within the file's folder.
    Export writes everything into one file, so any tensor stored elsewhere, there or at ../../anything, is refused.

    Raises:
        FileNotFoundError, ValueError: As `open_file`.
    """
    onnx = import_extra("onnx")
    content = files.read_bytes(path, MAX_FILE_BYTES)
    try:
        model = onnx.ModelProto.FromString(content)
        tensors = list(find_messages(model, onnx.TensorProto))
    except Exception as error:  # protobuf raises several classes, depending on the damage
        raise ValueError(f"{path} is damaged, or no ONNX file: {' '.join(str(error).split())[:200]}") from None
    if not model.graph.node:
        raise ValueError(f"{path} is damaged, or no ONNX file: it holds no graph")
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            where = ", ".join(repr(entry.value) for entry in tensor.external_data if entry.key == "location")
            raise ValueError(
                f"{path}: its tensor {tensor.name!r} is stored in another file, {where}, which is not read"
            )
    foreign = {node.domain for node in find_messages(model, onnx.NodeProto)} - set(ALLOWED_DOMAINS)
    if foreign:
        raise ValueError(f"{path} has operators outside the ONNX standard: {', '.join(sorted(foreign))}")
    return model


def find_messages(message: Any, kind: Any) -> Iterator[Any]:
    """All messages of this kind in a message, at any depth: in attributes and nested graphs, too."""
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for child in value if isinstance(value, (list, tuple)) or hasattr(value, "add") else [value]:
                if isinstance(child, kind):
                    yield child
                yield from find_messages(child, kind)


def read_metadata(path: Path, model: Any) -> dict[str, Any]:
    """Read and check the metadata of a file that `decathlon export` wrote.

    Raises:
        ValueError: An entry is missing or damaged, or another program wrote the file; the message names it.
    """
    texts = {entry.key: entry.value for entry in model.metadata_props}
    if "decathlon" not in texts:
        raise ValueError(f"{path} was not written by decathlon export: its metadata has no entry 'decathlon'")
    if texts["decathlon"] != FORMAT:
        raise ValueError(
            f"{path} has format {texts['decathlon'][:20]!r}, this version reads {FORMAT!r}: export it again"
        )
    kinds = {"task": str, "data": str, "preprocessing": str, "postprocessing": str, "labels": list, "input": dict}
    entries: dict[str, Any] = {}
    for name, text in texts.items():
        try:
            entries[name] = text if name in TEXT_ENTRIES else files.parse_json(text)
        except ValueError as error:
            raise ValueError(f"{path}: its entry {name!r} is damaged: {error}") from None
    for name, kind in (kinds | {"recipe": dict, "info": dict}).items():
        if not isinstance(entries.get(name), kind):
            state = "damaged" if name in entries else "missing"
            raise ValueError(f"{path}: its entry {name!r} is {state}")
    info = validate.data_info(entries["info"], path)
    classes, labels = info.classes, entries["labels"]
    if "forest" in entries:  # the classes of its training examples, which may be fewer
        is_valid_list = labels == [name for name in classes if name in labels]
    else:  # a detector's begin with the background
        is_valid_list = labels[-len(classes) :] == classes
    if not (classes and labels and is_valid_list):
        raise ValueError(f"{path}: its entries 'labels' and 'info' name different classes")
    for name, value in entries["input"].items():
        is_valid, requirement = INPUT_CHECKS.get(name, (lambda value: True, ""))
        if not is_valid(value):
            raise ValueError(
                f"{path}: its entry 'input' is damaged: {name} must be {requirement}, not {str(value)[:60]}"
            )
    return entries


def make_runner(
    path: Path, content: bytes, threads: int, labels: int | None = None
) -> Callable[[Any], list[np.ndarray]]:
    """Make a function that runs the network in a file's content with onnxruntime, on the CPU.

    Args:
        path: Where the content comes from, for messages.
        content: A serialized model that `parse_model` has checked.
        threads: Number of threads; 0 for as many as PyTorch uses.
        labels: Number of classes that an output `logits` (N, num_classes) must have.

    Raises:
        ValueError: onnxruntime refuses it, or the number of classes is another; from the function: it does not run.
    """
    runtime = import_extra("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 4  # errors come as exceptions
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        (model_input,) = session.get_inputs()
        names = [output.name for output in session.get_outputs() if output.type.startswith("tensor(")]
        shapes = {output.name: output.shape for output in session.get_outputs()}
    except Exception as error:  # onnxruntime's classes have no other common base
        raise ValueError(f"onnxruntime cannot load {path}: {' '.join(str(error).split())[:200]}") from None
    logits = shapes.get("logits") or []
    if labels and len(logits) == 2 and logits[1] not in (labels, None):
        raise ValueError(f"{path} is damaged: it has {logits[1]} logits for {labels} labels")

    def run(values: np.ndarray) -> list[np.ndarray]:
        try:
            return session.run(names, {model_input.name: values})
        except Exception as error:
            raise ValueError(f"{path} does not run: {' '.join(str(error).split())[:200]}") from None

    return run


def open_forest(path: Path, entries: dict[str, Any], threads: int) -> Callable[[np.ndarray], np.ndarray] | None:
    """Open the forest beside a file: codes (N, latent_dim) -> probabilities (N, num_classes); None without a forest.

    Raises:
        FileNotFoundError: It is missing.
        ValueError: It is not the one that was written with the file.
    """
    if not (entry := entries.get("forest")):
        return None
    if not isinstance(entry, dict) or not all(isinstance(entry.get(name), str) for name in ("file", "sha256")):
        raise ValueError(f"{path}: its entry 'forest' is damaged")
    forest_path = path.with_name(Path(entry["file"]).name)  # only in the same folder: the entry is untrusted
    model = parse_model(forest_path)
    if files.sha256(forest_path) != entry["sha256"]:
        raise ValueError(f"{forest_path} is not the forest that was written with {path}")
    run = make_runner(forest_path, model.SerializeToString(), threads)
    return lambda codes: run(codes.astype(np.float32))[-1]
