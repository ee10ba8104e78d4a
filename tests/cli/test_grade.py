"""`decathlon start`, `grade` and `attempts` as a newcomer meets them: five broken networks and more for each kind."""

from __future__ import annotations

import json
import re
import shlex
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import nbformat
import pytest
import torch
from conftest import ROOT, Command
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from torch import nn

from decathlon.data.base import parse_source
from decathlon.evaluation.architecture import ACTIVE_DROPOUT, operations
from decathlon.evaluation.examples import match, record_classes, recording
from decathlon.evaluation.layers import LayerRecorder, find_layers
from decathlon.reporting import grade
from decathlon.reporting.starter import STARTERS
from decathlon.runs import validate
from decathlon.tasks.base import get_task, task_ids
from decathlon.training import gradients, trials
from decathlon.training.distributed import launch_fabric
from decathlon.training.loop import Interrupted
from decathlon.training.stages import describe_violation

HEAD = """
import torch
import torch.nn.functional as F
from torch import nn
"""

CLASSIFICATION = (
    HEAD
    + """
TASK = "mnist-mlp"

def mlp(hidden=100, *end):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, 10), *end)

def good(): return mlp()
def softmax(): return mlp(100, nn.Softmax(1))
def narrow(): return mlp(1)

def large():
    network = mlp()
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    return network

def dead():
    network = mlp()
    nn.init.constant_(network[1].bias, -100)
    return network

class Net(nn.Module):
    def __init__(self, pixels=784):
        super().__init__()
        self.hidden, self.middle, self.output = nn.Linear(pixels, 64), nn.Linear(64, 64), nn.Linear(64, 10)
    def forward(self, images):
        return self.output(F.relu(self.middle(F.relu(self.hidden(images.flatten(1))))))

def deep(): return Net()
def colour(): return Net(3 * 784)

class Unused(Net):
    def forward(self, images):
        return self.output(F.relu(self.hidden(images.flatten(1))))

def unused(): return Unused()
def log_softmax(): return mlp(100, nn.LogSoftmax(1))

class Misspelt(Net):
    forward = nn.Module.forward
    def forwrad(self, images): return self.output(images.flatten(1))

def misspelt(): return Misspelt()

class Listed(Net):
    def __init__(self):
        super().__init__()
        self.both = nn.ModuleList([nn.Linear(784, 64), nn.Linear(64, 10)])
    def forward(self, images): return self.both(images.flatten(1))

def listed(): return Listed()

def zero():
    network = mlp()
    nn.init.zeros_(network[3].weight)
    return network
"""
)

SEGMENTATION = (
    HEAD
    + """
from decathlon.models.unet import UNet

TASK = "pets-unet"

class Sigmoid(UNet):
    def forward(self, images): return super().forward(images).sigmoid()

class Small(UNet):
    def forward(self, images): return super().forward(images)[..., ::2, ::2]

class Cut(UNet):
    def forward(self, images):
        maps, skips = images, []
        for down in self.encoder:
            skips.append(down(maps))
            maps = F.max_pool2d(skips[-1], 2)
        maps = self.bottleneck(maps)
        for up in self.decoder:
            skip = skips.pop()
            maps = up(torch.cat([skip, F.interpolate(maps, skip.shape[2:], mode="bilinear").detach()], 1))
        return self.output(maps)

def good(): return UNet(8)
def sigmoid(): return Sigmoid(4)
def small(): return Small(4)
def cut(): return Cut(4)

def short():
    network = UNet(4)
    network.bottleneck = nn.Sequential(*list(network.bottleneck)[:3])
    return network

def large():
    network = UNet(4)
    nn.init.normal_(network.output.weight, std=50)
    return network

def dead():
    network = UNet(4)
    nn.init.constant_(network.bottleneck[4].bias, -100)
    return network
"""
)

