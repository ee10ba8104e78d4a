"""`bench/peers.py` and `bench/scaling.py`: their arithmetic, tiny runs, and the tables of docs/performance.md."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from conftest import ROOT

from decathlon.data.base import parse_source
from decathlon.tasks.base import get_task


@pytest.fixture(scope="module")
def bench() -> dict[str, ModuleType]:
    sys.path.insert(0, str(ROOT / "bench"))
    try:
        import peer_recipes
        import peers
        import performance_page
        import scaling
    finally:
        sys.path.remove(str(ROOT / "bench"))
    return {"peers": peers, "recipes": peer_recipes, "page": performance_page, "scaling": scaling}


def between(name: str) -> str:
    text = (ROOT / "docs/performance.md").read_text()
    return text[text.index(f"<!-- {name} -->") + len(f"<!-- {name} -->") : text.index(f"<!-- /{name} -->")].strip()


def test_the_page_has_the_tables_of_its_data(bench: dict[str, ModuleType]) -> None:
    tables = bench["page"].load()
    assert between("peers") == bench["peers"].comparison_table(tables["peers"])
    assert between("arithmetic") == bench["peers"].arithmetic_table(tables["peers"])
    assert between("scaling") == bench["scaling"].table(tables["scaling"])


def test_the_page_names_every_peer_but_the_slowest(bench: dict[str, ModuleType]) -> None:
    absent = [peer.name for peer in bench["recipes"].PEERS if peer.name not in between("peers")]
    assert absent == ["torchvision RetinaNet"]


def test_sides_take_turns_and_the_bar_is_noted(bench: dict[str, ModuleType]) -> None:
    events: list[Any] = [10, 10, lambda: 0.5, 10, 10, lambda: 0.9, 10, lambda: 0.95]
    side = bench["peers"].Side("side", iter(events), 50)
    side.run(1e9, 0.8)
    assert (side.is_done, side.examples, side.bar_examples, side.value) == (True, 50, 40, 0.95)
    assert side.finished_epochs == 3
    assert side.bar_seconds is not None
    assert side.bar_seconds <= side.seconds


def row(**changes: Any) -> dict[str, Any]:
    usual = {"task": "mnist-mlp", "recipe": "decathlon", "epochs": 35, "examples_per_second": 100.0, "is_done": False}
    usual |= {
        "total_examples": 3500,
        "seconds": 1000.0,
        "seconds_to_bar": None,
        "preparation_seconds": 0.0,
        "validation": None,
        "reported": "",
    }
    return usual | changes


def test_times(bench: dict[str, ModuleType]) -> None:
    """Measured, or extrapolated: ours by the committed part of the training, others to their end."""
    time_to_bar = bench["peers"].time_to_bar
    assert time_to_bar(row(seconds_to_bar=30.0, preparation_seconds=5.0)) == (35.0, "measured")
    assert time_to_bar(row(to_bar=0.2)) == (200.0, "extrapolated")
    assert time_to_bar(row()) == (1000.0, "to its end, extrapolated")
    assert time_to_bar(row(is_done=True)) == (1000.0, "to its end")
    table = bench["peers"].comparison_table([row(to_bar=0.2), row(recipe="other", seconds=3000.0)])
    assert "| 15 |" in table


@pytest.mark.parametrize("name", ["Keras mnist_mlp", "PyTorch examples/mnist", "Keras imdb_cnn", "Keras imdb_fasttext"])
def test_a_peer_learns(name: str, bench: dict[str, ModuleType], tmp_path: Path) -> None:
    """On the sample, a few steps lower the loss of a batch."""
    torch.manual_seed(0)
    (peer,) = [peer for peer in bench["recipes"].PEERS if peer.name == name]
    training = peer.prepare(parse_source("sample", str(tmp_path)))
    inputs, targets = next(iter(training.batches()))
    losses = []
    for _ in range(8):
        loss = training.loss(training.network, inputs, targets)
        training.optimizer.zero_grad()
        loss.backward()
        training.optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert 0 <= bench["peers"].accuracy(training) <= 1


@pytest.mark.parametrize(
    ("build", "parameters"), [("vgg16", 14_728_266), ("resnet18", 11_173_962), ("UNet", 31_037_698)]
)
def test_networks_have_the_published_sizes(build: str, parameters: int, bench: dict[str, ModuleType]) -> None:
    network = getattr(bench["recipes"], build)()
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    size = 32
    assert network(torch.zeros(2, 3, size, size)).shape == ((2, 2, size, size) if build == "UNet" else (2, 10))


def test_ours_trains_as_the_loop_does(bench: dict[str, ModuleType], tmp_path: Path) -> None:
    """The bench's short loop reaches what the package's loop reaches."""
    task, recipe, data = bench["peers"].prepare_ours("mnist-mlp", parse_source("sample", str(tmp_path)))
    side = bench["peers"].Side("ours", bench["peers"].our_steps(task, data, recipe, True), 1)
    side.run(1e9, 0.98)
    assert side.is_done
    assert side.value is not None
    assert side.value > 0.98


def test_exponents(bench: dict[str, ModuleType]) -> None:
    scaling = bench["scaling"]
    assert scaling.exponent([1, 10, 100], [2, 20, 200]) == pytest.approx(1)
    values = {"reading": [1.0, 4.0], "training": [0.1, 0.4], "memory": [100, 200]}
    exponents = {"reading": 2.0, "training": 2.0, "memory": 1.0}
    grown = {"task": "x", "grows": "examples", "sizes": [1, 2], "values": values, "exponents": exponents}
    assert scaling.worse_than_linear([grown]) == ["x: reading grows with examples to the power of 2.0"]
    assert "1 → 4 s (2.00)" in scaling.table([grown])


@pytest.mark.parametrize("task_id", ["mnist-mlp", "imdb-textcnn", "pets-unet", "voc-faster-rcnn"])
def test_scaling_writes_data_that_the_task_reads(task_id: str, bench: dict[str, ModuleType], tmp_path: Path) -> None:
    path = bench["scaling"].CASES[task_id].write(tmp_path / "own", 24)
    task = get_task(task_id)
    data = task.load(parse_source(str(path), str(tmp_path / "cache")), task.sample_recipe())
    assert len(data.train) + len(data.validation) >= 20
