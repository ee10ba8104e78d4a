"""The run folder: everything a training leaves behind, each file written in one step.

config.json        task, recipe, data source and what prediction must know of the data
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
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from decathlon import writing
from decathlon.data import files
from decathlon.recipe import UsageError

UNFINISHED = "the training did not finish; continue it: --resume"
PACKAGES = (
    *("decathlon", "torch", "torchvision", "lightning-fabric", "torchmetrics", "scikit-learn", "numpy"),
    *("faster-coco-eval", "gensim", "transformers", "tokenizers"),
)


def new_folder(task_id: str, seed: int, out: str | None) -> Path:
    """Make the folder of a new run: `out` itself, or runs/<task>/<time>-seed<N>.

    Raises:
        UsageError: `out` holds a run already.
        OSError: It cannot be made or written to.
    """
    folder = Path(out) if out else Path("runs", task_id, f"{time.strftime('%Y%m%d-%H%M%S')}-seed{seed}")
    if (folder / "config.json").exists():
        raise UsageError(f"{folder} holds a run already; choose another --out, or go on with it: --resume {folder}")
    name, number = folder.name, 1
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=bool(out))
            break
        except FileExistsError:
            if out:
                raise FileExistsError(f"{folder} is a file, not a folder") from None
            number += 1
            folder = folder.with_name(f"{name}-{number}")
    with writing.told(folder), writing.scratch(folder / "probe") as part:
        part.write_bytes(bytes(1 << 16))  # finds an unwritable or full disk before any work
    return folder


def write_text(path: Path, text: str) -> Path:
    """Write beside and move into place, so that the file is never half there."""
    with writing.beside(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, value: Any) -> None:
    """Write JSON in one step."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is something else.
    """
    try:
        value = files.from_json(files.text(path))
    except FileNotFoundError:
        if path.name == "summary.json" and (path.parent / "config.json").exists():
            raise FileNotFoundError(f"{path.parent} has no {path.name}: {UNFINISHED}") from None
        raise FileNotFoundError(f"{path.parent} is no run folder: it has no {path.name}") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {str(error).removeprefix(f'{path} ')}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} is damaged: it holds no object")
    return value


def append_line(path: Path, value: dict[str, Any]) -> None:
    """Add a line to a .jsonl file, on the disk before this returns: a later checkpoint counts on it."""
    with writing.told(path), path.open("a") as file:
        file.write(json.dumps(value) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a .jsonl file; none where there is no file. Raises ValueError where one is no object."""
    try:
        found = [files.from_json(line) for line in files.text(path).splitlines()] if path.exists() else []
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {str(error).removeprefix(f'{path} ')}") from None
    if not all(isinstance(line, dict) for line in found):
        raise ValueError(f"{path} is damaged: a line of it holds no object")
    return found


def keep_lines(path: Path, count: int) -> None:
    """Drop what a .jsonl file holds beyond its first `count` lines: it was written after the checkpoint."""
    if path.exists():
        write_text(path, "".join(files.text(path).splitlines(keepends=True)[:count]))


def peak_memory(device: torch.device) -> int:
    """The most memory this process has had, MiB: of the GPU where it works on one."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) // 2**20
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most // (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes, Linux KiB


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, commit and hardware."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "versions": {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in PACKAGES},
        "commit": commit(),
        "device": device.type,
        "hardware": name,
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor() or platform.machine()


def commit() -> str | None:
    """The commit the code is at, with + where it was changed since; None outside a checkout."""
    try:
        _git("ls-files", "--error-unmatch", "run.py")  # fails where the repository around us is another project's
        return _git("describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*words: str) -> str:
    command = ["git", "-C", str(Path(__file__).resolve().parent), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def save_weights(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors as safetensors, beside and moved into place. Tied weights are written twice."""
    # Not by save_file: it has a temporary file of its own in the folder, which a kill leaves there for ever.
    content = save({name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()})
    with writing.beside(path) as part:
        part.write_bytes(content)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors; nothing in the file is run.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is damaged.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path.parent} has no {path.name}: {UNFINISHED}")
    try:
        return load_file(files.plain(path))
    except Exception as error:  # a damaged header, a type that torch lacks: each in its own way
        raise ValueError(f"{path} is damaged: {' '.join(str(error).split()) or type(error).__name__}") from None
