"""The run folder: everything a training leaves behind, each file written in one step.

config.json        task, recipe, options, and data info
environment.json   versions, commit, hardware, threads
metrics.jsonl      a line an epoch: training and validation metrics (no times: same seed, same file)
timing.jsonl       a line an epoch: seconds
checkpoint/        the last two checkpoints, for resuming
model.safetensors  final weights
model.py           the user's own network, with `--model`
plots/, report.html, and summary.json, which is written last
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import time
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from decathlon.data.io import atomic, files
from decathlon.errors import UsageError

UNFINISHED = "the training did not finish; continue it: --resume"
PACKAGES = (
    *("decathlon", "torch", "torchvision", "lightning-fabric", "torchmetrics", "scikit-learn", "numpy", "timm"),
    *("faster-coco-eval", "gensim", "transformers", "tokenizers"),
)


def new_folder(task_id: str, seed: int, out: str | None, network_file: str | None = None) -> Path:
    """Make the folder of a new run: `out` itself, or runs/<task>/<time>-seed<N>.

    Raises:
        UsageError: `out` holds a run already.
        OSError: It cannot be made or written to.
    """
    folder = Path(out) if out else Path("runs", task_id, f"{time.strftime('%Y%m%d-%H%M%S')}-seed{seed}")
    check_free(folder, network_file)
    name, number = folder.name, 1
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=bool(out))
            break
        except FileExistsError:
            number += 1
            folder = folder.with_name(f"{name}-{number}")
    with atomic.naming_errors(folder), atomic.temporary_path(folder / "probe") as part:
        part.write_bytes(bytes(1 << 16))  # detects an unwritable or full disk before any work
    return folder


def check_free(folder: Path, network_file: str | None = None) -> None:
    """Raise UsageError where `folder` holds a run, or files that a run would replace; FileExistsError for a file.

    Args:
        folder: Of the new run.
        network_file: The user's own network, which is copied to model.py.
    """
    if (folder / "config.json").exists():
        raise UsageError(
            f"{folder} holds a run already; choose another --out, or continue it: --resume {quote(str(folder))}"
        )
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file, not a folder")
    others = [name for name in ("report.html", "summary.json") if (folder / name).exists()]
    kept, network = folder / "model.py", Path(network_file or "")
    if kept.is_file() and network.is_file() and kept.read_bytes() != network.read_bytes():
        others.append(kept.name)
    if others:
        raise UsageError(f"{folder} holds another {others[0]}: choose another --out")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is damaged, or no object.
    """
    try:
        return files.read_json(path)
    except FileNotFoundError:
        if path.name == "summary.json" and (path.parent / "config.json").exists():
            raise FileNotFoundError(f"{path.parent} has no {path.name}: {UNFINISHED}") from None
        raise FileNotFoundError(f"{path.parent} is no run folder: it has no {path.name}") from None


def append_line(path: Path, value: dict[str, Any]) -> None:
    """Append a line to a .jsonl file and flush it to the disk, since the next checkpoint relies on it."""
    with atomic.naming_errors(path), path.open("a") as file:
        file.write(json.dumps(value) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects in the lines of a .jsonl file; none without a file. Raises ValueError where it is damaged."""
    try:
        lines = [files.parse_json(line) for line in files.read_text(path).splitlines()] if path.exists() else []
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {str(error).removeprefix(f'{path} ')}") from None
    if not all(isinstance(line, dict) for line in lines):
        raise ValueError(f"{path} is damaged: a line of it holds no object")
    return lines


def keep_lines(path: Path, count: int) -> None:
    """Delete all but the first `count` lines of a .jsonl file: later ones were written after the checkpoint."""
    if path.exists():
        atomic.write_text(path, "".join(files.read_text(path).splitlines(keepends=True)[:count]))


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, commit and hardware."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "versions": {"python": platform.python_version()} | {p: v for p in PACKAGES if (v := _version(p))},
        "commit": commit(),
        "device": device.type,
        "hardware": name,
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
    }


def _version(package: str) -> str | None:
    """None where it is not installed: no task needs all, and a checkout on PYTHONPATH is not installed itself."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """Model, cores and vector instructions: the latter change the speed several times, and one name may have either."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = f"{names[0]}, {len(names)} cores" if names else platform.processor() or platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def commit() -> str | None:
    """The commit of the code, with + where it was changed since; None outside a checkout."""
    try:
        _git("ls-files", "--error-unmatch", "folder.py")  # fails inside another project's repository
        return _git("describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).resolve().parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors from a safetensors file.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is damaged.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path.parent} has no {path.name}: {UNFINISHED}")
    try:
        return load_file(files.check_file(path))
    except Exception as error:  # of many types: a damaged header, a dtype that torch lacks, …
        raise ValueError(f"{path} is damaged: {' '.join(str(error).split()) or type(error).__name__}") from None