DETECTION = (
    HEAD
    + """
from decathlon.models.retinanet import small_retinanet

TASK = "voc-retinanet"

def detector(classes=4):
    options = dict(min_size=120, max_size=160)
    return small_retinanet(classes, (16, 32, 64), (8, 8, 16, 16), "group", **options)

def good(): return detector()
def classes(): return detector(20)

class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = detector()
    def forward(self, images, targets=None): return self.inner(images, targets)

class NoTargets(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = detector()
    def forward(self, images): return self.inner(images)

class NoScores(Wrapped):
    def forward(self, images, targets=None):
        return [{"boxes": output["boxes"]} for output in self.inner.eval()(images)]

def wrapped(): return Wrapped()
def no_targets(): return NoTargets()
def no_scores(): return NoScores()

def cut():
    network = detector()
    network.backbone.register_forward_hook(lambda module, args, maps: {k: v.detach() for k, v in maps.items()})
    return network
"""
)

TEXT = (
    HEAD
    + """
TASK = "imdb-textcnn"

class Net(nn.Module):
    def __init__(self, tokens=30_002, hidden=16):
        super().__init__()
        self.vectors = nn.Embedding(tokens, 16, padding_idx=0)
        self.two, self.three = nn.Conv1d(16, 16, 2, padding=1), nn.Conv1d(16, 16, 3, padding=1)
        self.output = nn.Linear(32, 2)
    def features(self, tokens):
        vectors = self.vectors(tokens).transpose(1, 2)
        return torch.cat([F.relu(layer(vectors)).amax(2) for layer in (self.two, self.three)], 1)
    def forward(self, tokens): return self.output(self.features(tokens))

class Softmax(Net):
    def forward(self, tokens): return super().forward(tokens).softmax(1)

class Dropped(Net):
    def forward(self, tokens): return self.output(F.dropout(self.features(tokens), 0.5))

class Two(Net):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(32, 32)
    def forward(self, tokens): return self.output(F.relu(self.hidden(self.features(tokens))))

class Cut(Net):
    def features(self, tokens): return super().features(tokens).detach()

def good(): return Net()
def few_tokens(): return Net(10)
def dropped(): return Dropped()
def softmax(): return Softmax()
def two(): return Two()
def cut(): return Cut()

def large():
    network = Net()
    nn.init.normal_(network.output.weight, std=100)
    return network
"""
)

EMBEDDINGS = (
    HEAD
    + """
TASK = "imdb-roberta"

def mlp(*layers): return nn.Sequential(nn.Linear(256, 32), *layers, nn.Linear(32, 2))
def linear(): return mlp()
def deep(): return mlp(*(nn.Linear(32, 32) for _ in range(3)), nn.ReLU())
"""
)
FILES = {"c": CLASSIFICATION, "s": SEGMENTATION, "d": DETECTION, "t": TEXT, "e": EMBEDDINGS}


