"""A network as an ONNX file: what is written of it, and how a file, anybody's, is read back to answer in its place.

Everything that a file needs is in its metadata, so that it can be used without this package: `preprocessing` and
`answer` say in words what `predict` does before and after the network, the other entries say it for programs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from decathlon import guard
from decathlon.data import files
from decathlon.recipe import Recipe, Task, UsageError, from_dict

FORMAT = "1"  # of the metadata: raise it when an entry changes its meaning
WORDS = ("decathlon", "task", "data", "made_by", "preprocessing", "answer", "tokenizer")  # the rest is JSON
MOST = 2**31 - 1  # bytes of a file: what a message of protobuf may have
SIDE = 10_000  # most pixels of an input's side, and most words of a text


def whole(value: Any) -> bool:
    """Whether it is a number of pixels or words that makes sense."""
    return type(value) is int and 0 < value <= SIDE


# What is read of the entry `input`: how it must be, and the same in words.
INPUT: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("shorter", "least", "length"), (whole, f"a whole number from 1 to {SIDE}")),
    "size": (lambda value: isinstance(value, list) and len(value) == 2 and all(map(whole, value)), "two such numbers"),
    "fill": (lambda value: isinstance(value, list) and [type(one) for one in value] == [float] * 3, "three numbers"),
}
DOMAINS = ("", "ai.onnx", "ai.onnx.ml")  # of operators: ONNX's own, which every runtime has


@dataclass(frozen=True)
class Graph:
    """What is to be written of a task's network.

    Attributes:
        network: From one tensor to one or several.
        example: An input, to follow the network with; none of its dimensions that vary is 0 or 1.
        input: Its name.
        outputs: Names of what the network gives. `boxes, labels, scores` stand for detections, whose number varies.
        axes: The dimensions of the input that may vary, with their names.
        facts: Entries of the metadata: `preprocessing`, `answer`, `labels` and `input`, which describes the tensor.
        forest: One of scikit-learn's that reads the output: it goes into a file of its own.
    """

    network: nn.Module
    example: Tensor
    input: str
    outputs: tuple[str, ...]
    axes: dict[int, str]
    facts: dict[str, Any]
    forest: Any = None


class Session(nn.Module):
    """A network that is not in PyTorch, and stands where `predict` expects one.

    Args:
        run: From an array to the arrays of all outputs.
        facts: As in `Graph`.
        shares: Where a forest reads the output, what it gives for codes (N, code): float (N, classes).
    """

    def __init__(
        self,
        run: Callable[[np.ndarray], list[np.ndarray]],
        facts: dict[str, Any],
        shares: Any = None,
    ) -> None:
        super().__init__()
        self.run, self.facts, self.shares = run, facts, shares

    def told(self, name: str) -> Any:
        """What the metadata's entry `input` says. Raises ValueError where it does not."""
        if name not in self.facts["input"]:
            raise ValueError(f"the file is damaged: its entry 'input' does not say {name!r}")
        return self.facts["input"][name]

    def forward(self, inputs: Tensor) -> Any:
        """The only output, or a tuple of all."""
        outputs = tuple(torch.from_numpy(np.array(value)) for value in self.run(inputs.contiguous().numpy()))
        return outputs[0] if len(outputs) == 1 else outputs


@dataclass(frozen=True)
class Opened:
    """An ONNX file as `predict` needs it."""

    task: Task
    network: Session
    recipe: Recipe
    meta: dict[str, Any]
    data: str


