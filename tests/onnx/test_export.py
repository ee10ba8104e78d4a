"""Every task's network as an ONNX file: it answers as PyTorch, tells how it is to be used, and is read with care."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import ROOT, Command, SampleRun
from inputs import INPUTS, photo, scene
from onnx import TensorProto, helper, numpy_helper

import decathlon
from decathlon.cli.terminal import print_export
from decathlon.data.io.decoded_images import read_image
from decathlon.data.transforms.augment import to_float
from decathlon.evaluation import detection, detection_onnx, onnx_graph
from decathlon.evaluation.onnx_graph import OnnxNetwork
from decathlon.onnx import export, session
from decathlon.onnx.session import open_file
from decathlon.runs.load import load_run
from decathlon.tasks.base import get_task, task_ids

DETECTORS = ("voc-faster-rcnn",)
# Those left out are much like others here; tests/soak/test_export_recipes.py exports all ten.
EXPORTED_TASKS = [name for name in task_ids() if name not in ("mnist-cnn", "cifar10-skip", "voc-retinanet")]
every_task = pytest.mark.parametrize("task_id", EXPORTED_TASKS)

EXPORTED: dict[str, tuple[Path, Path, dict[str, Any]]] = {}
Exported = tuple[Path, Path, dict[str, Any]]


@pytest.fixture
def exported(task_id: str, sample_run: SampleRun, decathlon: Command) -> Exported:
    """The run of a task, its network exported by the command, and what the command said; once a task."""
    if task_id not in EXPORTED:
        file = sample_run.folder.with_name(f"{task_id}.onnx")
        done = decathlon("export", task_id, "--run", sample_run.folder, "--out", file, "--json")
        assert done.status == 0, done.err
        EXPORTED[task_id] = sample_run.folder, file, json.loads(done.out)
    return EXPORTED[task_id]


def loaded_graph(run: Path) -> onnx_graph.OnnxGraph:
    loaded = load_run(run)
    return loaded.task.onnx_graph(loaded.model, loaded.recipe, loaded.info)


# --- What is written --------------------------------------------------------------------------------------------------


@every_task
def test_the_command_checks_what_it_writes(task_id: str, exported: Exported) -> None:
    _, file, result = exported
    assert 0 <= result["max_difference"] <= result["tolerance"] == 1e-4
    assert result["same_predictions"] is True
    assert re.fullmatch(r"8 test (images|reviews) of \w+-sample", result["checked_on"])
    assert result["threads"] == torch.get_num_threads()
    assert result["onnxruntime_ms"] > 0
    assert result["pytorch_ms"] > 0
    assert result["files"][0] == str(file)
    assert [Path(path).stat().st_size for path in result["files"]] == result["bytes"]
    assert len(result["files"]) == (2 if task_id == "mnist-autoencoder" else 1)
    assert [path.name for path in file.parent.glob(".export-*")] == []


@every_task
def test_the_file_tells_what_it_needs(task_id: str, exported: Exported) -> None:
    run, file, _ = exported
    model = onnx.load(file, load_external_data=False)
    onnx.checker.check_model(model)
    entries = {entry.key: entry.value for entry in model.metadata_props}
    config = json.loads((run / "config.json").read_text())
    assert entries["task"] == task_id
    assert json.loads(entries["recipe"]) == config["recipe"]
    assert json.loads(entries["labels"])[-len(config["info"]["classes"]) :] == config["info"]["classes"]
    assert json.loads(entries["measured"])["value"] == json.loads((run / "summary.json").read_text())["value"]
    assert len(entries["preprocessing"]) > 50
    assert len(entries["postprocessing"]) > 20
    input_entry = json.loads(entries["input"])
    shape = [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    if "size" in input_entry:
        assert (input_entry["scale"], input_entry["mean"], input_entry["std"]) == (1 / 255, [0.0], [1.0])
        assert shape[2:] == input_entry["size"]
        assert shape[1] == (1 if input_entry["colours"] == "grey" else 3)
    else:
        assert input_entry["length"] == config["recipe"]["max_length"]
        assert shape == ["batch", "length"]
    assert shape[0] == (1 if task_id in DETECTORS else "batch")
    content = file.read_bytes()
    for path in (b"site-packages", str(ROOT).encode(), b"decathlon/tasks", b"torch/nn"):
        assert path not in content, "where the code lay is nobody's business"


@every_task
def test_the_page_names_the_inputs_and_outputs(task_id: str, exported: Exported) -> None:
    graph = onnx.load(exported[1], load_external_data=False).graph
    section = (ROOT / "docs/export.md").read_text().partition("## Inputs and outputs")[2].partition("\n## ")[0]
    (row,) = re.findall(rf"^\|[^|]*`{task_id}`[^|]*\|([^|]*)\|([^|]*)\|", section, re.MULTILINE)
    documented = [re.findall(r"`(\w+)`", cell) for cell in row]
    assert [[value.name for value in graph.input], [value.name for value in graph.output]] == documented


@every_task
def test_predict_answers_the_same_with_the_file(
    task_id: str, exported: Exported, decathlon: Command, tmp_path: Path
) -> None:
    run, file, _ = exported
    example = INPUTS[get_task(task_id).SPEC.dataset](tmp_path)
    answers = []
    for where in (("--onnx", file), ("--run", run)):
        done = decathlon("predict", task_id, example, *where, "--json")
        assert done.status == 0, done.err
        answers.append(json.loads(done.out)[0])
        for name in tmp_path.glob("*-*.png"):  # so that both write under the same names
            name.unlink()
    if task_id in DETECTORS:  # the letterbox is padded more: see test_detectors_see_what_pytorch_sees
        assert answers[0].keys() == answers[1].keys()
    else:
        assert export.nearly_equal(*answers), answers


@pytest.mark.parametrize("task_id", ["imdb-textcnn"])
def test_attributions_come_out_of_the_file(task_id: str, exported: Exported, decathlon: Command) -> None:
    answer = decathlon("predict", task_id, "It was not a bad film .", "--onnx", exported[1], "--json")
    weights = dict(json.loads(answer.out)[0]["attributions"])
    assert list(weights) == ["it", "was", "not", "a", "bad", "film"]
    assert any(weights.values())


@pytest.mark.parametrize("task_id", [name for name in EXPORTED_TASKS if name not in DETECTORS])
def test_batches_of_any_size(task_id: str, exported: Exported) -> None:
    """Two sizes of batch, and for texts two lengths, the shorter text filled up, against PyTorch."""
    run, file, _ = exported
    graph, network = loaded_graph(run), open_file(file, get_task(task_id)).network
    for count, longer in ((1, 0), (5, 3)):
        shape = (count, *graph.example.shape[1:]) if graph.example.is_floating_point() else (count, 9 + longer)
        if graph.example.is_floating_point():
            values = torch.rand(shape)
        else:
            values = torch.randint(5, 40, shape).to(graph.example.dtype)
            values[1:, 7:] = int(graph.metadata["input"]["pad"])
        outputs, expected = network.run(values.numpy()), export.torch_runner(graph)(values.numpy())
        assert [left.shape for left in outputs] == [right.shape for right in expected]
        assert export.difference(outputs, expected, graph.outputs) <= export.TOLERANCE


@pytest.mark.parametrize("task_id", DETECTORS)
def test_detectors_see_what_pytorch_sees(task_id: str, exported: Exported, tmp_path: Path) -> None:
    """The same boxes as torchvision's own detector on the same letterboxed picture, lying and standing."""
    run, file, _ = exported
    network, model = open_file(file, get_task(task_id)).network, load_run(run).model
    upright = torch.from_numpy(np.array(read_image(Path(scene(tmp_path)))[0])).permute(2, 0, 1)
    assert upright.shape == (3, 240, 180)
    side = network.input_entry("size")[0]
    model.transform.min_size, model.transform.max_size = (side,), side  # a square of this side is left as it is
    counts = []
    for image, scaled_size in ((upright, (160, 120)), (upright.permute(0, 2, 1), (120, 160))):
        canvas, size = detection_onnx.letterbox(
            to_float(image), network.input_entry("min_size"), side, network.input_entry("pad_value")
        )
        assert (size, canvas.shape) == (scaled_size, (1, 3, 160, 160))
        with torch.no_grad():
            (truth,) = model([canvas[0]])
        expected = [truth[name].numpy() for name in export.DETECTIONS]
        outputs = network.run(canvas.numpy())
        assert len(expected[0]) > 0
        assert export.difference(outputs, expected, export.DETECTIONS) <= export.TOLERANCE
        (detections,) = detection.detect(network, [image])
        assert (detections["boxes"] >= 0).all()
        assert (detections["boxes"] <= torch.tensor([image.shape[2], image.shape[1]] * 2)).all()
        counts.append(len(detections["boxes"]))
    assert all(counts)
    for grey in (0.0, 0.45, 1.0):  # on which nothing is found, not even a region to look at
        canvas = torch.full((1, 3, side, side), grey)
        with torch.no_grad():
            (truth,) = model([canvas[0]])
        expected = [truth[name].numpy() for name in export.DETECTIONS]
        assert export.difference(network.run(canvas.numpy()), expected, export.DETECTIONS) <= export.TOLERANCE