@pytest.fixture(autouse=True)
def short_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials of a fixed length: else a loaded machine would make them shorter."""
    for name, value in {"OVERFIT_STEPS": (20, 20), "PART_STEPS": (4, 4)}.items():
        monkeypatch.setattr(trials, name, value)
    for name in ("OVERFIT_SECONDS", "PART_SECONDS"):
        monkeypatch.setattr(trials, name, 1e9)


def quick(decathlon: Command, file: str, function: str, *more: str) -> dict[str, Any]:
    """The last stage of a quick check."""
    Path("net.py").write_text(FILES[file])
    answer = decathlon("grade", f"net.py:{function}", "--data", "sample", "--quick", "--json", *more)
    result = json.loads(answer.out)
    assert answer.status == (0 if result["passed"] else 1)
    assert result["cleared"] is None
    return dict(result["stages"][-1])


@pytest.mark.parametrize(
    ("file", "function", "stage", "words"),
    [
        ("c", "softmax", "shapes", ["ends in a softmax", "logits"]),
        ("c", "log_softmax", "architecture", ["it uses log-softmax, which is not allowed here"]),
        ("c", "misspelt", "shapes", ["Misspelt has no forward(): is its name misspelt?"]),
        ("c", "listed", "shapes", ["ModuleList has no forward() (line ", "): call its layers one after the other"]),
        ("c", "colour", "shapes", ["(2, 1, 28, 28)", "784", "(line 31)"]),
        ("c", "deep", "architecture", ["3 fully connected layers, not 2: 1 too many of hidden (Linear), middle"]),
        ("c", "large", "first loss", ["log(10) = 2.30", "logits are too large"]),
        ("c", "dead", "gradients", ["dead ReLU", "2 (ReLU): 100 %"]),
        ("c", "unused", "gradients", ["no gradient reaches middle: forward() does not use"]),
        ("c", "narrow", "one batch", ["cannot overfit one batch", "the reference"]),
        ("s", "sigmoid", "shapes", ["ends in a sigmoid"]),
        ("s", "small", "shapes", ["(2, 1, 32, 32)", "must return (2, 1, 64, 64)"]),
        ("s", "short", "architecture", ["18 convolution layers, not 19: 1 missing beside encoder.0.0 (Conv2d)"]),
        ("s", "large", "first loss", ["log(2) = 0.69"]),
        ("s", "dead", "gradients", ["dead ReLU", "bottleneck.5 (ReLU): 100 %"]),
        ("s", "cut", "gradients", ["no gradient reaches encoder.1.0, encoder.1.1, encoder.1.3"]),
        ("d", "no_scores", "shapes", ["boxes (M, 4), labels (M,) and scores (M,)"]),
        ("d", "no_targets", "shapes", ["fails on a training batch", "argument"]),
        ("d", "wrapped", "architecture", ["it is not a torchvision RetinaNet"]),
        ("d", "classes", "architecture", ["RetinaNetClassificationHead for the data's classes"]),
        ("d", "cut", "gradients", ["no gradient reaches backbone."]),
        ("t", "few_tokens", "shapes", ["index out of range", "(line"]),
        ("t", "softmax", "shapes", ["ends in a softmax"]),
        ("t", "dropped", "shapes", ["outputs for the same input differ", "training=self.training"]),
        (
            "t",
            "two",
            "architecture",
            ["2 fully connected layers, not 1: 1 too many of hidden (Linear), output (Linear)"],
        ),
        ("t", "large", "first loss", ["log(2) = 0.69"]),
        ("t", "cut", "gradients", ["no gradient reaches vectors, two, three"]),
        ("e", "linear", "architecture", ["no nonlinearity between its layers"]),
        ("e", "deep", "architecture", ["it has 5 fully connected layers, not two to four (0 (Linear), 1 (Linear)"]),
    ],
)
def test_a_broken_network_gets_the_message_that_helps(
    file: str, function: str, stage: str, words: list[str], decathlon: Command
) -> None:
    last = quick(decathlon, file, function)
    assert (last["name"], last["passed"]) == (stage, False), last
    for word in words:
        assert word in last["message"]


def test_a_last_layer_that_starts_at_0_has_no_vanished_gradients(decathlon: Command) -> None:
    Path("net.py").write_text(FILES["c"])
    stages = json.loads(decathlon("grade", "net.py:zero", "--data", "sample", "--quick", "--json").out)["stages"]
    assert {"name": "gradients", "passed": True}.items() <= stages[4].items(), stages


@pytest.mark.parametrize("file", ["s", "d", "t"])
def test_good_networks_pass_the_quick_stages(file: str, decathlon: Command) -> None:
    last = quick(decathlon, file, "good")
    assert last["name"] == "small part"
    assert last["passed"], last


def test_a_newcomer_gets_from_start_to_a_cleared_bar(decathlon: Command) -> None:
    assert decathlon("start", "mnist-mlp").status == 0
    unwritten = decathlon("grade", "net.py", "--data", "sample")
    assert unwritten.status == 1
    assert "fix  file" in unwritten.out
    assert re.search(r"net\.py is not finished: NotImplementedError \(line \d+\)", unwritten.out)
    text = Path("net.py").read_text()
    text = re.sub(
        r"raise NotImplementedError  # make.*",
        "self.hidden, self.middle = nn.Linear(NUM_PIXELS, 256), nn.Linear(256, 256)\n"
        "        self.output = nn.Linear(256, NUM_CLASSES)",
        text,
    )
    forward = "return self.output(self.middle(self.hidden(images.flatten(1)).relu()).relu())"
    text = re.sub(r"raise NotImplementedError  # compute.*", forward, text)
    Path("net.py").write_text(text)
    deep = decathlon("grade", "net.py", "--data", "sample")
    assert (
        "3 fully connected layers, not 2: 1 too many of hidden (Linear), middle (Linear), output (Linear)" in deep.out
    )
    text = text.replace("self.middle(self.hidden(images.flatten(1)).relu())", "self.hidden(images.flatten(1))")
    layers = "self.hidden, self.middle = nn.Linear(NUM_PIXELS, 256), nn.Linear(256, 256)"
    Path("net.py").write_text(text.replace(layers, "self.hidden = nn.Linear(NUM_PIXELS, 256)"))
    done = decathlon("grade", "net.py", "--data", "sample", "--json")
    assert done.status == 0, done.err
    result = json.loads(done.out)
    assert result["cleared"] is True
    assert [stage["name"] for stage in result["stages"]][-1] == "training"
    yours, reference = result["result"]["rows"]
    assert (yours["network"], reference["network"]) == ("yours", "reference")
    assert yours["value"] >= 0.98
    assert yours["flops"] == reference["flops"] == 2 * (784 * 256 + 256 * 10)
    assert 0 <= yours["calibration_error"] < 0.2
    found = result["result"]["disagreements"]
    assert found["total"] == 297
    assert found["count"] >= found["yours_better"] + found["reference_better"]
    assert Path(result["folder"], "run-seed0", "report.html").exists()
    listed = decathlon("attempts", "mnist-mlp")
    assert re.search(
        r"1 .*fix  file: .*\n(.*\n)+ +2 .*fix  architecture: .*\n(.*\n)+ +3 .*passed  training", listed.out
    )
    assert "+        return self.output(self.hidden(images.flatten(1)).relu())" in listed.out
    rows = json.loads(decathlon("attempts", "mnist-mlp", "--json").out)
    assert [row["number"] for row in rows] == [1, 2, 3]
    assert rows[0]["diff"] == []


def test_a_missed_bar_and_seeds(decathlon: Command) -> None:
    Path("net.py").write_text(CLASSIFICATION)
    done = decathlon("grade", "net.py:good", "--data", "sample", "--epochs", "1", "--seeds", "2", "--json")
    assert done.status == 1
    result = json.loads(done.out)
    assert (result["passed"], result["cleared"]) == (False, False)
    assert "bar 98 %: missed" in result["stages"][-1]["message"]
    assert result["result"]["rows"][0]["of"] == "2 seeds"
    assert "training" in decathlon("attempts", "mnist-mlp").out


def test_the_reference_is_a_run_of_the_task(decathlon: Command) -> None:
    Path("net.py").write_text(CLASSIFICATION)
    options = ("--data", "sample", "--epochs", "1")
    assert decathlon("train", "mnist-mlp", *options, "--out", "mlp").status == 0
    done = decathlon("grade", "net.py:good", "--task", "mnist-mlp", *options, "--reference", "mlp", "--json")
    _, reference = json.loads(done.out)["result"]["rows"]
    assert reference["value"] == json.loads(Path("mlp/summary.json").read_text())["value"]
    refused = decathlon("grade", "net.py:good", "--task", "mnist-cnn", *options, "--reference", "mlp")
    assert refused.status != 0
    assert "mnist-mlp" in refused.err


def test_attempts_lists_a_file_in_another_encoding(decathlon: Command) -> None:
    code = "# -*- coding: cp1251 -*-\n# сеть\n" + CLASSIFICATION
    Path("net.py").write_bytes(code.encode("cp1251"))
    decathlon("grade", "net.py:good", "--task", "mnist-mlp", "--data", "sample", "--quick")
    listed = decathlon("attempts", "mnist-mlp")
    assert listed.status == 0, listed.err
    assert "passed  small part" in listed.out


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["start"], ["needs a TASK"]),
        (["start", "mnist-mpl"], ["'mnist-mlp'"]),
        (["grade"], ["needs a file"]),
        (["grade", "--quick"], ["needs a file first"]),
        (["grade", "none.py"], ["no file 'none.py'", "decathlon start"]),
        (["grade", "net.py", "--data", "sample"], ["names no task", "--task"]),
        (["grade", "net.py", "--task", "mnist-mpl"], ["'mnist-mlp'"]),
        (["grade", "net.py", "--task", "mnist-mlp", "--epoch", "3"], ["'--epochs'"]),
        (["grade", "net.py", "--task", "mnist-mlp", "--data", "sample", "--seeds", "0"], ["--seeds", "at least 1"]),
        (["attempts"], ["needs a TASK"]),
    ],
)
def test_wrong_commands(command: list[str], words: list[str], decathlon: Command) -> None:
    Path("net.py").write_text("def net(): ...\n")
    answer = decathlon(*command)
    assert answer.status == 2, answer
    for word in words:
        assert word in answer.error


def test_help_has_the_fields_of_the_recipe(decathlon: Command, capsys: pytest.CaptureFixture[str]) -> None:
    Path("net.py").write_text('TASK = "mnist-mlp"\n')
    with pytest.raises(SystemExit):
        decathlon("grade", "net.py", "--help")
    assert "--optimizer.lr" in capsys.readouterr().out


def test_no_attempts_yet(decathlon: Command) -> None:
    answer = decathlon("attempts", "mnist-mlp")
    assert answer.status == 1
    assert "decathlon grade net.py makes one" in answer.error


def test_start_never_overwrites_silently(decathlon: Command) -> None:
    Path("net.py").write_text("mine")
    answer = decathlon("start", "mnist-mlp")
    assert answer.status == 1
    assert "--overwrite" in answer.error
    assert Path("net.py").read_text() == "mine"
    assert not Path("mnist-mlp.ipynb").exists()
    assert decathlon("start", "mnist-mlp", "--dir", "new").status == 0
    assert decathlon("start", "mnist-mlp", "--overwrite").status == 0
    assert Path("net.py").read_text() == Path("new/net.py").read_text()


@pytest.mark.parametrize("task_id", task_ids())
def test_what_start_writes(task_id: str, decathlon: Command) -> None:
    assert decathlon("start", task_id).status == 0
    text, spec = Path("net.py").read_text(), get_task(task_id).SPEC
    assert all(len(line) <= 120 for line in text.splitlines())
    assert spec.network in " ".join(text.split())
    assert "no bar" in text if spec.bar is None else f"{100 * spec.bar:g} %" in text
    namespace: dict[str, Any] = {"__name__": "net"}
    exec(compile(text, "net.py", "exec"), namespace)
    assert namespace["TASK"] == task_id
    with pytest.raises(NotImplementedError):
        namespace["net"]()
    nbformat.validate(nbformat.read(f"{task_id}.ipynb", as_version=4))


def notebook_cells(task_id: str) -> list[str]:
    return [cell.source for cell in nbformat.read(f"{task_id}.ipynb", as_version=4).cells if cell.cell_type == "code"]


@pytest.mark.parametrize("task_id", task_ids())
def test_the_notebook_runs(task_id: str, decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first cell to the last, with one epoch; what the first would install is only recorded."""
    displayed, installed = list[Path](), list[tuple[str, str]]()
    stub = types.ModuleType("IPython.display")
    stub.Image, stub.display = Path, displayed.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython.display", stub)
    matplotlib.use("agg")
    shell = types.SimpleNamespace(run_line_magic=lambda name, line: installed.append((name, line)))
    names: dict[str, Any] = {"get_ipython": lambda: shell}
    assert decathlon("start", task_id).status == 0
    for source in notebook_cells(task_id):
        source = source.replace(f"epochs={STARTERS[task_id].epochs}", "epochs=1")
        exec(compile(TransformerManager().transform_cell(source), task_id, "exec"), names)
    names["plt"].close("all")
    assert installed == [], "decathlon is there already"
    assert len(names["run"].history) == 1
    plots = sorted((names["run"].folder / "plots").glob("*.png"))
    assert displayed == plots
    assert len(plots) >= 2


