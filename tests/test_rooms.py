"""The rooms of the package: imports point one way and never in a circle, and importing a module stays light."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from conftest import ROOT

SOURCE = ROOT / "src" / "decathlon"
# A module may import from rooms of a lower level; lazy and TYPE_CHECKING imports count, too.
LEVELS = {
    **{"errors": 0, "messages": 0},
    **{"models": 1, "data": 2},
    **{"evaluation": 3, "tasks": 4, "runs": 5, "training": 6},
    **{"onnx": 7, "reporting": 7, "api": 8, "demo": 9, "cli": 10, "__main__": 11},
}
FREE = ("models", "errors")  # rooms that import no other room
# What must not be loaded with these modules: at a command's start nobody waits for what it does not need.
LIGHT = {
    "decathlon": ("torch", "numpy"),
    "decathlon.cli.main": ("torch", "matplotlib", "jinja2"),
    "decathlon.tasks.mnist_mlp": (
        *("onnx", "onnxruntime", "jinja2", "matplotlib", "sklearn", "gensim", "transformers", "torchmetrics"),
        *("lightning_fabric", "gradio", "decathlon.reporting", "decathlon.onnx", "decathlon.demo", "decathlon.runs"),
    ),
}
PREDICT = ("lightning_fabric", "torchmetrics", "matplotlib", "gensim", "sklearn", "transformers", "jinja2", "onnx")


def modules() -> dict[str, str]:
    """The modules below `decathlon`, dotted, and their source."""
    sources = {}
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        sources[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return sources


def imports(name: str, source: str, module_names: set[str]) -> set[str]:
    """The modules of the package that a module imports, anywhere in it."""
    imported = set()
    for node in ast.walk(ast.parse(source)):
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{name}: relative import"
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "decathlon":
            base = node.module.removeprefix("decathlon").lstrip(".")
            for alias in node.names:
                full = f"{base}.{alias.name}".lstrip(".")
                imported.add(full if full in module_names else base)
        elif isinstance(node, ast.Import):
            imported |= {
                a.name.removeprefix("decathlon").lstrip(".") for a in node.names if a.name.startswith("decathlon")
            }
    return imported - {name, ""}


def test_files_and_functions_are_short() -> None:
    """The documentation of the public API is not counted. Task files are shorter still: tests/tasks."""
    for name, source in modules().items():
        assert len(source.splitlines()) <= 400, name
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                docstring = len((ast.get_docstring(node) or "").splitlines())
                assert node.end_lineno - node.lineno + 1 - docstring <= 60, f"{name}: {node.name}"


def graph() -> dict[str, set[str]]:
    """Which module imports which."""
    sources = modules()
    return {name: imports(name, source, set(sources)) for name, source in sources.items() if name}


def test_imports_point_one_way() -> None:
    wrong = []
    for name, targets in graph().items():
        room = name.split(".")[0]
        for target in targets:
            target_room = target.split(".")[0]
            lower = LEVELS[target_room] < LEVELS[room] and not (room in FREE and target_room not in FREE)
            # data and models stand side by side
            if target_room != room and (not lower or {room, target_room} == {"data", "models"}):
                wrong.append(f"{name} imports {target}")
    assert not wrong, "\n".join(sorted(wrong))


def test_no_import_goes_in_a_circle() -> None:
    edges, done, path = graph(), set[str](), list[str]()

    def visit(name: str) -> None:
        assert name not in path, " → ".join([*path[path.index(name) :], name])
        if name in done:
            return
        path.append(name)
        for target in sorted(edges.get(name, ())):
            visit(target)
        path.pop()
        done.add(name)

    for name in edges:
        visit(name)


@pytest.mark.parametrize("name", LIGHT)
def test_importing_a_module_stays_light(name: str) -> None:
    loaded = loaded_by(f"import {name}")
    assert not [heavy for heavy in LIGHT[name] if heavy in loaded]


def test_predicting_loads_only_what_it_needs() -> None:
    code = """
import numpy, decathlon
image = numpy.zeros((28, 28), numpy.uint8)
image[4:24, 13:15] = 255
assert decathlon.load("mnist-cnn").predict([image])[0].label == "1"
"""
    loaded = loaded_by(code)
    assert not [heavy for heavy in PREDICT if heavy in loaded]


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after running some code."""
    command = [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules, file=sys.stderr)"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_every_room_has_tests() -> None:
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert not [room for room in sorted(rooms) if not list((ROOT / "tests" / room).glob("test_*.py"))]
