"""`--model FILE.py:function`: the user's network in the task's place."""

from __future__ import annotations

import itertools
import json
import os
import py_compile
from pathlib import Path

import numpy as np
import pytest
from conftest import Command
from inputs import digit
from PIL import Image

from decathlon.runs import user_model

MLP = """
from __future__ import annotations
from dataclasses import dataclass
from torch import nn

@dataclass
class Size:
    hidden: int = 100

def good():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, Size().hidden), nn.ReLU(), nn.Linear(100, 10))

def deep():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 50), nn.ReLU(), nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 10))

def eleven():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 11))

def wide():
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 100), nn.ReLU(), nn.Linear(100, 10))

def nothing():
    return nn.Flatten()

def number():
    return 3

def broken():
    return 1 / 0
"""
CNN = """
from torch import nn

def net():
    return nn.Sequential(
        nn.Conv2d(1, 8, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(8, 16, 5), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(256, 10))
"""
AUTOENCODER = """
from torch import nn

class Net(nn.Module):
    def __init__(self, code):
        super().__init__()
        self.encode = nn.Sequential(nn.Flatten(), nn.Linear(784, code))
        self.decode = nn.Linear(code, 784)

    def forward(self, images):
        code = self.encode(images)
        return self.decode(code).view_as(images), code

def net():
    return Net(32)

def big():
    return Net(200)

def only_images():
    return nn.Conv2d(1, 1, 3, padding=1)
"""


@pytest.fixture(autouse=True)
def files() -> None:
    for name, text in {"mlp": MLP, "cnn": CNN, "autoencoder": AUTOENCODER}.items():
        Path(f"{name}.py").write_text(text)


def command(task: str, model: str, *more: str) -> tuple[str, ...]:
    return ("train", task, "--data", "sample", "--epochs", "1", "--out", "run", "--model", model, "--json", *more)


@pytest.mark.parametrize(
    ("task", "model"),
    [("mnist-mlp", "mlp.py:good"), ("mnist-cnn", "cnn.py:net"), ("mnist-autoencoder", "autoencoder.py:net")],
)
def test_trains_evaluates_and_predicts(task: str, model: str, decathlon: Command, tmp_path: Path) -> None:
    done = decathlon(*command(task, model))
    assert done.status == 0, done.err
    summary = json.loads(done.out)
    assert summary["violations"] == []
    assert summary["model"] == model
    Path(model.split(":")[0]).unlink()  # the run folder keeps a copy
    again = decathlon("evaluate", "run", "--json")
    assert again.status == 0, again.err
    assert json.loads(again.out)["metrics"] == summary["metrics"]
    assert decathlon("predict", task, digit(tmp_path), "--run", "run").status == 0


def test_a_broken_rule_is_reported_first_and_marks_the_result(decathlon: Command) -> None:
    done = decathlon(*command("mnist-mlp", "mlp.py:deep"))
    assert done.status == 0, done.err
    assert "is not the network of mnist-mlp" in done.err
    summary = json.loads(done.out)
    assert summary["counts"] is False
    assert summary["violations"] == ["it has 3 fully connected layers, not 2"]
    assert "does not count" in Path("run/report.html").read_text()
    words = decathlon("evaluate", "run").out
    assert "does not count: it has 3 fully connected layers, not 2" in words


def test_a_code_too_large_does_not_count(decathlon: Command) -> None:
    done = decathlon(*command("mnist-autoencoder", "autoencoder.py:big"))
    assert done.status == 0, done.err
    assert json.loads(done.out)["violations"] == ["its latent dimension is 200, more than 128"]