@pytest.mark.filterwarnings("ignore:Parsing dates involving a day of month:DeprecationWarning")
def test_the_first_cell_changes_nothing_where_decathlon_is_installed(
    decathlon: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a real kernel, without a package index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert decathlon("start", "mnist-mlp").status == 0
    notebook = nbformat.read("mnist-mlp.ipynb", as_version=4)
    (install,) = [cell for cell in notebook.cells if "%pip" in cell.source]
    assert install is next(cell for cell in notebook.cells if cell.cell_type == "code")
    notebook.cells = [install]
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    text = "".join(output.get("text", "") for output in install.outputs)
    assert "ERROR" not in text
    assert "Successfully installed" not in text


def test_the_example_workflow_uses_what_there_is(decathlon: Command) -> None:
    text = (ROOT / "examples" / "grade.yml").read_text()
    (line,) = re.findall(r"run: (decathlon grade .*)", text)
    words = shlex.split(line.partition(">")[0])[1:]
    Path("net.py").write_text(CLASSIFICATION + "\nnet = deep\n")
    result = json.loads(decathlon(*words).out)
    assert [stage["name"] for stage in result["stages"]] == ["file", "shapes", "architecture"]


# --- The parts --------------------------------------------------------------------------------------------------------


def test_gradients_are_described_by_their_worst_mistake() -> None:
    good = {"a.weight": 1e-2, "b.weight": 1.0}
    assert gradients.describe(gradients.Gradients(1.0, good)) == ""
    assert "vanished gradients in a.weight" in gradients.describe(gradients.Gradients(1.0, good | {"a.weight": 1e-9}))
    assert "exploding gradients in b.weight" in gradients.describe(gradients.Gradients(1.0, good | {"b.weight": 1e5}))
    assert "gradient of a.weight is exactly 0" in gradients.describe(gradients.Gradients(1.0, good | {"a.weight": 0.0}))
    assert "NaN or infinite" in gradients.describe(gradients.Gradients(float("nan"), good))


class AlwaysDropping(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(images, 0.5)


@pytest.mark.parametrize("dropping", [nn.Dropout(), AlwaysDropping()])
def test_dropout_in_evaluation_is_named(dropping: nn.Module) -> None:
    _, counts = operations(nn.Sequential(nn.Linear(6, 4), dropping), torch.rand(2, 6))
    expected = {"fully connected": 1, "dropout": 1}
    assert counts == expected | ({} if isinstance(dropping, nn.Dropout) else {ACTIVE_DROPOUT: 1})


def test_layers_are_named_by_module_or_line() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    layers = find_layers(network, torch.zeros(2, 1, 4, 4))
    assert layers == {"convolution": ["0 (Conv2d)"], "ReLU": ["1 (ReLU)"], "fully connected": ["3 (Linear)"]}
    with LayerRecorder(nn.Sequential(nn.ReLU())) as recorder:
        torch.zeros(2, 2).relu()
    assert recorder.layers == {}, "only the network's own operations count"
    assert describe_violation("it has 0 ReLU layers, not 2", {}) == "it has 0 ReLU layers, not 2: 2 missing"
    assert describe_violation("it uses convolution, which is not allowed here", layers).endswith("here (0 (Conv2d))")


def test_calibration_and_matching() -> None:
    with recording() as examples:
        record_classes(torch.tensor([[0.0, 0.0], [9.0, 0.0]]), torch.tensor([1, 0]))
    assert examples.labels == [0, 0]
    assert examples.scores == [0, 1]
    assert examples.calibration_error() == pytest.approx(0.25, abs=0.001)
    assert examples.standard_error() == pytest.approx(0.5)
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])
    detection = {"boxes": boxes, "labels": torch.tensor([1, 1, 2]), "scores": torch.tensor([0.5, 0.9, 0.8])}
    target = {"boxes": boxes[:1], "labels": torch.tensor([1])}
    assert match(detection, target).tolist() == [False, True, False], "an object is found once, by the best score"


