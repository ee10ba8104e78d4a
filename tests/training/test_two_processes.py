"""Several processes learn as one does, and end together. All tasks, hosts, and more ways to die: tests/soak."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from conftest import Command
from safetensors.torch import load_file
from several import PLAIN, lines, misbehaving
from torch.multiprocessing import ProcessRaisedException

from decathlon.errors import UsageError
from decathlon.models.mlp import MLP
from decathlon.models.textcnn import TextCNN
from decathlon.tasks.base import get_task
from decathlon.training import distributed, runner


def test_two_processes_learn_as_one(decathlon: Command) -> None:
    """Each has half of every batch: the same losses, metrics and weights up to the order of float32 sums."""
    assert decathlon(*PLAIN, "--out", "one").status == 0
    two = decathlon(*PLAIN, "--out", "two", "--devices", "2", "--json")
    assert two.status == 0, two.err
    assert json.loads(two.out)["devices"] == 2
    for first, second in zip(lines("one"), lines("two"), strict=True):
        assert second["train"]["loss"] == pytest.approx(first["train"]["loss"], rel=1e-6)
        assert second["validation"] == pytest.approx(first["validation"], rel=1e-5)
    weights = [load_file(Path(run, "model.safetensors")) for run in ("one", "two")]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-5, atol=1e-6)
    alone = json.loads(decathlon("evaluate", "two", "--json").out)
    assert alone["metrics"] == json.loads(two.out)["metrics"], "one process counts the same examples"


def test_json_stands_alone_beside_what_the_network_of_each_process_prints() -> None:
    Path("net.py").write_text(
        "from torch import nn\n\n\ndef net():\n    print('built')\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
    )
    command = (*PLAIN, "--epochs", "1", "--devices", "2", "--model", "net.py:net", "--out", "run", "--json")
    done = subprocess.run([sys.executable, "-m", "decathlon", *command], capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["devices"] == 2, done.stderr
    assert done.stderr.count("built") >= 2


def test_a_detector_is_measured_by_one_process(decathlon: Command) -> None:
    """torchmetrics, left to itself, waits for the process that waits for it: ten minutes, and the run was lost."""
    small = ("--epochs", "1", "--batch-size", "40", "--channels", "4", "4", "8", "8", "--min-size", "64")
    done = decathlon("train", "voc-retinanet", "--data", "sample", "--devices", "2", "--out", "run", "--json", *small)
    assert done.status == 0, done.err
    alone = json.loads(decathlon("evaluate", "run", "--json").out)
    assert json.loads(done.out)["metrics"]["map"] == pytest.approx(alone["metrics"]["map"], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(("how", "rank", "says"), [("kill", 1, "process 1 of 2 was killed (SIGKILL)")])
def test_a_process_that_dies_ends_the_run(how: str, rank: int, says: str) -> None:
    outcome = misbehaving(how, rank, limit=60)
    assert outcome.returncode == 1
    assert outcome.stderr.strip().splitlines()[-1] == f"decathlon: {says}"
    assert "Traceback" not in outcome.stderr
    assert list(Path("run/checkpoint").glob("step-*.json")), "the checkpoint of the first epoch stays"
    assert not Path("run/summary.json").exists()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("train", "mnist-mlp", "--devices", "2", "--strategy", "fsdp"), "fsdp is for pre-training"),
        (("train", "roberta-mlm", "--strategy", "fsdp"), "--devices must be 2 or more"),
        (("train", "roberta-mlm", "--strategy", "fsdp", "--devices", "2", "--ema", "0.9"), "--ema must be 0"),
        (
            (
                *("train", "roberta-mlm", "--strategy", "fsdp", "--devices", "2", "--optimizer.name", "muon"),
                *("--optimizer.weight-decay", "0"),
            ),
            "--optimizer.name must be adamw or sgd",
        ),
        (("train", "mnist-mlp", "--devices", "65"), "--devices must be from 1 to the batch size, 64"),
        (("train", "mnist-mlp", "--devices", "1000", "--batch-size", "1000"), "--devices must be at most"),
    ],
)
def test_unsupported_options_are_reported_at_once(command: tuple[str, ...], says: str, decathlon: Command) -> None:
    answer = decathlon(*command, "--data", "sample")
    assert answer.status == 2
    assert says in answer.error


def test_torchrun_decides_how_many(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    answer = decathlon("train", "mnist-mlp", "--data", "sample", "--devices", "2")
    assert answer.status == 2
    assert "torchrun has started 4 processes" in answer.error
    assert distributed.get_world_size(2, resuming=True) == 4, "a run that began with other processes goes on with these"


def test_gpus_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with GPUs a process has one, however many cores there are."""
    recipe = get_task("mnist-mlp").recipe()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    distributed.check_options("ddp", 2, recipe, pretraining=False, resuming=False)
    for resuming in (False, True):
        with pytest.raises(UsageError, match="--devices must be at most 2, the GPUs of this machine"):
            distributed.check_options("ddp", 3, recipe, pretraining=False, resuming=resuming)


