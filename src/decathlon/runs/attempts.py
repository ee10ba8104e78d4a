"""The attempts of `decathlon grade`: a folder each, with a copy of the user's file and what the check said.

runs/<task>/attempts/<time>/net.py         the file as it was
runs/<task>/attempts/<time>/attempt.json   the stages and the result; written last
runs/<task>/attempts/<time>/run-seed<N>/   the run folder of the whole training
runs/<task>/attempts/reference.json        what the reference network does in the trials
runs/<task>/attempts/reference-<data>-…/   run folder of the reference network, where it was trained here
"""

from __future__ import annotations

import difflib
import re
import shutil
import time
from pathlib import Path
from typing import Any

from decathlon.data.io import atomic, files
from decathlon.runs.folder import read_json

RESULT = "attempt.json"
NAME = re.compile(r"(\d{8}-\d{6})(?:-(\d+))?")  # of an attempt's folder: its time, and its number within the second


def attempts_folder(out: str, task_id: str) -> Path:
    """Where the attempts at a task are kept, below the folder of all runs."""
    return Path(out, task_id, "attempts")


def new_attempt(folder: Path, file: Path) -> Path:
    """Make the folder of an attempt, with a copy of the file."""
    name, number = time.strftime("%Y%m%d-%H%M%S"), 1
    while (path := folder / (name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    path.mkdir(parents=True)
    shutil.copyfile(file, path / "net.py")
    return path


def write_attempt(path: Path, result: dict[str, Any]) -> None:
    """Write the result of an attempt."""
    atomic.write_json(path / RESULT, result)


def list_attempts(folder: Path) -> list[dict[str, Any]]:
    """All attempts in their order: the content of attempt.json, `number`, `folder`, and `diff` to the one before.

    An attempt that was interrupted has no stages. `diff` is a unified diff of the files, empty where nothing changed.

    Raises:
        ValueError: A file is damaged.
    """
    rows, before = list[dict[str, Any]](), list[str]()
    files_by_order = {
        _order(match): path for path in folder.glob("*/net.py") if (match := NAME.fullmatch(path.parent.name))
    }
    for _, path in sorted(files_by_order.items()):
        lines = files.read_bytes(path).decode(errors="replace").splitlines()  # Python reads other encodings, too
        result = read_json(path.parent / RESULT) if (path.parent / RESULT).exists() else {"stages": []}
        diff = list(difflib.unified_diff(before, lines, "before", "after", n=1, lineterm="")) if rows else []
        rows.append({"number": len(rows) + 1, **result, "folder": str(path.parent), "diff": diff[2:]})
        before = lines
    return rows


def _order(name: re.Match[str]) -> tuple[str, int]:
    return name[1], int(name[2] or 1)
