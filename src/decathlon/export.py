"""Write a trained network as an ONNX file with all that is needed to use it, and check the file against PyTorch."""

from __future__ import annotations

import contextlib
import io
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image

from decathlon import __version__, run
from decathlon.data import Split, files, imdb, source
from decathlon.data.voc import Scenes
from decathlon.finished import Loaded, load_run
from decathlon.portable import FORMAT, WORDS, Graph, Opened, Session, described, library, open_file, within
from decathlon.recipe import UsageError, to_dict

EXAMPLES = 8  # that a file is checked on where the user names none
TOLERANCE = 1e-4  # largest difference from PyTorch, as a share of the largest value of an output where that is above 1
DETECTIONS = ("boxes", "labels", "scores")
OPSET = 20  # of ONNX, 2023: onnxruntime has it since 1.17
TOLD = ("data", "split", "metric", "value", "seed", "epochs", "commit")  # of the run's summary or its weights' card


def export(folder: Path, out: Path, inputs: list[str]) -> dict[str, Any]:
    """Write the network of a run as `out`, checked on `inputs`, or on test examples where there are none.

    Returns:
        What was written, how far it is from PyTorch, and how long both take.

    Raises:
        RuntimeError: The extra `[export]` is not installed; or the file does not answer as PyTorch: none is left then.
        UsageError: `out` is a folder, or in none.
        OSError: The file cannot be written.
        FileNotFoundError, ValueError: As `load_run`, or an input cannot be read.
    """
    for name in ("onnx", "onnxscript", "onnxruntime", "skl2onnx"):
        library(name)
    if out.is_dir() or not out.resolve().parent.is_dir():
        raise UsageError(f"--out {out}: give a file in a folder that is there")
    loaded = load_run(folder)
    graph = loaded.task.graph(loaded.model, loaded.recipe, loaded.config["meta"])
    out = out.resolve()
    if "-" in inputs:
        raise UsageError("export asks for its inputs twice: give files or texts, not standard input")
    inputs = [str(Path(given).resolve()) if len(given) < 256 and Path(given).is_file() else given for given in inputs]
    with tempfile.TemporaryDirectory(prefix=".export-", dir=out.parent) as place:  # on the same disk, to be moved
        made = write(graph, entries(loaded, graph, folder), Path(place, out.name))
        with tempfile.TemporaryDirectory() as scratch:
            inputs, what = (inputs, "given inputs") if inputs else examples(loaded, Path(scratch))
            found = check(graph, loaded, made[0], inputs)
        for path in made:
            path.replace(out.with_name(path.name))
    written = [str(out.with_name(path.name)) for path in made]
    sizes = {"files": written, "bytes": [Path(file).stat().st_size for file in written]}
    return {"task": loaded.task.CARD.id, **sizes, "checked_on": f"{len(inputs)} {what}", **found}


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder for a while."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def entries(loaded: Loaded, graph: Graph, folder: Path) -> dict[str, Any]:
    """The metadata of a file."""
    told = [path for name in ("summary.json", "card.json") if (path := folder / name).exists()]
    summary = run.read_json(told[0]) if told else {}
    return {
        "decathlon": FORMAT,
        "task": loaded.task.CARD.id,
        "made_by": f"decathlon {__version__}, torch {torch.__version__}",
        "data": loaded.config["data"],
        "measured": {name: summary[name] for name in TOLD if name in summary},
        "recipe": to_dict(loaded.recipe),
        "meta": loaded.config["meta"],
        **graph.facts,
    }


def write(graph: Graph, metadata: dict[str, Any], path: Path) -> list[Path]:
    """Write a graph, and beside it its forest. Returns the files: one or two."""
    made = [path]
    if graph.forest is not None:
        made.append(path.with_stem(f"{path.stem}-forest"))
        made[1].write_bytes(planted(graph.forest, graph.network(graph.example).shape[1]).SerializeToString())
        metadata = metadata | {"forest": {"file": made[1].name, "sha256": files.sha256(made[1])}}
    model = traced(graph)
    for part in within(model, library("onnx").NodeProto):  # where in whose folders the code lies is nobody's business
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    del model.metadata_props[:]
    for name, value in metadata.items():
        text = value if name in WORDS else json.dumps(value, ensure_ascii=False)
        model.metadata_props.add(key=name, value=text)
    described(path, model)  # so that what is written can be read
    path.write_bytes(model.SerializeToString())
    return made


def traced(graph: Graph) -> Any:
    """The ONNX message of a graph, all weights in it."""
    names = {"input_names": [graph.input], "output_names": list(graph.outputs)}
    network, write_out = graph.network.eval(), cast(Any, torch.onnx.export)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters warn of their own insides; `check` finds what is really wrong
        if graph.outputs != DETECTIONS:
            varying = (graph.axes,) if graph.axes else None
            options = {"dynamo": True, "opset_version": OPSET, "verbose": False}
            return write_out(network, (graph.example,), dynamic_shapes=varying, **names, **options).model_proto
        # torch.export cannot follow torchvision's detectors: batched_nms asks how many boxes there are, which depends
        # on values (GuardOnDataDependentSymNode; torch 2.15, torchvision 0.29). The older exporter can, for one size.
        file, found = io.BytesIO(), {name: {0: "found"} for name in graph.outputs}
        write_out(network, (graph.example,), file, dynamo=False, opset_version=18, dynamic_axes=found, **names)
    return library("onnx").ModelProto.FromString(file.getvalue())


def planted(forest: Any, code: int) -> Any:
    """The ONNX message of a forest on codes (N, code): `probabilities` (N, classes), in the order of the labels."""
    types = library("skl2onnx.common.data_types")
    options = {id(forest): {"zipmap": False}}  # plain numbers, not a list of dictionaries
    first = [("codes", types.FloatTensorType([None, code]))]
    return library("skl2onnx").to_onnx(
        forest, initial_types=first, options=options, target_opset={"": 18, "ai.onnx.ml": 3}
    )


