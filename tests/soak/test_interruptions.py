"""Trainings killed at random moments and amid the writing of checkpoints go on to the weights of one nobody killed.

docs/reliability/interruptions.md tells what came of it. `-s` shows where the kills hit.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import tiny
from killing import Outcome, attempt

RANDOM, WRITING, REAL = 30, 20, 5  # kills a task: at any moment, amid checkpoints, of the real command line
AGAIN = 0.2  # the part of the resumed runs that is killed once more
KEPT = ("value", "metrics", "epochs", "steps", "seconds_to_bar")  # of the summary: the rest is time and memory

pytestmark = pytest.mark.parametrize("task_id", tiny.TASKS)


def command(task_id: str, folder: Path) -> list[str]:
    return ["train", task_id, "--data", task_id, *tiny.TASKS[task_id][1].split(), "--out", str(folder)]


def run(task_id: str, folder: Path, **kill: float | bool | None) -> Outcome:
    """Train, or go on where there is something to go on with."""
    resumed = (folder / "config.json").exists()
    argv = ["train", task_id, "--resume", str(folder)] if resumed else command(task_id, folder)
    return attempt(tiny.without_plots, argv, folder=folder, **kill)  # type: ignore[arg-type]


def result(folder: Path) -> tuple[bytes, bytes, str]:
    summary = json.loads((folder / "summary.json").read_text())
    weights, metrics = ((folder / name).read_bytes() for name in ("model.safetensors", "metrics.jsonl"))
    return weights, metrics, json.dumps([summary[name] for name in KEPT])


def where(folder: Path) -> str:
    """How far a killed run had come."""
    if not (folder / "config.json").exists():
        return "before the run had begun"
    if list(folder.glob("checkpoint/*.part")):
        return "amid a checkpoint"
    if (folder / "model.safetensors").exists():
        return "after the training"
    return "after a checkpoint" if list(folder.glob("checkpoint/*.json")) else "before the first checkpoint"


@pytest.fixture
def whole(task_id: str, tmp_path: Path) -> tuple[tuple[bytes, bytes, str], Outcome]:
    """What a run that nobody killed gives; made twice, since the first fills the caches."""
    tiny.TASKS[task_id][0](Path(task_id))
    done = [run(task_id, tmp_path / name) for name in ("first", "whole")]
    assert [one.value for one in done] == [0, 0], done[0].output
    first, second = (result(tmp_path / name) for name in ("first", "whole"))
    assert first == second, "same seed, same result"
    return second, done[1]


def test_killed_trainings_go_on(task_id: str, whole: tuple[tuple[bytes, bytes, str], Outcome], tmp_path: Path) -> None:
    expected, reference = whole
    draw, hits = random.Random(task_id), Counter[str]()
    writing = [n for n, name in enumerate(reference.operations) if " checkpoint/" in name]
    plans: list[dict[str, float | bool | None]] = [
        {"before": number, "torn": draw.random() < 0.5} for number in draw.sample(writing, WRITING)
    ]
    kills = second = 0
    while kills < RANDOM + WRITING:
        plan = plans[kills] if kills < len(plans) else {"after": draw.uniform(0, reference.seconds)}
        folder = tmp_path / f"run{kills}"
        killed = run(task_id, folder, **plan)
        if killed.killed:
            hits[where(folder)] += 1
            if draw.random() < AGAIN:
                second += run(task_id, folder, after=draw.uniform(0, reference.seconds)).killed
            done = run(task_id, folder)
            assert done.value == 0, (plan, done.output)
            kills += 1
        else:
            assert killed.value == 0, (plan, killed.output)
        assert result(folder) == expected, plan
        assert not list(folder.glob("checkpoint/*.part")), plan
        assert len(list(folder.glob("checkpoint/*"))) <= 4, plan
        folder.rename(tmp_path / f"done{kills}-{time.monotonic_ns()}")
    report = f"{kills} kills in forked processes: {dict(hits)}; {second} were killed again while they went on"
    print(f"\n{task_id}: {report}; all came to the same bytes")


def test_killed_commands_go_on(task_id: str, whole: tuple[tuple[bytes, bytes, str], Outcome], tmp_path: Path) -> None:
    """The same by the real command line, plots and all."""
    expected, reference = whole
    draw, hits = random.Random(task_id), Counter[str]()
    python, most = [sys.executable, "-m", "decathlon"], 1.5 * reference.seconds
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    kills = 0
    while kills < REAL:
        folder = tmp_path / f"run{kills}"
        with subprocess.Popen([*python, *command(task_id, folder)], env=environment, stderr=subprocess.PIPE) as running:
            while not (folder / "config.json").exists():
                assert running.poll() is None
                time.sleep(0.01)
            time.sleep(draw.uniform(0, most))
            running.kill()
        if running.returncode == 0:  # it was done before
            most *= 0.7
            folder.rename(tmp_path / f"early{time.monotonic_ns()}")
            continue
        hits[where(folder)] += 1
        resume = [*python, "train", task_id, "--resume", str(folder)]
        done = subprocess.run(resume, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert result(folder) == expected
        kills += 1
    print(f"\n{task_id}: {kills} kills of the command line: {dict(hits)}; all came to the same bytes")
