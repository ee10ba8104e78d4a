"""Every task on a GPU trains, resumes, evaluates and predicts, in each precision, compiled or not.

`make test-gpu` runs these. With DECATHLON_TEST_DEVICE=cpu the same code is rehearsed without a GPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import Command
from inputs import INPUTS
from lightning_fabric import Fabric
from resuming import interrupt_after

from decathlon.runs.load import load_data, load_run
from decathlon.tasks.base import PRETRAINING, get_task, task_ids
from decathlon.training.loop import measure

DEVICE = os.environ.get("DECATHLON_TEST_DEVICE", "")
ALL_TASKS = [*task_ids(), *PRETRAINING]
STOP_AT = 3  # steps, of the interrupted training
METRIC_TOLERANCE = 0.02  # between a GPU and the CPU in float32: some of a few hundred examples may fall otherwise

pytestmark = [
    pytest.mark.skipif(DEVICE not in ("cpu", "cuda"), reason="these are for a GPU: make test-gpu"),
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="there is no GPU"),
    pytest.mark.filterwarnings("default"),  # other versions of torch and CUDA have warnings of their own
]


def train_in_two_parts(decathlon: Command, monkeypatch: pytest.MonkeyPatch, task_id: str, *flags: str) -> Path:
    """Train two short epochs on the sample, interrupted after `STOP_AT` steps and resumed. Returns the run folder."""
    torch._dynamo.reset()
    interrupt_after(monkeypatch, STOP_AT)
    broken = decathlon("train", task_id, "--data", "sample", "--epochs", "2", "--out", "run", *flags)
    assert broken.status == 1, broken.err
    assert f"interrupted at step {STOP_AT}" in broken.error
    done = decathlon("train", task_id, "--resume", "run", "--debug")
    assert done.status == 0, done.err
    assert "could not be drawn" not in done.err
    return Path("run")


@pytest.mark.parametrize("task_id", ALL_TASKS)
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])  # all eager ones first: they are quick
def test_trains_resumes_evaluates_and_predicts(
    task_id: str,
    precision: str,
    compiled: bool,
    decathlon: Command,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    flags = ("--precision", precision, *(["--compile"] if compiled else []))
    folder = train_in_two_parts(decathlon, monkeypatch, task_id, *flags)
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["device"], summary["epochs"]) == (DEVICE, 2)
    assert 0 <= summary["value"] <= 1

    evaluated = decathlon("evaluate", folder, "--json")
    assert evaluated.status == 0, evaluated.err
    assert json.loads(evaluated.out)["value"] == pytest.approx(summary["value"], abs=METRIC_TOLERANCE)
    if not compiled and precision == "32-true":
        assert metric_on(folder, DEVICE) == pytest.approx(metric_on(folder, "cpu"), abs=METRIC_TOLERANCE)

    if task_id in PRETRAINING:
        assert (folder / "encoder" / "model.safetensors").exists()
        return
    example = INPUTS[get_task(task_id).SPEC.dataset](tmp_path)
    predicted = decathlon("predict", task_id, example, "--run", folder, "--device", DEVICE, "--json")
    assert predicted.status == 0, predicted.err
    (prediction,) = json.loads(predicted.out)
    assert abs(sum(prediction.get("probabilities", {"": 1.0}).values()) - 1) < 1e-3


def metric_on(folder: Path, device: str) -> float:
    """The task's metric on the validation split, computed on this device."""
    run = load_run(folder)
    fabric = Fabric(accelerator=device, devices=1)
    data = load_data(folder, run, None).to(device)
    metrics = measure(run.task, run.model.to(device), data, "validation", run.recipe, fabric)
    return metrics[run.task.SPEC.metric]


@pytest.mark.skipif(torch.cuda.device_count() != 1, reason="for a machine with one GPU")
def test_torchrun_on_one_gpu_ends_at_once() -> None:
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "decathlon")
    command = (*torchrun, "train", "mnist-mlp", "--data", "sample", "--out", "run")
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode
    assert "decathlon: torchrun has started 2 processes on this machine, which has 1 GPU" in ended.stderr