def examples(loaded: Loaded, folder: Path) -> tuple[list[str], str]:
    """Inputs for `predict` from the test split of the run's data, or, where that is not here, of the sample.

    Returns:
        Files in `folder`, or texts; and what they are.
    """
    options = loaded.config["options"]
    try:
        return drawn_from(loaded, options["data"], options["data_dir"], folder)
    except (OSError, ValueError):
        return drawn_from(loaded, "sample", None, folder)


def drawn_from(loaded: Loaded, data: str, data_dir: str | None, folder: Path) -> tuple[list[str], str]:
    """As `examples`, of one data set."""
    where = source(data, data_dir, download=False)
    if loaded.task.CARD.dataset == "imdb":
        reviews = imdb.load(where)
        chosen = spread(len(reviews.test))
        return [reviews.test[number] for number in chosen], f"test reviews of {reviews.name}"
    found, written = loaded.task.load(where, loaded.recipe), []
    split: Split = found.test
    for number in spread(len(split)):
        picture = split.example(number)[0] if isinstance(split, Scenes) else split.inputs[number]
        pixels = picture.permute(1, 2, 0).numpy()  # (C, H, W) -> (H, W, C)
        written.append(str(folder / f"example-{number}.png"))
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(written[-1])
    return written, f"test pictures of {found.name}"


def spread(count: int) -> list[int]:
    """A few places all over a split."""
    return list(range(0, count, max(1, count // EXAMPLES)))[:EXAMPLES]


def check(graph: Graph, loaded: Loaded, path: Path, inputs: list[str]) -> dict[str, Any]:
    """Ask `predict` with the file and with PyTorch, and compare what goes in and comes out of the network.

    Raises:
        RuntimeError: They differ.
    """
    opened = open_file(path, loaded.task)
    ours, theirs = opened.network, Session(in_torch(graph), graph.facts, getattr(graph.forest, "predict_proba", None))
    run_file, seen = ours.run, list[tuple[np.ndarray, list[np.ndarray]]]()

    def noted(values: np.ndarray) -> list[np.ndarray]:
        seen.append((values, run_file(values)))
        return seen[-1][1]

    ours.run = noted
    answers = [asked(opened, network, inputs) for network in (ours, theirs)]
    furthest = float(np.max([difference(given, theirs.run(values), graph.outputs) for values, given in seen]))
    if not furthest <= TOLERANCE:  # what is no number is no small one
        raise RuntimeError(f"the file differs from PyTorch by {furthest:.2g}, more than {TOLERANCE:g}; nothing is left")
    for one, other in zip(*answers, strict=True):
        if not alike(one, other):
            raise RuntimeError(f"the file answers {one}, and PyTorch {other}; nothing is left")
    values = seen[0][0]
    return {
        "input": {"name": graph.input, "shape": list(values.shape), "type": str(values.dtype)},
        "outputs": {name: list(value.shape) for name, value in zip(graph.outputs, seen[0][1], strict=True)},
        "max_difference": furthest,
        "tolerance": TOLERANCE,
        "same_answers": True,
        "threads": torch.get_num_threads(),
        "onnxruntime_ms": milliseconds(lambda: run_file(values)),
        "pytorch_ms": milliseconds(lambda: theirs.run(values)),
    }


def asked(opened: Opened, network: Session, inputs: list[str]) -> list[dict[str, Any]]:
    """The answers of `predict`; the pictures that it may write go into a folder of their own."""
    with tempfile.TemporaryDirectory() as folder, inside(Path(folder)):
        return opened.task.predict(network, inputs, opened.recipe, opened.meta)


def in_torch(graph: Graph) -> Callable[[np.ndarray], list[np.ndarray]]:
    """The graph as it runs in PyTorch, from and to arrays."""

    def call(values: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            found = graph.network(torch.from_numpy(values))
        return [value.numpy() for value in (found if isinstance(found, tuple) else (found,))]

    return call


def difference(ours: list[np.ndarray], theirs: list[np.ndarray], names: tuple[str, ...]) -> float:
    """How far apart outputs are, as a share of the largest value where that is above 1; infinite where not comparable.

    Detections are compared each with the nearest: those with nearly the same score may come in any order.
    """
    pairs = list(zip(ours, theirs, strict=True))
    if any(one.shape != other.shape for one, other in pairs):
        return float("inf")
    if names == DETECTIONS:
        scale = max(1.0, float(np.abs(theirs[0]).max(initial=0)))
        rows = [np.column_stack([boxes / scale, labels, scores]) for boxes, labels, scores in (ours, theirs)]
        apart = np.abs(rows[0][:, None] - rows[1]).max(2, initial=0)  # (M, M)
        return float(np.max([*apart.min(0, initial=np.inf), *apart.min(1, initial=np.inf)], initial=0))
    apart = [np.abs(one - other).max(initial=0) / max(1.0, np.abs(other).max(initial=0)) for one, other in pairs]
    return float(np.max(apart))


def alike(one: Any, other: Any) -> bool:
    """Whether two answers say the same: numbers up to what rounding makes of a tiny difference."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= (0.002 if abs(one) <= 1 else 0.11)  # what is above 1 is in pixels, with one decimal
    return bool(one == other)


def milliseconds(call: Callable[[], Any]) -> float:
    """The median time of a call, of as many as fit into a second (5 to 100)."""
    call()
    taken: list[float] = []
    while len(taken) < 5 or (sum(taken) < 1 and len(taken) < 100):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return round(1000 * statistics.median(taken), 3)
