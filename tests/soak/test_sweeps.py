"""The examples that spread runs over machines, on this one. `make test-soak`; Ray is in the extra `sweep`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from conftest import ROOT, Command

QUICK = ("--epochs", "1", "--hidden", "32")


def test_a_sweep_by_ray(decathlon: Command) -> None:
    """Two seeds at two rates: four runs, two rows. A second call trains nothing."""
    sweep = [sys.executable, str(ROOT / "examples/sweep_ray.py"), "mnist-mlp", "--data", "sample"]
    sweep += ["--seeds", "0", "1", "--rates", "0.003", "0.01", "--cpus", "2", "--out", "sweep", "--", *QUICK]
    start = time.monotonic()
    done = subprocess.run(sweep, capture_output=True, text=True, check=False, timeout=600)
    print(f"four runs by Ray: {time.monotonic() - start:.0f} s\n{done.stdout}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": done") == 4
    rows = json.loads(decathlon("scoreboard", "--results", "sweep/results", "--json").out)
    assert [row["n"] for row in rows] == [2, 2]
    assert "optimizer.lr 0.01" in " ".join(row["changes"] for row in rows)
    before = {path: path.stat().st_mtime_ns for path in Path("sweep/runs").rglob("*")}
    again = subprocess.run(sweep, capture_output=True, text=True, check=False, timeout=600)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in Path("sweep/runs").rglob("*")} == before


def test_a_sweep_says_what_failed() -> None:
    sweep = [sys.executable, str(ROOT / "examples/sweep_ray.py"), "mnist-mlp", "--data", "sample", "--cpus", "2"]
    sweep += ["--seeds", "0", "--rates", "0.01", "--out", "sweep", "--", "--epochs", "0"]
    done = subprocess.run(sweep, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 1
    assert "mnist-mlp-lr0.01-seed0: decathlon: --epochs must be at least 1" in done.stdout


def array(number: int, **more: str) -> subprocess.Popen[str]:
    """The job of a SLURM array with this number, run by bash with the variables that SLURM sets."""
    environment: dict[str, Any] = {"SLURM_ARRAY_TASK_ID": str(number), "SLURM_JOB_ID": "7", "SLURM_NTASKS": "1"}
    environment |= {"SLURM_JOB_NAME": "decathlon-seeds", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
    environment |= {"TASK": "mnist-mlp", "OUT": "seeds", "PYTHON": sys.executable} | more
    job = ["bash", str(ROOT / "examples/seeds.slurm")]
    return subprocess.Popen(
        job, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_seeds_by_a_slurm_array(decathlon: Command) -> None:
    """Two jobs of an array make one row; one that SLURM cuts short and queues again goes on where it was."""
    flags = "--data sample --epochs 40 --hidden 32"
    first, second = array(0, FLAGS=flags), array(1, FLAGS=flags)
    while not list(Path("seeds/runs").glob("mnist-mlp-seed1/checkpoint/step-*.json")):
        assert second.poll() is None, second.communicate()
        time.sleep(0.05)
    second.send_signal(signal.SIGTERM)
    err = second.communicate(timeout=120)[1]
    assert second.returncode != 0
    assert "interrupted at step" in err
    assert first.communicate(timeout=300)[1]
    assert first.returncode == 0
    third = array(1, FLAGS=flags, SLURM_RESTART_COUNT="1")
    err = third.communicate(timeout=300)[1]
    assert third.returncode == 0, err
    (row,) = json.loads(decathlon("scoreboard", "--results", "seeds/results", "--json").out)
    assert row["n"] == 2