def test_export_says_that_a_detector_was_checked_on_squares(capsys: pytest.CaptureFixture[str]) -> None:
    result: dict[str, Any] = {
        "files": ["a.onnx"],
        "bytes": [9],
        "max_difference": 1e-7,
        "tolerance": 1e-4,
        "threads": 1,
    }
    result |= {"checked_on": "1 given inputs", "onnxruntime_ms": 1.0, "pytorch_ms": 2.0, "outputs": {"boxes": [3, 4]}}
    result["input"] = {"name": "images", "shape": [1, 3, 160, 160]}
    print_export(result)
    assert "both on a square of 160×160" in capsys.readouterr().out
    print_export(result | {"outputs": {"logits": [1, 10]}})
    assert "square" not in capsys.readouterr().out


def test_a_letterboxed_image_is_as_the_detector_would_scale_it() -> None:
    image = torch.rand(3, 200, 150)
    canvas, size = detection_onnx.letterbox(image, 120, 160, [0.1, 0.2, 0.3])
    assert size == (160, 120)
    expected = torch.nn.functional.interpolate(image[None], (160, 120), mode="bilinear")
    assert torch.equal(canvas[..., :120], expected)
    assert canvas[0, :, 0, 120:].tolist() == [[pytest.approx(value)] * 40 for value in (0.1, 0.2, 0.3)]
    assert detection_onnx.letterbox(image[:, :50], 120, 160, [0.0] * 3)[1] == (53, 160), "a long one is made smaller"


