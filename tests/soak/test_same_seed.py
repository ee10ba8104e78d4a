"""Same seed, same result: two trainings of every task, in processes of their own, that share nothing but the seed.

Each process has its own data folder, so that sample data, vocabularies, embeddings and decoded images are made anew,
and its own PYTHONHASHSEED, so that sets are iterated in another order. Within one process tests/tasks/test_tasks.py
compares a run with an interrupted one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from decathlon.tasks.base import task_ids

SCRIPT = """
import sys
from decathlon.cli.main import run_command
for task in sys.argv[2:]:
    status = run_command(["train", task, "--data", "sample", "--epochs", "1", "--out", f"{sys.argv[1]}/{task}"])
    assert status == 0, task
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "other")]
    for number, folder in enumerate(folders):
        own = {"PYTHONHASHSEED": str(number + 1), "DECATHLON_DATA": str(folder / "data")}
        command = [sys.executable, "-c", SCRIPT, str(folder), *task_ids()]
        done = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folders


@pytest.mark.parametrize("task_id", task_ids())
def test_same_seed_same_result(task_id: str, runs: list[Path]) -> None:
    left, right = (folder / task_id for folder in runs)
    for name in ("metrics.jsonl", "model.safetensors"):
        assert (left / name).read_bytes() == (right / name).read_bytes(), name
    first, second = (json.loads((folder / "summary.json").read_text()) for folder in (left, right))
    for name in ("value", "metrics", "steps", "parameters", "encoder"):
        assert first[name] == second[name]
