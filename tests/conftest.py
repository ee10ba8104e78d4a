"""What the tests share: sample data, a finished run of each task, and the command line called in this process."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from bad_server import Server, serving
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from decathlon.data.base import Data
    from decathlon.tasks.recipe import Recipe

if os.environ.get("DECATHLON_TEST_DEVICE") != "cuda":  # tests/gpu
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # bit-for-bit promises are for the CPU
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in decathlon.__main__
if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported, here and in every subprocess
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # each worker has a core

# How long an example takes depends on what else the machine does.
# The same examples at every run: `make test` must not fail by chance. The soak tests take others.
settings.register_profile("tests", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Answer:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The line that a failed command ends with; asserts that it is one line and no traceback."""
        lines = self.err.strip().splitlines()
        assert lines, self
        assert "Traceback" not in self.err
        assert lines[-1].startswith("decathlon: "), self.err
        return lines[-1]


Command = Callable[..., Answer]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """With DECATHLON_NO_SKIPS, as in CI, a test that is skipped fails: what it needs should be there."""
    report = yield
    if report.skipped and os.environ.get("DECATHLON_NO_SKIPS"):
        report.outcome, report.longrepr = "failed", f"skipped: {report.longrepr[-1]}"
    return report


SAMPLE_RUN_FILES = ("test_tasks.py", "test_export.py")
DEFAULT_TASK = "mnist-mlp"  # the smallest


def worker_group(nodeid: str) -> str:
    """Tests of the same group run in the same worker: those of a task's sample run or a real data set, or of a file."""
    from decathlon.tasks.base import task_ids

    file, _, test = nodeid.partition("::")
    if "real/" in file:
        return next((name for name in ("mnist", "cifar10", "imdb", "pets", "voc") if name in nodeid), "imdb")  # roberta
    if not file.endswith(SAMPLE_RUN_FILES):
        return file
    return next((task_id for task_id in task_ids() if re.search(rf"[\[-]{task_id}]$", test)), DEFAULT_TASK)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return worker_group(nodeid)

    return GroupScheduling(config, log)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs in a folder of its own, and finds no data but what it makes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DECATHLON_DATA", str(cache))
    monkeypatch.setattr(os, "fsync", lambda number: None)  # no test cuts the power: thousands of files need not wait
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


@pytest.fixture
def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings draw nothing: plots are most of the time of a short one."""
    monkeypatch.setattr("decathlon.training.runner.draw_plots", lambda run, model: None)


@pytest.fixture
def server() -> Iterator[Server]:
    """A download server that can be told to misbehave."""
    with serving() as running:
        yield running


@pytest.fixture
def decathlon(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process, as `decathlon …` would."""
    from decathlon.cli.main import run_command

    def call(*args: str | Path) -> Answer:
        capsys.readouterr()
        status = run_command([str(arg) for arg in args])
        return Answer(status, *capsys.readouterr())

    return call


# --- Sample runs ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SampleRun:
    """A finished run of two epochs on the sample data.

    Attributes:
        folder: The run folder; tests must not change it.
        summary: What the command printed.
        splits_read: The splits that were evaluated, in order.
    """

    folder: Path
    summary: dict[str, Any]
    splits_read: list[str]


SAMPLE_RUNS: dict[str, SampleRun] = {}


def without_test_split(data: Data) -> Data:
    return replace(data, test=None)  # type: ignore[arg-type]


@pytest.fixture
def task_id() -> str:
    """The task of a test that is not for every task."""
    return DEFAULT_TASK


@pytest.fixture
def sample_run(
    task_id: str, decathlon: Command, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> SampleRun:
    """The sample run of a task; the first test that needs it trains it."""
    from decathlon.tasks.base import get_task

    if task_id not in SAMPLE_RUNS:
        task, splits_read, folder = get_task(task_id), list[str](), tmp_path_factory.mktemp(task_id) / "run"
        evaluate, plot = task.evaluate, task.plot_validation

        def spy(model: Any, data: Data, split: str, recipe: Recipe) -> dict[str, float]:
            splits_read.append(split)
            return evaluate(model, data if split == "test" else without_test_split(data), split, recipe)

        with monkeypatch.context() as patch:
            patch.setattr(task, "evaluate", spy)
            patch.setattr(
                task, "plot_validation", lambda model, data, *rest: plot(model, without_test_split(data), *rest)
            )
            done = decathlon("train", task_id, "--data", "sample", "--epochs", "2", "--out", folder, "--json")
        assert done.status == 0, done.err
        assert "could not be drawn" not in done.err, "the plots need no test split"
        SAMPLE_RUNS[task_id] = SampleRun(folder, json.loads(done.out), splits_read)
    return SAMPLE_RUNS[task_id]