def test_messages_name_no_folder_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training on a small part happens in a temporary folder: nobody can continue there."""

    def interrupt(*args: object) -> None:
        raise Interrupted("interrupted at step 3; continue: --resume /tmp/decathlon-x")

    monkeypatch.setattr(trials, "fit", interrupt)
    task = get_task("mnist-mlp")
    recipe = task.sample_recipe()
    data = task.load(parse_source("sample"), recipe)
    with pytest.raises(Interrupted, match=r"^interrupted at step 3$"):
        trials.learn_part(task, nn.Linear(1, 1), data, recipe, launch_fabric("32-true"), 8, 8, 4)


def test_reference_of_other_data_is_not_mixed_in(decathlon: Command, tmp_path: Path) -> None:
    """The published mean and the disagreements are of one copy of the data: on another they would say nothing."""
    runs = [tmp_path / "run0", tmp_path / "run1"]
    for seed, run in enumerate(runs):
        options = ("--data", "sample", "--epochs", "1", "--seed", str(seed), "--out", run)
        assert decathlon("train", "mnist-mlp", *options).status == 0
    summaries = [replace(validate.summary(runs[0] / "summary.json"), folder=str(runs[0]))]
    card = {"data": "mnist", "published": {"mean": 0.99, "deviation": 0.01, "n": 3}}
    (runs[1] / "card.json").write_text(json.dumps(card))
    rows = grade.compare_sides(summaries, runs[1], None, tmp_path, launch_fabric("32-true"))["rows"]
    assert rows[1]["value"] != 0.99, "published on mnist, measured here on mnist-sample"
    (runs[1] / "card.json").write_text(json.dumps(card | {"data": "mnist-sample"}))
    rows = grade.compare_sides(summaries, runs[1], None, tmp_path, launch_fabric("32-true"))["rows"]
    assert (rows[1]["value"], rows[1]["of"]) == (0.99, "3 seeds")
    measured = grade.measure_side

    def other_data(name: str, *args: Any) -> grade.Side:
        side = measured(name, *args)
        return side if name == "yours" else replace(side, data=replace(side.data, name="own:digits"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grade, "measure_side", other_data)
        result = grade.compare_sides(summaries, runs[1], None, tmp_path, launch_fabric("32-true"))
    assert result["disagreements"] is None
    assert "not measured on the same data: yours mnist-sample, it own:digits" in result["note"]


STUDENTS = (
    HEAD
    + """
