"""What tests of several processes share."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from conftest import ROOT

# No distortion, no average, steps in proportion to the gradient: two processes do the same sums in another order.
PLAIN = (
    *("train", "mnist-mlp", "--data", "sample", "--hidden", "64", "--epochs", "2", "--ema", "0"),
    *("--rotation", "0", "--scale", "0", "--shear", "0", "--shift", "0", "--elastic", "0"),
    *("--optimizer.name", "sgd", "--optimizer.lr", "0.1"),
)


def lines(run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]


def misbehaving(how: str, rank: int, limit: float) -> subprocess.CompletedProcess[str]:
    """Train with two processes of which one misbehaves; `limit` seconds from the first checkpoint on are allowed."""
    train = ("train", "mnist-mlp", "--data", "sample", "--hidden", "64", "--epochs", "500", "--devices", "2")
    command = [sys.executable, str(ROOT / "tests/support/misbehave.py"), how, str(rank), *train, "--out", "run"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        start = time.monotonic()
        while how != "alone" and not list(Path("run").glob("checkpoint/step-*.json")):
            assert running.poll() is None, running.communicate()[1]
            assert time.monotonic() - start < 300, "it does not train"
            time.sleep(0.05)
        start = time.monotonic()
        try:
            out, err = running.communicate(timeout=limit)
        finally:
            running.kill()
    since = "its start" if how == "alone" else "the first checkpoint, nine steps before it misbehaved"
    print(f"{how} {rank}: ended {time.monotonic() - start:.1f} s after {since}")
    return subprocess.CompletedProcess(command, running.returncode, out, err)
