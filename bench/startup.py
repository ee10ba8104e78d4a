"""What starting costs: CPU seconds of some commands beside those of `import torch` alone, in turn in one run.

    python bench/startup.py [ROUNDS]

Prints the median over the rounds (default 5) and its ratio to `import torch`. Goals: predict at most 1.5, evaluate and
train (up to the plan) at most 2.5.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

GOALS = {"predict": 1.5, "load and predict": 1.5, "evaluate": 2.5, "train --dry-run": 2.5}
PREDICT = "import decathlon; decathlon.load('mnist-cnn').predict(['digit.png'])"


def cpu_seconds(command: list[str]) -> float:
    """User and system seconds of a command. Raises RuntimeError where it fails."""
    process = os.posix_spawn(
        command[0],
        command,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_WRONLY, 0) for stream in (1, 2)],
    )
    _, status, usage = os.wait4(process, 0)
    if status:
        raise RuntimeError(f"{' '.join(command)} failed: status {os.waitstatus_to_exitcode(status)}")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure, and print a table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    python, module = [sys.executable, "-c"], [sys.executable, "-m", "decathlon"]
    commands = {
        "import torch": [*python, "import torch"],
        "import decathlon": [*python, "import decathlon"],
        "--help": [*module, "--help"],
        "predict": [*module, "predict", "mnist-cnn", "digit.png"],
        "load and predict": [*python, PREDICT],
        "evaluate": [*module, "evaluate", "run"],
        "train --dry-run": [*module, "train", "mnist-mlp", "--data", "sample", "--dry-run"],
    }
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DECATHLON_DATA"] = folder
        os.chdir(folder)
        pixels = np.zeros((28, 28), np.uint8)
        pixels[4:24, 13:15] = 255
        Image.fromarray(pixels).save(Path("digit.png"))
        cpu_seconds(
            [*module, "train", "mnist-mlp", "--data", "sample", "--epochs", "1", "--hidden", "8", "--out", "run"]
        )
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                seconds[name].append(cpu_seconds(command))
        base = statistics.median(seconds["import torch"])
        print(f"{'command':18} {'CPU seconds':>12} {'ratio':>7} {'goal':>6}")
        for name, values in seconds.items():
            median = statistics.median(values)
            goal = f"{GOALS[name]:.1f}" if name in GOALS else ""
            print(f"{name:18} {median:12.2f} {median / base:7.2f} {goal:>6}")
        os.chdir("/")


if __name__ == "__main__":
    main()