def test_your_own_network_is_exported_too(decathlon: Command, tmp_path: Path) -> None:
    code = "from torch import nn\n\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
    Path("net.py").write_text(code)
    command = ("train", "mnist-mlp", "--data", "sample", "--epochs", "1", "--model", "net.py:net", "--out", "run")
    assert decathlon(*command).status == 0
    done = decathlon("export", "mnist-mlp", "--run", "run")
    assert done.status == 0, done.err
    assert "the same predictions" in done.out
    assert Path("mnist-mlp.onnx").exists()


def test_it_is_checked_on_the_inputs_you_name(sample_run: SampleRun, decathlon: Command, tmp_path: Path) -> None:
    (example,) = [INPUTS["mnist"](tmp_path)]
    done = decathlon("export", "mnist-mlp", Path(example).name, "--run", sample_run.folder, "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["checked_on"] == "1 given inputs"
    assert "no such file" in decathlon("export", "mnist-mlp", "none.png", "--run", sample_run.folder).error
    done = decathlon("export", "mnist-mlp", Path(example).name, Path(example).name, "--run", sample_run.folder)
    assert "checked on 2 given inputs" in done.out


# --- What goes wrong --------------------------------------------------------------------------------------------------


def test_a_file_that_differs_is_not_left(
    sample_run: SampleRun,
    decathlon: Command,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    torch_runner = export.torch_runner
    for much, reason in ((0.01, "differs from PyTorch by 0.0"), (float("nan"), "differs from PyTorch by")):

        def off(graph: onnx_graph.OnnxGraph, much: float = much) -> Callable[[np.ndarray], list[np.ndarray]]:
            return lambda values: [value + np.float32(much) for value in torch_runner(graph)(values)]

        monkeypatch.setattr(export, "torch_runner", off)
        done = decathlon("export", "mnist-mlp", "--run", sample_run.folder)
        assert done.status == 1
        assert reason in done.error
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["onnx", "onnxruntime", "onnxscript"])
def test_without_the_extra_it_says_what_to_install(
    name: str, exported: Exported, decathlon: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    commands = [("export", "mnist-mlp", "--run", exported[0])]
    if name != "onnxscript":
        commands.append(("predict", "mnist-mlp", "x.png", "--onnx", exported[1]))
    for command in commands:
        message = f"{name} is not installed; it comes with: pip install 'decathlon[export]'"
        assert message in decathlon(*command).error


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("export", "mnist-mlp", "--format", "torchscript"), 2, "--format"),
        (("export", "mnist-mpl"), 2, "did you mean 'mnist-mlp'"),
        (("export", "mnist-mlp", "--run", "nowhere"), 1, "nowhere is no run folder"),
        (("export", "mnist-mlp", "--run", "RUN", "--out", "."), 2, "give a file in an existing folder"),
        (("export", "mnist-mlp", "--run", "RUN", "--out", "no/where.onnx"), 2, "give a file in an existing"),
        (("export", "mnist-mlp", "--run", "RUN", "--out", "net"), 2, "the name of an ONNX file ends in .onnx"),
        (("predict", "mnist-mlp", "x.png", "--run", "RUN", "--batch-size", "0"), 2, "--batch-size"),
        (("export", "mnist-mlp", "-", "--run", "RUN"), 2, "not standard input"),
        (("export", "mnist-cnn", "--run", "RUN"), 2, "is a run of mnist-mlp, not of mnist-cnn"),
        (("predict", "mnist-mlp", "x.png", "--onnx", "none.onnx"), 1, "none.onnx: no such file"),
        (("predict", "mnist-mlp", "x.png", "--onnx", "FILE", "--run", "RUN"), 2, "give one of them"),
        (("predict", "mnist-cnn", "x.png", "--onnx", "FILE"), 2, "is for mnist-mlp, not for mnist-cnn"),
        (("predict", "mnist-mlp", "x.png", "--onnx", "FILE"), 1, "x.png: no such file"),
    ],
)
def test_wrong_commands(
    words: tuple[str, ...], status: int, message: str, exported: Exported, decathlon: Command
) -> None:
    paths = {"RUN": exported[0], "FILE": exported[1]}
    answer = decathlon(*(paths.get(word, word) for word in words))
    assert answer.status == status
    assert message in answer.error