TASK = "mnist-cnn"

class Unregistered(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = [nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3)]
        self.output = nn.Linear(8 * 12 * 12, 10)

    def forward(self, x):
        for conv in self.convs:
            x = torch.relu(conv(x))
        return self.output(F.max_pool2d(x, 2).flatten(1))

class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self._blocks = [(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8)), {"conv": nn.Conv2d(8, 8, 3)}]
        self.output = nn.Linear(8 * 12 * 12, 10)

class InPlace(nn.Module):
    def __init__(self, keep):
        super().__init__()
        self.conv1, self.conv2, self.keep, self.state = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), keep, 0
        self.output = nn.Linear(4 * 12 * 12, 10)

    def forward(self, x):
        x = torch.relu(self.conv1(x))
        y = torch.relu(self.conv2(x))
        if self.keep and self.training:
            self.state = self.state * 0.5 + y.mean()
            y = y + self.state
        elif not self.keep:
            F.relu(y, inplace=True)
        return self.output(F.max_pool2d(y, 2).flatten(1))

class Other(nn.Module):
    def __init__(self, end):
        super().__init__()
        self.conv1, self.conv2, self.end = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), end
        self.output = nn.Linear(4 * 5 * 5, 10)

    def forward(self, x):
        print(x.shape)
        x = F.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = F.max_pool2d(torch.relu(self.conv2(x)), 2)
        if self.end == "fresh":
            return nn.Linear(100, 10)(x.flatten(1))
        x = self.output(x.flatten(1))
        return {"detached": x.detach(), "tuple": (x, x), "nothing": None, "first": x[0], "good": x}[self.end]