def library(name: str) -> Any:
    """Import what the extra `[export]` brings.

    Raises:
        RuntimeError: It is not installed: says how to get it.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        missing = name.partition(".")[0]
        raise RuntimeError(
            f"{missing} is not installed; it comes with: pip install -c constraints.txt -e '.[export]'"
        ) from None


def open_file(path: Path, task: Task, threads: int = 0) -> Opened:
    """Read an ONNX file that `decathlon export` wrote for this task.

    Raises:
        FileNotFoundError: There is no such file, or the forest beside it is missing.
        UsageError: It is of another task.
        ValueError: It is no such file, damaged, or reaches for other files: says which.
    """
    model = parsed(path)
    entries = described(path, model)
    if entries["task"] != task.CARD.id:
        raise UsageError(f"{path} is of {entries['task']}, not of {task.CARD.id}")
    try:
        recipe = from_dict(task.recipe(), entries["recipe"])
    except ValueError as error:
        raise ValueError(f"{path}: its entry 'recipe' is damaged: {error}") from None
    run = runner(path, model.SerializeToString(), threads, len(entries["labels"]))
    return Opened(task, Session(run, entries, shares(path, entries, threads)), recipe, entries["meta"], entries["data"])


def parsed(path: Path) -> Any:
    """Read an ONNX file as the message it is. No other file is ever opened for it.

    Tensors of an ONNX file may lie in other files, and onnxruntime 1.32 reads those within the file's own folder. What
    export writes is one whole file, so a tensor that lies elsewhere, there or at ../../anything, is a reason to refuse.

    Raises:
        FileNotFoundError, ValueError: As `open_file`.
    """
    onnx = library("onnx")
    content = files.content(path, MOST)
    try:
        model = onnx.ModelProto.FromString(content)
        tensors = list(within(model, onnx.TensorProto))
    except Exception as error:  # of several classes, by what in the bytes is wrong
        raise ValueError(f"{path} is damaged, or no ONNX file: {' '.join(str(error).split())[:200]}") from None
    if not model.graph.node:
        raise ValueError(f"{path} is damaged, or no ONNX file: it holds no graph")
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            where = ", ".join(repr(entry.value) for entry in tensor.external_data if entry.key == "location")
            raise ValueError(f"{path}: its tensor {tensor.name!r} lies in another file, {where}, which is not read")
    foreign = {node.domain for node in within(model, onnx.NodeProto)} - set(DOMAINS)
    if foreign:
        raise ValueError(f"{path} has operators that are not ONNX's own: {', '.join(sorted(foreign))}")
    return model


def within(message: Any, kind: Any) -> Iterator[Any]:
    """All parts of this kind, however deep they lie: in attributes and in graphs within graphs, too."""
    for description, value in message.ListFields():
        if description.message_type is not None:
            for part in value if isinstance(value, (list, tuple)) or hasattr(value, "add") else [value]:
                if isinstance(part, kind):
                    yield part
                yield from within(part, kind)


def described(path: Path, model: Any) -> dict[str, Any]:
    """The metadata of a file that `decathlon export` wrote, its JSON read.

    Raises:
        ValueError: An entry is missing or damaged, or the file is none of ours: names it.
    """
    found = {entry.key: entry.value for entry in model.metadata_props}
    if "decathlon" not in found:
        raise ValueError(f"{path} was not written by decathlon export: its metadata has no entry 'decathlon'")
    if found["decathlon"] != FORMAT:
        raise ValueError(f"{path} is of format {found['decathlon'][:20]!r}, this version of decathlon reads {FORMAT!r}")
    kinds = {"task": str, "data": str, "preprocessing": str, "answer": str, "labels": list, "input": dict}
    entries: dict[str, Any] = {}
    for name, text in found.items():
        try:
            entries[name] = text if name in WORDS else files.from_json(text)
        except ValueError as error:
            raise ValueError(f"{path}: its entry {name!r} is damaged: {error}") from None
    for name, kind in (kinds | {"recipe": dict, "meta": dict}).items():
        if not isinstance(entries.get(name), kind):
            state = "damaged" if name in entries else "missing"
            raise ValueError(f"{path}: its entry {name!r} is {state}")
    guard.meta(entries["meta"], path)
    classes = entries["meta"].get("classes", [])
    if not classes or entries["labels"][-len(classes) :] != classes:  # a detector's labels begin with the background
        raise ValueError(f"{path}: its entries 'labels' and 'meta' name different classes")
    for name, value in entries["input"].items():
        fits, what = INPUT.get(name, (lambda value: True, ""))
        if not fits(value):
            raise ValueError(f"{path}: its entry 'input' is damaged: {name} must be {what}, not {str(value)[:60]}")
    return entries


def runner(path: Path, content: bytes, threads: int, labels: int | None = None) -> Callable[[Any], list[np.ndarray]]:
    """A function that runs the network in a file's content with onnxruntime, on the CPU.

    Args:
        path: Where the content comes from, for messages.
        content: What `parsed` has found harmless.
        threads: To run on; 0 for as many as PyTorch has.
        labels: How many scores it must give, where it gives `scores` of classes.

    Raises:
        ValueError: onnxruntime refuses it, or it does not give as many scores; from the function: it does not run.
    """
    runtime = library("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 4  # what matters comes as an exception
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
        names = [one.name for one in session.get_outputs() if one.type.startswith("tensor(")]
        shapes = {one.name: one.shape for one in session.get_outputs()}
    except Exception as error:  # onnxruntime's own classes, which have no common parent but this
        raise ValueError(f"onnxruntime cannot load {path}: {' '.join(str(error).split())[:200]}") from None
    given_scores = shapes.get("scores") or []
    if labels and len(given_scores) == 2 and given_scores[1] not in (labels, None):
        raise ValueError(f"{path} is damaged: it gives {given_scores[1]} scores for {labels} labels")

    def run(values: np.ndarray) -> list[np.ndarray]:
        try:
            return session.run(names, {given.name: values})
        except Exception as error:
            raise ValueError(f"{path} does not run: {' '.join(str(error).split())[:200]}") from None

    return run


def shares(path: Path, entries: dict[str, Any], threads: int) -> Callable[[np.ndarray], np.ndarray] | None:
    """The forest that lies beside a file and reads its output; None where it needs none.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is not the one that was written with the file.
    """
    if not (told := entries.get("forest")):
        return None
    if not isinstance(told, dict) or not all(isinstance(told.get(name), str) for name in ("file", "sha256")):
        raise ValueError(f"{path}: its entry 'forest' is damaged")
    beside = path.with_name(Path(told["file"]).name)  # in the same folder, whatever the entry says
    model = parsed(beside)
    if files.sha256(beside) != told["sha256"]:
        raise ValueError(f"{beside} is not the forest that was written with {path}")
    run = runner(beside, model.SerializeToString(), threads)
    return lambda codes: run(codes.astype(np.float32))[-1]
