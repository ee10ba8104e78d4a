"""A training that is interrupted twice and resumed ends with the same weights and metrics as one that is not."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command
from safetensors.torch import load_file

from decathlon.data.base import parse_source, steps_per_epoch
from decathlon.tasks.base import get_task
from decathlon.training import progress

SLOW = ("mnist-cnn", "cifar10-cnn", "cifar10-skip", "voc-retinanet")  # `make test` has another task of each kind


def interrupt_after(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Have Ctrl-C pressed after each of these steps, once."""
    update, pending = progress.ProgressBar.update, list(steps)

    def press(rows: progress.ProgressBar, state: Any, sums: Any) -> None:
        update(rows, state, sums)
        if pending and state.step == pending[0]:
            pending.pop(0)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(progress.ProgressBar, "update", press)


def check_resume(task_id: str, finished: Path, decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt a training of two epochs in the middle of the first and at its end; `finished` was not interrupted."""
    task = get_task(task_id)
    recipe = task.sample_recipe()
    steps = steps_per_epoch(task.load(parse_source("sample"), recipe).train, recipe.batch_size)
    stops = [max(1, steps // 2), steps]
    interrupt_after(monkeypatch, *stops)
    monkeypatch.setattr("decathlon.training.runner.draw_plots", lambda run, model: None)
    command = ["train", task_id, "--data", "sample", "--epochs", "2", "--out", "parts"]
    for step in stops:
        interrupted = decathlon(*command)
        assert interrupted.status == 1
        assert f"interrupted at step {step}" in interrupted.error
        assert "--resume parts" in interrupted.error
        assert not Path("parts/summary.json").exists()
        command = ["train", task_id, "--resume", "parts"]
    resumed = decathlon(*command)
    assert resumed.status == 0, resumed.err
    first, second = (load_file(folder / "model.safetensors") for folder in (finished, Path("parts")))
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert (finished / "metrics.jsonl").read_text() == Path("parts/metrics.jsonl").read_text()