def entry(model: Any, name: str, value: str | None) -> None:
    """Change an entry of the metadata, or take it out."""
    others = {item.key: item.value for item in model.metadata_props if item.key != name}
    helper.set_model_props(model, others if value is None else others | {name: value})


def store_weight_outside(model: Any, location: str) -> None:
    """Say that the first weight is stored in another file."""
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)


def hide_external_weight(model: Any) -> None:
    """Hide such a weight in a branch of an operator."""
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "hidden")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret")
    info = helper.make_tensor_value_info("hidden", TensorProto.FLOAT, [4])
    branch = helper.make_graph([helper.make_node("Identity", ["hidden"], ["out"])], "branch", [], [info], [tensor])
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch))


def one_class_less(model: Any) -> None:
    nine = json.dumps([str(number) for number in range(9)])
    entry(model, "labels", nine)
    entry(model, "info", json.dumps({"classes": json.loads(nine)}))


def test_a_forest_may_know_fewer_classes_than_the_data(tmp_path: Path) -> None:
    """Where no labelled training image is of a class, its probability is 0."""
    path = tmp_path / "autoencoder.onnx"
    decathlon.load("mnist-autoencoder").export(path)
    model = onnx.load(path)
    entry(model, "labels", json.dumps([str(number) for number in range(9)]))
    assert len(session.read_metadata(path, model)["labels"]) == 9
    entry(model, "labels", json.dumps(["1", "0"]))
    with pytest.raises(ValueError, match="name different classes"):
        session.read_metadata(path, model)