def unregistered(): return Unregistered()
def in_place(): return InPlace(False)
def keeps(): return InPlace(True)
def nested(): return Nested()
def detached(): return Other("detached")
def pair(): return Other("tuple")
def nothing(): return Other("nothing")
def first(): return Other("first")
def fresh(): return Other("fresh")
def good(): return Other("good")
def its_class(): return Other
"""
)


@pytest.mark.parametrize(
    ("function", "stage", "words"),
    [
        ("unregistered", "file", "convs is a Python list: the 2 layers in it are not registered"),
        ("nested", "file", "_blocks is a Python list: the 3 layers in it are not registered"),
        ("in_place", "gradients", "was changed in place; x = x + y in place of x += y"),
        ("keeps", "gradients", "something is kept from one batch to the next; detach() it"),
        ("its_class", "file", "returned the class Other: write Other()"),
        ("missing", "file", "has no function 'missing'; it has unregistered, in_place, keeps"),
        ("pair", "shapes", "returns a tuple for an input of shape (2, 1, 28, 28); it must return one tensor of shape"),
        ("nothing", "shapes", "is return missing in forward()?"),
        ("first", "shapes", "the first dimension, that of the batch, is lost"),
        ("fresh", "architecture", "it makes a layer anew at every call; make it in __init__"),
        ("detached", "gradients", "no gradient reaches any layer: detach(), .data"),
    ],
)
def test_mistakes_of_students(function: str, stage: str, words: str, decathlon: Command) -> None:
    Path("net.py").write_text(STUDENTS)
    answer = decathlon("grade", f"net.py:{function}", "--data", "sample", "--quick", "--json")
    last = json.loads(answer.out)["stages"][-1]  # nothing that the network prints gets between
    assert (answer.status, last["name"], last["passed"]) == (1, stage, False)
    assert words in last["message"]


def test_a_network_that_fails_on_large_batches_has_not_passed(decathlon: Command) -> None:
    Path("net.py").write_text(
        'from torch import nn\nTASK = "mnist-mlp"\nclass Net(nn.Module):\n    def __init__(self):\n'
        "        super().__init__()\n        self.hidden, self.output = nn.Linear(784, 64), nn.Linear(64, 10)\n"
        "    def forward(self, images):\n        assert len(images) <= 200, 'too many'\n"
        "        return self.output(self.hidden(images.flatten(1)).relu())\ndef net(): return Net()\n"
    )
    answer = decathlon("grade", "net.py", "--data", "sample", "--json", "--epochs", "1")
    result = json.loads(answer.out)
    last = result["stages"][-1]
    assert (answer.status, result["passed"], last["name"], last["passed"]) == (1, False, "training", False)
    assert "it fails: AssertionError: too many (line 8)" in last["message"]
    assert json.loads((Path(result["folder"]) / "attempt.json").read_text())["passed"] is False
    listed = decathlon("attempts", "mnist-mlp").out
    assert "fix  training: it fails" in listed


def test_an_interrupted_training_is_no_mistake_of_the_network(
    decathlon: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*given: Any) -> Any:
        raise Interrupted("interrupted at step 3; continue: --resume run")

    monkeypatch.setattr("decathlon.training.runner.train", interrupt)
    Path("net.py").write_text(
        'from torch import nn\nTASK = "mnist-mlp"\n'
        "def net(): return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))\n"
    )
    answer = decathlon("grade", "net.py", "--data", "sample", "--json")
    assert answer.status == 1
    assert json.loads(answer.out)["error"] == "interrupted at step 3; continue: --resume run"
    assert "it fails" not in answer.err


def test_with_json_there_is_always_a_result(decathlon: Command) -> None:
    Path("net.py").write_text('TASK = "mnist-cnn"\nnet = (1,\n')
    result = json.loads(decathlon("grade", "net.py", "--data", "sample", "--quick", "--json").out)
    assert "line 2" in result["stages"][-1]["message"]
    answer = decathlon("grade", "net.py", "--data", "nowhere", "--json")
    assert json.loads(answer.out)["stages"] == []
    assert "no such path" in json.loads(answer.out)["error"]
    assert answer.status != 0


def test_transposed_convolutions_are_not_taken_for_convolutions() -> None:
    layers = {"convolution": ["a (Conv2d)"], "transposed convolution": ["t (ConvTranspose2d)"]}
    violation = "it uses transposed convolution, which is not allowed here"
    assert describe_violation(violation, layers) == f"{violation} (t (ConvTranspose2d))"
