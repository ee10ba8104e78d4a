"""A hash of the code that a task's numbers depend on: recipe, network, data, augmentation, training, evaluation."""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

from decathlon.tasks import base

PACKAGE = Path(__file__).resolve().parents[1]
ROOMS = ("tasks", "models", "data", "data.io", "data.transforms", "evaluation")
TRAINING = ("training.loop", "training.optim", "training.prepare")  # no task imports these
# No measured value passes through these: they check, draw, predict for users, export, or read users' own files.
WITHOUT_INFLUENCE = frozenset(
    (
        *(
            "tasks.base",
            "data.read_options",
            "data.recognize",
            "evaluation.architecture",
            "evaluation.attributions",
            "evaluation.detection_onnx",
        ),
        *("evaluation.detection_plots", "evaluation.mask_images", "evaluation.onnx_graph"),
        *("evaluation.plots", "evaluation.prediction_plots", "evaluation.predictions", "evaluation.text"),
        *("data.io.archives", "data.io.atomic", "data.io.cache", "data.io.console", "data.io.digit_image"),
        *("data.io.download", "data.io.files", "data.io.listing", "data.io.own_boxes", "data.io.own_coco"),
        *("data.io.own_masks", "data.io.text_tables", "data.io.yolo"),
    )
)
HASH_LENGTH = 12


def code_hash(task_id: str) -> str:
    """The hash of a task's code as it is now; comments, docstrings, imports and empty lines do not count."""
    digest = hashlib.sha256()
    for module in code_modules(task_id):
        digest.update("\n".join([module, *code_lines(_path(module).read_text())]).encode())
    return digest.hexdigest()[:HASH_LENGTH]


def code_modules(task_id: str) -> list[str]:
    """The modules that count: the one of the task, the training, and those that they import, directly or not."""
    modules, pending = set[str](), [f"tasks.{task_id.replace('-', '_')}", *TRAINING]
    while pending:
        module = pending.pop()
        if module not in modules:
            modules.add(module)
            pending += [name for name in _imported(_path(module).read_text()) if _counts(name)]
    return sorted(modules)


def _counts(module: str) -> bool:
    in_room = module.rpartition(".")[0] in ROOMS
    return in_room and module not in WITHOUT_INFLUENCE and _path(module).is_file()


def _imported(text: str) -> Iterator[str]:
    """The names that follow `decathlon.` in the imports of a file."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("decathlon."):
            module = str(node.module).removeprefix("decathlon.")
            yield from (module, *(f"{module}.{alias.name}" for alias in node.names))


def code_lines(text: str) -> list[str]:
    """The lines of a file without what cannot change a number: comments, docstrings, imports and empty lines."""
    lines, left_out = text.split("\n"), set[int]()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            lines[token.start[0] - 1] = lines[token.start[0] - 1][: token.start[1]]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Import, ast.ImportFrom)) or (
            isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str)  # a docstring
        ):
            left_out.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return [line.rstrip() for number, line in enumerate(lines, 1) if line.strip() and number not in left_out]


def _path(module: str) -> Path:
    room, _, name = module.rpartition(".")
    folders = [PACKAGE / room.replace(".", "/")]
    if room == "tasks":  # the registry's folder
        folders.append(Path(base.__file__).parent)
    paths = [folder / f"{name}.py" for folder in folders]
    return next((path for path in paths if path.is_file()), paths[0])