def test_a_run_goes_on_with_the_gpus_there_are(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert decathlon("train", "mnist-mlp", "--data", "sample", "--epochs", "1", "--out", "run").status == 0
    config = json.loads(Path("run/config.json").read_text())
    config["options"]["devices"] = 4
    Path("run/config.json").write_text(json.dumps(config))
    for gpus, devices in ((0, 4), (2, 2), (8, 4)):
        monkeypatch.setattr(torch.cuda, "device_count", lambda gpus=gpus: gpus)
        assert runner.read_resumed_run(get_task("mnist-mlp"), runner.RunOptions(resume="run"))[2].devices == devices


def test_sparse_gradients_are_refused_on_several_gpus() -> None:
    network, fabric = TextCNN(9), SimpleNamespace(world_size=2, device=torch.device("cuda"))
    with pytest.raises(UsageError, match="--devices must be 1: NCCL does not support sparse gradients"):
        distributed.check_gradients(network, cast(Any, fabric))
    distributed.check_gradients(MLP(8), cast(Any, fabric))
    distributed.check_gradients(network, cast(Any, SimpleNamespace(world_size=2, device=torch.device("cpu"))))


def test_an_error_in_all_processes_is_reported_once(decathlon: Command) -> None:
    answer = decathlon(*PLAIN, "--out", "run", "--devices", "2", "--data-dir", "/proc/nowhere")
    assert answer.status == 1
    assert answer.err.count("decathlon: ") == 1
    assert answer.error.startswith("decathlon: process ")


@pytest.mark.parametrize("kind", [FileNotFoundError, ConnectionError, ValueError, FloatingPointError, RuntimeError])
def test_the_error_of_a_worker_has_the_documented_type(kind: type[Exception], tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text(json.dumps({"type": kind.__name__, "message": "no such data"}))
    failed = ProcessRaisedException("", error_index=1, error_pid=7)
    error = distributed._worker_error(failed, str(tmp_path), 2, signalled=False)
    assert isinstance(error, kind)
    assert str(error) == f"process 1 of 2 failed: {kind.__name__}: no such data"


def test_two_processes_on_one_gpu_are_refused(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `--devices`, and by torchrun, whose workers see the same single GPU."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    refused = decathlon("train", "mnist-mlp", "--data", "sample", "--devices", "2", "--out", "run")
    assert refused.status == 2
    assert "--devices must be at most 1, the GPUs of this machine" in refused.error
    for name, value in {"RANK": 1, "LOCAL_RANK": 1, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    refused = decathlon("train", "mnist-mlp", "--data", "sample", "--out", "run")
    assert refused.status == 2
    assert "torchrun has started 2 processes on this machine, which has 1 GPU" in refused.error
    assert not Path("run").exists()
