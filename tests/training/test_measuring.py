"""Metrics in float32, the training time without compilation, and the peak memory of the training alone."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from typing import Any

import pytest
import torch
from conftest import Command
from torch import nn

from decathlon.training import progress
from decathlon.training.checkpoint import State
from decathlon.training.memory import PROCESS, MemoryMeter

CPU = torch.device("cpu")


class FakeTime:
    """A time that only stands where it is put."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(progress, "time", fake)
    return fake


def test_compilation_does_not_count_whatever_the_shape(fake_time: FakeTime) -> None:
    """Low-resolution epochs and texts of many lengths make torch.compile work again, long after the first step."""
    torch._dynamo.reset()
    compiled = list[int]()

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        compiled.append(len(inputs))
        fake_time.now += 100
        return graph.forward

    state = State()
    clock, network = progress.Clock(state, CPU, True), torch.compile(nn.Linear(4, 4), backend=backend, dynamic=False)
    clock.start()
    for rows in (2, 2, 3, 3):
        network(torch.ones(rows, 4))
        fake_time.now += 1
        clock.skip_compilation()
    clock.stop()
    assert len(compiled) == 2
    assert state.train_seconds == 2, "the steps without a compilation count"
    network(torch.ones(5, 4))  # as in an evaluation, while the clock stands
    clock.skip_compilation()
    assert len(compiled) == 3
    assert state.train_seconds == 2


def test_clock_goes_on_from_a_checkpoint(fake_time: FakeTime) -> None:
    state = State(train_seconds=10.0)
    clock = progress.Clock(state, CPU, False)
    fake_time.now = 5.0
    clock.start()
    fake_time.now = 7.0
    clock.skip_compilation()
    clock.stop()
    fake_time.now = 9.0
    clock.stop()
    assert state.train_seconds == 12


@pytest.mark.skipif(not (PROCESS / "clear_refs").exists(), reason="only Linux tells the peak of a part of a process")
def test_memory_counts_from_the_start_of_the_training() -> None:
    loading = torch.ones(256 << 18)  # 256 MiB
    del loading
    meter = MemoryMeter(CPU)
    assert meter.peak_mib() in range(8)
    training = torch.ones(64 << 18)  # 64 MiB
    del training
    assert meter.peak_mib() in range(60, 80)


FAULTS = """
import resource, sys, torch
from decathlon.training.memory import keep_freed_memory

def faults(tensors):  # pages that the system zeroed
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(tensors):
        torch.ones(8 << 18)  # 8 MiB, 2,048 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults(20)
keep_freed_memory()
faults(1)
print(before, faults(20))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_freed_memory_is_kept() -> None:
    """In a process of its own, since it cannot be taken back."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before >= 20  # at least one for each tensor, where pages are huge
    assert after < before / 4


@pytest.mark.usefixtures("without_plots")
def test_a_run_in_bfloat16_is_measured_in_float32(decathlon: Command) -> None:
    """So `evaluate` repeats its metrics to the last digit, on another processor as well."""
    command = ("train", "mnist-mlp", "--data", "sample", "--precision", "bf16-mixed", "--epochs", "1")
    done = decathlon(*command, "--out", "run", "--json")
    assert done.status == 0, done.err
    summary = json.loads(done.out)
    assert summary["overrides"]["precision"] == "bf16-mixed"
    assert json.loads(decathlon("evaluate", "run", "--json").out)["metrics"] == summary["metrics"]