@pytest.mark.parametrize(
    ("task", "model", "status", "words"),
    [
        ("mnist-mlp", "mlp.py:eleven", 1, ["(2, 11)", "(2, 10)"]),
        ("mnist-mlp", "mlp.py:wide", 1, ["does not take", "(2, 1, 28, 28)"]),
        ("mnist-mlp", "mlp.py:nothing", 1, ["without parameters"]),
        ("mnist-mlp", "mlp.py:number", 1, ["returned a int", "torch.nn.Module"]),
        ("mnist-mlp", "mlp.py:broken", 1, ["ZeroDivisionError"]),
        ("mnist-mlp", "mlp.py:missing", 2, ["no function 'missing'"]),
        ("mnist-mlp", "none.py:net", 2, ["no file 'none.py'"]),
        ("mnist-mlp", "mlp.py", 2, ["name the function", "mlp.py:FUNCTION"]),
        ("mnist-mlp", "mlp", 2, ["FILE.py:function"]),
        ("mnist-autoencoder", "autoencoder.py:only_images", 1, ["pair", "codes"]),
        ("mnist-autoencoder", "mlp.py:good", 1, ["pair", "codes"]),
    ],
)
def test_a_wrong_network_is_reported_before_training(
    task: str, model: str, status: int, words: list[str], decathlon: Command
) -> None:
    answer = decathlon(*command(task, model))
    assert answer.status == status, answer
    for word in words:
        assert word in answer.error
    assert not Path("run").exists()


def test_paths_may_begin_at_home(decathlon: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell leaves `~` in `--data=~/pets`: everything but the last step of a long training would find the data."""
    home = tmp_path / "home"
    pixels = np.random.default_rng(0)
    for split, label in itertools.product(("train", "test"), ("cat", "dog")):
        (home / "pets" / split / label).mkdir(parents=True)
        for number in range(6):
            image = Image.fromarray(pixels.integers(0, 255, (32, 32, 3), np.uint8))
            image.save(home / "pets" / split / label / f"{number}.png")
    (home / "net.py").write_text(MLP.replace("784", "3072").replace("nn.Linear(100, 10)", "nn.Linear(100, 2)"))
    monkeypatch.setenv("HOME", str(home))
    options = ("--data=~/pets", "--out=~/run", "--epochs", "1", "--low-res-epochs", "0", "--model=~/net.py:good")
    assert decathlon("train", "cifar10-skip", *options).status == 0
    assert (home / "run" / "summary.json").is_file()
    config = json.loads((home / "run" / "config.json").read_text())
    assert config["options"]["data"] == str(home / "pets")
    assert decathlon("evaluate", str(home / "run")).status == 0
    assert decathlon("predict", "cifar10-skip", "--run=~/run", str(home / "pets/test/cat/0.png")).status == 0


def test_compare_and_grade_keep_everything_at_home(
    decathlon: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of their files were in a folder named `~`."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    options = ("--data", "sample", "--epochs", "1")
    assert decathlon("compare", "mnist-mlp", "mnist-cnn", "--out=~/two", *options).status == 0
    assert list((tmp_path / "home/two").glob("*.html"))
    Path("net.py").write_text(MLP)
    decathlon("grade", "net.py:good", "--task", "mnist-mlp", "--quick", "--out=~/graded", *options)
    assert list((tmp_path / "home/graded/mnist-mlp/attempts").iterdir())
    assert not Path("~").exists()


def test_file_that_imports_its_neighbour(decathlon: Command, tmp_path: Path) -> None:
    Path("blocks.py").write_text("from torch import nn\n")
    Path("net.py").write_text("from blocks import nn\n\ndef net(): return nn.Linear(1, 1)\n")
    error = decathlon("train", "mnist-mlp", "--data", "sample", "--model", "net.py:net").error
    assert "No module named 'blocks': it lies beside net.py" in error
    Path("net.py").write_text("import sys\nsys.exit('no')\n")
    assert "SystemExit: no" in decathlon("train", "mnist-mlp", "--data", "sample", "--model", "net.py:net").error


def test_bytecode_beside_the_file_is_not_run(tmp_path: Path) -> None:
    """What is trusted is the source of a run's model.py; Python would prefer bytecode that claims to need no check."""
    file = tmp_path / "net.py"
    evil = "from torch import nn\ndef net(): raise SystemExit('other code')\n"
    file.write_text(evil)
    compiled = py_compile.compile(str(file), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    assert compiled is not None
    file.write_text("from torch import nn\ndef net(): return nn.Linear(3, 1)\n")
    assert user_model.load_network(f"{file}:net").in_features == 3


def test_a_file_of_the_same_size_and_time_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    for size in (3, 4):
        file.write_text(f"from torch import nn\ndef net(): return nn.Linear({size}, 1)\n")
        os.utime(file, (1_700_000_000, 1_700_000_000))
        assert user_model.load_network(f"{file}:net").in_features == size
