"""The whole sample recipe of every task, as `make run` trains it; `make test` trains two epochs."""

from __future__ import annotations

import json

import pytest
import resuming
from conftest import Command, SampleRun

from decathlon.tasks.base import task_ids

MIN_MAP = 0.4  # of the detectors, whose tasks have no bar; 0.52 and 0.55 were measured


@pytest.mark.parametrize("task_id", task_ids())
def test_the_sample_recipe_reaches_the_bar(task_id: str, decathlon: Command) -> None:
    done = decathlon("train", task_id, "--data", "sample", "--out", "run", "--json")
    assert done.status == 0, done.err
    summary = json.loads(done.out)
    assert summary["value"] > (summary["bar"] or MIN_MAP)
    assert summary["violations"] == []
    if task_id == "pets-unet":
        assert summary["metrics"]["iou_per_image"] > 0.8


@pytest.mark.parametrize("task_id", resuming.SLOW)
def test_resumes_bit_for_bit(
    task_id: str, sample_run: SampleRun, decathlon: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    resuming.check_resume(task_id, sample_run.folder, decathlon, monkeypatch)
