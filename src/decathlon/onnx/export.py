"""Export a trained network to an ONNX file with self-describing metadata, and check the file against PyTorch."""

from __future__ import annotations

import dataclasses
import io
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import nn

from decathlon import __version__
from decathlon.data import imdb
from decathlon.data.base import Split, parse_source
from decathlon.data.io import files, text_tables
from decathlon.data.voc import DetectionSplit
from decathlon.errors import UsageError
from decathlon.evaluation.onnx_graph import OnnxGraph, OnnxNetwork
from decathlon.onnx.session import (
    FORMAT,
    TEXT_ENTRIES,
    Opened,
    find_messages,
    import_extra,
    open_file,
    read_metadata,
)
from decathlon.runs.folder import read_json
from decathlon.runs.load import Loaded, load_run
from decathlon.tasks.recipe import to_dict

EXAMPLES = 8  # inputs that a file is checked on if the user gives none
TOLERANCE = 1e-4  # largest difference from PyTorch, relative to an output's largest value where that is above 1
DETECTIONS = ("boxes", "labels", "scores")
OPSET = 20  # ONNX operator set of 2023, supported by onnxruntime since 1.17
SUMMARY_FIELDS = ("data", "split", "metric", "value", "seed", "epochs", "commit")  # copied into the metadata


def export(folder: Path, out: Path, inputs: list[str], network: nn.Module | None = None) -> dict[str, Any]:
    """Write the network of a run as `out`, checked on `inputs`, or on test examples if there are none.

    Args:
        folder: A finished run.
        out: The file.
        inputs: Image files; for text tasks texts, or files with one per line.
        network: In place of that of the run.

    Returns:
        The files, the largest difference from PyTorch, and the latency of both.

    Raises:
        RuntimeError: The extra `[export]` is not installed; or the outputs differ from PyTorch's, and the file is
            deleted.
        UsageError: `out` is a folder, its folder does not exist, or its name does not end in .onnx.
        OSError: The file cannot be written.
        FileNotFoundError, ValueError: As `load_run`, or an input cannot be read.
    """
    for name in ("onnx", "onnxscript", "onnxruntime", "skl2onnx"):
        import_extra(name)
    if out.is_dir() or not out.resolve().parent.is_dir():
        raise UsageError(f"--out {out}: give a file in an existing folder")
    if out.suffix != ".onnx":  # else `predict` would not know it
        raise UsageError(f"--out {out}: the name of an ONNX file ends in .onnx")
    if "-" in inputs:
        raise UsageError("export reads its inputs twice: give files or texts, not standard input")
    loaded = load_run(folder)
    is_changed = network is not None and not have_same_weights(network, loaded.model)
    loaded = loaded if network is None else dataclasses.replace(loaded, model=network.eval())
    graph = loaded.task.onnx_graph(loaded.model, loaded.recipe, loaded.info)
    out = out.resolve()
    if loaded.task.SPEC.dataset == "imdb":
        inputs = [text for value in inputs for text in text_tables.read_reviews(value)]
    with tempfile.TemporaryDirectory(prefix=".export-", dir=out.parent) as scratch:  # on the same disk, to be moved
        metadata = make_metadata(loaded, graph, folder) | ({"measured": {}} if is_changed else {})
        paths = write(graph, metadata, Path(scratch, out.name))
        with tempfile.TemporaryDirectory() as examples_folder:
            inputs, kind = (inputs, "given inputs") if inputs else make_examples(loaded, Path(examples_folder))
            result = check(graph, loaded, paths[0], inputs)
        for path in paths:
            path.replace(out.with_name(path.name))
    written = [out.with_name(path.name) for path in paths]
    sizes = {"files": [str(path) for path in written], "bytes": [path.stat().st_size for path in written]}
    return {"task": loaded.task.SPEC.id, **sizes, "checked_on": f"{len(inputs)} {kind}", **result}


def have_same_weights(network: nn.Module, other: nn.Module) -> bool:
    """Whether two networks of one kind have equal parameters and buffers."""
    weights, others = network.state_dict(), other.state_dict()
    return weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)


def make_metadata(loaded: Loaded, graph: OnnxGraph, folder: Path) -> dict[str, Any]:
    """The metadata of a file."""
    summaries = [path for name in ("summary.json", "card.json") if (path := folder / name).exists()]
    summary = read_json(summaries[0]) if summaries else {}
    return {
        "decathlon": FORMAT,
        "task": loaded.task.SPEC.id,
        "made_by": f"decathlon {__version__}, torch {torch.__version__}",
        "data": loaded.config.data,
        "measured": {name: summary[name] for name in SUMMARY_FIELDS if name in summary},
        "recipe": to_dict(loaded.recipe),
        "info": loaded.info.to_dict(),
        **graph.metadata,
    }