DAMAGE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no metadata": (lambda m: m.ClearField("metadata_props"), "was not written by decathlon export"),
    "an earlier format": (
        lambda m: entry(m, "decathlon", "1"),
        "has format '1', this version reads '2': export it again",
    ),
    "a later format": (lambda m: entry(m, "decathlon", "99"), "has format '99'"),
    "no recipe": (lambda m: entry(m, "recipe", None), "its entry 'recipe' is missing"),
    "no JSON": (lambda m: entry(m, "info", "{'classes'"), "its entry 'info' is damaged"),
    "deep JSON": (lambda m: entry(m, "info", "[" * 100_000), "its entry 'info' is damaged"),
    "another kind": (lambda m: entry(m, "labels", '{"0": 1}'), "its entry 'labels' is damaged"),
    "names that are none": (lambda m: entry(m, "info", '{"classes": [1, 2]}'), "info"),
    "other labels": (lambda m: entry(m, "labels", '["a", "b"]'), "name different classes"),
    "too few labels": (one_class_less, "it has 10 logits for 9 labels"),
    "an unknown field": (lambda m: entry(m, "recipe", '{"hiden": 3}'), "unknown recipe field 'hiden'"),
    "a field of another type": (lambda m: entry(m, "recipe", '{"hidden": "x"}'), "recipe field 'hidden'"),
    "a huge size": (lambda m: entry(m, "input", '{"size": [28, 2800000000]}'), "its entry 'input' is damaged: size"),
    "weights beside": (lambda m: store_weight_outside(m, "weights.bin"), "is stored in another file, 'weights.bin'"),
    "weights outside": (lambda m: store_weight_outside(m, "../../secret"), "is stored in another file, '../../secret'"),
    "weights anywhere": (
        lambda m: store_weight_outside(m, "/proc/self/environ"),
        "is stored in another file, '/proc/self/environ'",
    ),
    "weights in a branch": (hide_external_weight, "is stored in another file, '../../secret'"),
    "a foreign operator": (
        lambda m: setattr(m.graph.node[0], "domain", "evil.org"),
        "outside the ONNX standard: evil.org",
    ),
    "an unknown operator": (lambda m: setattr(m.graph.node[0], "op_type", "Nonsense"), "onnxruntime cannot load"),
    "no input": (lambda m: m.graph.ClearField("input"), "onnxruntime cannot load"),
    "no graph": (lambda m: m.ClearField("graph"), "no ONNX file: it holds no graph"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_strangers_file_is_refused_in_one_line(
    damage: str, exported: Exported, decathlon: Command, tmp_path: Path
) -> None:
    spoil, message = DAMAGE[damage]
    model = onnx.load(exported[1])
    spoil(model)
    Path("strange.onnx").write_bytes(model.SerializeToString())
    answer = decathlon("predict", "mnist-mlp", INPUTS["mnist"](tmp_path), "--onnx", "strange.onnx")
    assert answer.status == 1
    assert message in answer.error
    assert "strange.onnx" in answer.error
    assert len(answer.error) < 500
    assert "shows where" not in answer.error, "an error that nobody has thought of"


def test_bytes_of_any_kind_are_refused_in_one_line(exported: Exported, decathlon: Command) -> None:
    content = exported[1].read_bytes()
    draw = np.random.default_rng(0)
    for bytes_ in (b"", b"hello", b"\x00" * 1000, draw.bytes(1000), content[:1000], content[: len(content) // 2]):
        Path("strange.onnx").write_bytes(bytes_)
        answer = decathlon("predict", "mnist-mlp", "x.png", "--onnx", "strange.onnx")
        assert answer.status == 1
        assert "strange.onnx" in answer.error
        assert "shows where" not in answer.error
    assert "is not a regular file" in decathlon("predict", "mnist-mlp", "x.png", "--onnx", ".").error


def test_a_file_that_asks_for_other_inputs_is_reported(exported: Exported, decathlon: Command, tmp_path: Path) -> None:
    model = onnx.load(exported[1])
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 30
    Path("strange.onnx").write_bytes(model.SerializeToString())
    answer = decathlon("predict", "mnist-mlp", INPUTS["mnist"](tmp_path), "--onnx", "strange.onnx")
    assert answer.status == 1
    assert "strange.onnx does not run" in answer.error


@pytest.mark.parametrize("task_id", ["mnist-autoencoder"])
def test_the_forest_must_be_the_one_that_was_written(
    task_id: str, exported: Exported, decathlon: Command, tmp_path: Path
) -> None:
    file, image = exported[1], INPUTS["mnist"](tmp_path)
    Path("auto.onnx").write_bytes(file.read_bytes())
    command = ("predict", task_id, image, "--onnx", "auto.onnx")
    assert "mnist-autoencoder-forest.onnx: no such file" in decathlon(*command).error
    forest_path = Path("mnist-autoencoder-forest.onnx")
    forest_path.write_bytes(file.read_bytes())
    assert "is not the forest that was written with auto.onnx" in decathlon(*command).error
    forest_path.write_bytes(file.with_name(forest_path.name).read_bytes())
    assert decathlon(*command).status == 0
    model = onnx.load("auto.onnx")
    forest_entry = {"file": "../../etc/passwd", "sha256": "0"}
    entry(model, "forest", json.dumps(forest_entry))
    Path("auto.onnx").write_bytes(model.SerializeToString())
    assert "passwd: no such file" in decathlon(*command).error
    assert "etc" not in decathlon(*command).error


def test_a_session_stands_for_a_network() -> None:
    session = OnnxNetwork(lambda values: [values + 1], {"input": {"size": [1, 1]}})
    assert session(torch.zeros(2, 3)).tolist() == [[1.0] * 3] * 2
    assert session.eval().input_entry("size") == [1, 1]
    with pytest.raises(ValueError, match="does not say 'pad_value'"):
        session.input_entry("pad_value")


def test_difference_by_hand() -> None:
    def rows(boxes: list[list[float]], scores: list[float]) -> list[np.ndarray]:
        return [
            np.array(boxes, np.float32).reshape(-1, 4),
            np.ones(len(scores), np.int64),
            np.array(scores, np.float32),
        ]

    one, other = [[0, 0, 10, 10], [5, 5, 20, 20]], [0.5, 0.4]
    assert export.difference(rows(one, other), rows(one[::-1], other[::-1]), export.DETECTIONS) == 0
    assert export.difference(rows(one, other), rows(one[:1], other[:1]), export.DETECTIONS) == float("inf")
    assert export.difference(rows(one, other), rows([one[0]] * 2, other), export.DETECTIONS) == pytest.approx(1)
    assert export.difference(rows([], []), rows([], []), export.DETECTIONS) == 0
    values = [np.array([[1.0, 20.0]])]
    assert export.difference(values, [values[0] + 0.2], ("scores",)) == pytest.approx(0.2 / 20.2)
    assert not export.difference(values, [values[0] + np.nan], ("scores",)) <= export.TOLERANCE


# --- What the page shows ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task_id", ["cifar10-cnn"])
def test_the_pages_example_needs_nothing_of_ours(
    task_id: str, exported: Exported, decathlon: Command, tmp_path: Path
) -> None:
    page = (ROOT / "docs/export.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(code.strip().splitlines()) <= 15
    assert set(re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE)) == {"json", "numpy", "onnxruntime", "PIL"}
    image = Path(photo(tmp_path))
    Path("cifar10-cnn.onnx").write_bytes(exported[1].read_bytes())
    image.rename("photo.jpg")
    Path("example.py").write_text(code)
    done = subprocess.run([sys.executable, "-W", "error", "example.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (answer,) = json.loads(decathlon("predict", task_id, "photo.jpg", "--onnx", "cifar10-cnn.onnx", "--json").out)
    name, probability = done.stdout.split()
    assert name == answer["label"]
    assert float(probability) == pytest.approx(answer["probabilities"][name], abs=2e-3)


def test_onnxruntime_is_new_enough_for_what_we_write() -> None:
    version = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
    assert version >= (1, 17), "it reads opset 20 since then"
