"""What the README shows works from the wheel alone: no network, no repository, an empty folder.

Every command here loads torch, so programs that need several of them run in one process.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Answer
from inputs import INPUTS, digit
from installation import Installation

from decathlon.tasks.base import get_task, task_ids

Run = Callable[..., Answer]

TRAIN = """
import sys
import decathlon
for task in sys.argv[1:]:
    run = decathlon.train(task, data="sample", epochs=1, out=f"run-{task}")
    assert run.report.is_file()
    print(task, 0 <= run.value <= 1)
"""

PREDICT = """
import sys
from decathlon.cli.main import run_command
for task, source in zip(sys.argv[1::2], sys.argv[2::2]):
    assert run_command(["predict", task, source, "--json"]) == 0
"""

MEASURE = """
import doctest
import decathlon
from decathlon import api
data = decathlon.load_data("mnist-cnn", data="sample")
predictions = decathlon.load("mnist-cnn").predict(list(data.test.inputs))
labels = [int(prediction.label) for prediction in predictions]
print(sum(label == target for label, target in zip(labels, data.test.targets.tolist())) / len(labels))
print(*doctest.testmod(api))
"""

DEMO = """
import os, re, signal, subprocess, sys, time, urllib.error, urllib.request
command = [sys.executable, "-m", "decathlon", "demo", "--port", "0", "--no-browser"]
streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
client = urllib.request.build_opener(urllib.request.ProxyHandler({}))
with subprocess.Popen(command, env=os.environ | {"PYTHONUNBUFFERED": "1"}, **streams) as process:
    address = next(filter(None, (re.search(r"http://\\S+", line) for line in process.stdout)))[0]
    page = ""
    while not page and process.poll() is None:
        try:
            page = client.open(address, timeout=300).read().decode()
        except urllib.error.URLError:  # the address is printed shortly before the server listens
            time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
assert process.returncode == 0, process.returncode
print(all(tab in page for tab in ("Digits", "Objects", "Pets", "Boxes", "Reviews")))
"""

REQUIREMENTS = """
from importlib.metadata import requires, version
from packaging.requirements import Requirement
for requirement in map(Requirement, requires("decathlon")):
    for extra in ("", "demo", "export"):
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            assert requirement.specifier.contains(version(requirement.name)), requirement
"""

NETWORK = """from torch import nn

TASK = "mnist-mlp"


def net() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 10))
"""


def test_it_is_the_wheel_that_runs(run: Run, installation: Installation) -> None:
    path = Path(run("python", "-c", "import decathlon; print(decathlon.__file__)").out.strip())
    assert path.is_relative_to(installation.venv)
    assert not path.is_relative_to(ROOT / "src")
    version = run("decathlon", "--version").out.split()[-1]
    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text()


def test_neither_network_nor_source_can_be_reached(installation: Installation) -> None:
    if not installation.prefix:
        pytest.skip("this machine allows no namespaces: only HF_HUB_OFFLINE and a dead proxy keep the commands offline")
    code = "import socket; socket.create_connection(('192.0.2.1', 80), 5)"
    assert "Network is unreachable" in installation.run("python", "-c", code).err
    listing = installation.run("python", "-c", f"import os; print(os.listdir({str(ROOT / 'src')!r}))")
    assert listing.out.strip() == "[]"


def test_what_it_requires_is_installed(run: Run) -> None:
    """In versions that fit; with the extras for demo and export."""
    run("python", "-c", REQUIREMENTS)


def test_a_task_of_each_data_set_trains_an_epoch_on_the_sample(run: Run) -> None:
    """What a wheel can lack is a sample, or a file of weights that a training starts from."""
    tasks = {get_task(task).SPEC.dataset: task for task in task_ids()}.values()
    lines = run("python", "-c", TRAIN, "mnist-mlp", *tasks).out.splitlines()
    assert [line for line in lines if line.endswith(" True")] == [f"{task} True" for task in ("mnist-mlp", *tasks)]
    value = json.loads(Path("run-mnist-mlp/summary.json").read_text())["value"]
    assert json.loads(run("decathlon", "evaluate", "run-mnist-mlp", "--json").out)["value"] == value


@pytest.mark.skipif("DECATHLON_WHEEL_VENV" not in os.environ, reason="takes minutes: only in make release")
def test_all_tasks_clear_their_bar_on_the_sample(run: Run) -> None:
    summaries = json.loads(run("decathlon", "all", "--data", "sample", "--json").out)
    assert [summary["task"] for summary in summaries] == task_ids()
    assert all(summary["passed"] for summary in summaries if summary["bar"] is not None)
    assert Path("runs/index.html").is_file()


def test_the_weights_that_ship_predict(run: Run, tmp_path: Path) -> None:
    words = [word for task in task_ids() for word in (task, INPUTS[get_task(task).SPEC.dataset](tmp_path))]
    answers = [json.loads(line) for line in run("python", "-c", PREDICT, *words).out.splitlines()]
    assert len(answers) == len(task_ids())
    assert all(len(answer) == 1 for answer in answers)


def test_the_weights_that_ship_are_measured_and_the_docstrings_run(run: Run) -> None:
    """They were trained on the official data, which are not here: on the sample they are far from chance."""
    accuracy, results = run("python", "-c", MEASURE).out.splitlines()[-2:]
    assert float(accuracy) > 0.5
    failed, attempted = map(int, results.split())
    assert failed == 0
    assert attempted > 5


def test_without_official_data_evaluate_says_so_in_one_line(installation: Installation) -> None:
    answer = installation.run("decathlon", "evaluate", "mnist-mlp")
    assert answer.status == 1
    assert "MNIST" in answer.error


def test_export(run: Run, tmp_path: Path) -> None:
    run("decathlon", "export", "mnist-mlp")
    answer = run("decathlon", "predict", "mnist-mlp", digit(tmp_path), "--onnx", "mnist-mlp.onnx", "--json")
    assert json.loads(answer.out)


def test_the_demo_starts(run: Run) -> None:
    assert run("python", "-c", DEMO).out.split()[-1] == "True"


def test_start_and_grade(run: Run, installation: Installation) -> None:
    run("decathlon", "start", "mnist-mlp")
    answer = installation.run("decathlon", "grade", "net.py", "--data", "sample", "--quick")
    assert answer.status == 1, "net.py is not filled in yet"
    Path("net.py").write_text(NETWORK)
    run("decathlon", "grade", "net.py", "--data", "sample", "--quick")


def test_nothing_was_written_into_the_package(installation: Installation, wheel: Path) -> None:
    """The last test of this file: an installed package may be read-only."""
    (package,) = installation.venv.glob("lib/python*/site-packages/decathlon")
    files = (path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    present = {path.relative_to(package.parent).as_posix() for path in files}
    assert present == {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("decathlon/")}