def write(graph: OnnxGraph, metadata: dict[str, Any], path: Path) -> list[Path]:
    """Write a graph, and beside it its forest. Returns the files: one or two."""
    paths = [path]
    if graph.forest is not None:
        paths.append(path.with_stem(f"{path.stem}-forest"))
        code_size = graph.network(graph.example).shape[1]
        paths[1].write_bytes(convert_forest(graph.forest, code_size).SerializeToString())
        metadata = metadata | {"forest": {"file": paths[1].name, "sha256": files.sha256(paths[1])}}
    model = convert_network(graph)
    for node in find_messages(model, import_extra("onnx").NodeProto):  # their notes hold paths of this machine
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    del model.metadata_props[:]
    for name, value in metadata.items():
        text = value if name in TEXT_ENTRIES else json.dumps(value, ensure_ascii=False)
        model.metadata_props.add(key=name, value=text)
    read_metadata(path, model)  # fail now if `open_file` would refuse it
    path.write_bytes(model.SerializeToString())
    return paths


def convert_network(graph: OnnxGraph) -> Any:
    """Convert a graph to an ONNX message that holds all its weights."""
    names = {"input_names": [graph.input], "output_names": list(graph.outputs)}
    network, torch_export = graph.network.eval(), cast(Any, torch.onnx.export)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters warn about their internals; `check` compares the outputs
        if graph.outputs != DETECTIONS:
            dynamic = (graph.axes,) if graph.axes else None
            options = {"dynamo": True, "opset_version": OPSET, "verbose": False}
            return torch_export(network, (graph.example,), dynamic_shapes=dynamic, **names, **options).model_proto
        # torch.export cannot follow torchvision's detectors: batched_nms branches on the number of boxes, which depends
        # on values (GuardOnDataDependentSymNode; torch 2.15, torchvision 0.29). The older exporter can, for one size.
        file, axes = io.BytesIO(), {name: {0: "detections"} for name in graph.outputs}
        torch_export(network, (graph.example,), file, dynamo=False, opset_version=18, dynamic_axes=axes, **names)
    return import_extra("onnx").ModelProto.FromString(file.getvalue())


def convert_forest(forest: Any, code_size: int) -> Any:
    """Convert a forest on codes (N, code_size) to an ONNX message; `probabilities` (N, classes) in order of labels."""
    types = import_extra("skl2onnx.common.data_types")
    options = {id(forest): {"zipmap": False}}  # probabilities as a tensor, not as a list of dictionaries
    return import_extra("skl2onnx").to_onnx(
        forest,
        initial_types=[("codes", types.FloatTensorType([None, code_size]))],
        options=options,
        target_opset={"": 18, "ai.onnx.ml": 3},
    )


def make_examples(loaded: Loaded, folder: Path) -> tuple[list[str], str]:
    """Inputs for `predict` from the test split of the run's data, or if that is not on this machine, of the sample.

    Returns:
        Files in `folder`, or texts; and a description of them.
    """
    options = loaded.config.options
    try:
        return read_test_examples(loaded, options.data, options.data_dir, folder)
    except (OSError, ValueError):
        return read_test_examples(loaded, "sample", None, folder)


def read_test_examples(loaded: Loaded, data: str, data_dir: str | None, folder: Path) -> tuple[list[str], str]:
    """As `make_examples`, from one data set."""
    data_source = parse_source(data, data_dir, download=False)
    if loaded.task.SPEC.dataset == "imdb":
        reviews = imdb.load(data_source)
        return [reviews.test[index] for index in evenly_spaced(len(reviews.test))], f"test reviews of {reviews.name}"
    dataset, paths = loaded.task.load(data_source, loaded.recipe), []
    split: Split = dataset.test
    for index in evenly_spaced(len(split)):
        image = split.example(index)[0] if isinstance(split, DetectionSplit) else split.inputs[index]
        pixels = image.permute(1, 2, 0).numpy()  # (C, H, W) -> (H, W, C)
        paths.append(str(folder / f"example-{index}.png"))
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(paths[-1])
    return paths, f"test images of {dataset.name}"


def evenly_spaced(count: int) -> list[int]:
    """At most EXAMPLES evenly spaced indices below `count`."""
    return list(range(0, count, max(1, count // EXAMPLES)))[:EXAMPLES]


def check(graph: OnnxGraph, loaded: Loaded, path: Path, inputs: list[str]) -> dict[str, Any]:
    """Run `predict` with the file and with PyTorch, and compare the networks' outputs and the predictions.

    Raises:
        RuntimeError: They differ.
        FileNotFoundError, ValueError: An input cannot be read.
    """
    opened = open_file(path, loaded.task)
    forest = getattr(graph.forest, "predict_proba", None)
    onnx_network, torch_network = opened.network, OnnxNetwork(torch_runner(graph), graph.metadata, forest)
    run_file, calls = onnx_network.run, list[tuple[np.ndarray, list[np.ndarray]]]()

    def record(values: np.ndarray) -> list[np.ndarray]:
        calls.append((values, run_file(values)))
        return calls[-1][1]

    onnx_network.run = record
    predictions = [predict(opened, network, inputs) for network in (onnx_network, torch_network)]
    largest = float(
        np.max([difference(outputs, torch_network.run(values), graph.outputs) for values, outputs in calls])
    )
    if not largest <= TOLERANCE:  # so that NaN fails, too
        raise RuntimeError(f"the file differs from PyTorch by {largest:.2g}, more than {TOLERANCE:g}; it is deleted")
    for from_file, from_torch in zip(*predictions, strict=True):
        if not nearly_equal(from_file, from_torch):
            raise RuntimeError(f"the file predicts {from_file}, PyTorch {from_torch}; the file is deleted")
    values, outputs = calls[0][0][:1], run_file(calls[0][0][:1])
    return {
        "input": {"name": graph.input, "shape": list(values.shape), "type": str(values.dtype)},
        "outputs": {name: list(value.shape) for name, value in zip(graph.outputs, outputs, strict=True)},
        "max_difference": largest,
        "tolerance": TOLERANCE,
        "same_predictions": True,
        "threads": torch.get_num_threads(),
        "onnxruntime_ms": median_milliseconds(lambda: run_file(values)),
        "pytorch_ms": median_milliseconds(lambda: torch_network.run(values)),
    }


def predict(opened: Opened, network: OnnxNetwork, inputs: list[str]) -> list[dict[str, Any]]:
    """The predictions as JSON data. Raises the error of the first input that cannot be read."""
    dicts = []
    for prediction in opened.task.predict(network, inputs, opened.recipe, opened.info):
        if isinstance(prediction, Exception):
            raise prediction
        dicts.append(prediction.to_dict())
    return dicts


def torch_runner(graph: OnnxGraph) -> Callable[[np.ndarray], list[np.ndarray]]:
    """A function that runs the graph in PyTorch, from an array to arrays."""

    def run(values: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            outputs = graph.network(torch.from_numpy(values))
        return [value.numpy() for value in (outputs if isinstance(outputs, tuple) else (outputs,))]

    return run


def difference(outputs: list[np.ndarray], expected: list[np.ndarray], names: tuple[str, ...]) -> float:
    """The largest difference of outputs, relative to their largest value if that is above 1; infinite if shapes differ.

    Each detection is compared with the nearest of the other list, since those with nearly equal scores may swap order.
    """
    pairs = list(zip(outputs, expected, strict=True))
    if any(left.shape != right.shape for left, right in pairs):
        return float("inf")
    if names == DETECTIONS:
        scale = max(1.0, float(np.abs(expected[0]).max(initial=0)))
        rows = [np.column_stack([boxes / scale, labels, scores]) for boxes, labels, scores in (outputs, expected)]
        distances = np.abs(rows[0][:, None] - rows[1]).max(2, initial=0)  # (M, M)
        nearest = [*distances.min(0, initial=np.inf), *distances.min(1, initial=np.inf)]
        return float(np.max(nearest, initial=0))
    differences = [
        np.abs(left - right).max(initial=0) / max(1.0, np.abs(right).max(initial=0)) for left, right in pairs
    ]
    return float(np.max(differences))


def nearly_equal(left: Any, right: Any) -> bool:
    """Whether two predictions are equal, with numbers compared up to the rounding of a tiny difference."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(nearly_equal(left[name], right[name]) for name in left)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(nearly_equal, left, right))
    if isinstance(left, float) and isinstance(right, float):
        return abs(left - right) <= (0.002 if abs(left) <= 1 else 0.11)  # above 1: pixels with one decimal
    return bool(left == right)


def median_milliseconds(call: Callable[[], Any]) -> float:
    """The median time of a call, over as many calls as fit into a second (5 to 100)."""
    call()
    seconds: list[float] = []
    while len(seconds) < 5 or (sum(seconds) < 1 and len(seconds) < 100):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return round(1000 * statistics.median(seconds), 3)
