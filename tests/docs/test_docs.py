"""The code in the documentation runs, its commands and links exist, and both READMEs agree."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Command
from inputs import digit, pet, scene

from decathlon import tasks
from decathlon.cli import options
from decathlon.cli.flags import flag_names
from decathlon.cli.main import COMMANDS
from decathlon.data.read_options import ReadOptions
from decathlon.runs.records import RunOptions
from decathlon.tasks import base
from decathlon.tasks.base import PRETRAINING, task_ids

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLE = "mnist-linear"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_image_is_on_a_page() -> None:
    linked = {
        (page.parent / target).resolve() for page in PAGES for target in re.findall(r"\]\(([^)#]+)", page.read_text())
    }
    assert {path.resolve() for path in (ROOT / "docs").rglob("*.png")} <= linked


def known_flags(words: list[str]) -> set[str]:
    """The flags of a command; of a training those of its task, or of any task where it names none."""
    own = getattr(options, "DataOptions" if words[1] == "data" else words[1].title(), None)
    parts: list[Any] = [own(), options.Common()] if own else [options.Common()]
    if words[1] in ("train", "grade", "compare"):
        tasks = words[2:3] if words[1] == "train" and words[2] != EXAMPLE else task_ids()
        parts += [RunOptions(), ReadOptions(), *(base.get_task(task).recipe() for task in tasks)]
    return {"--help", "--version"}.union(*map(flag_names, parts))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    for line in "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0].endswith("decathlon"):
            assert words[1] in COMMANDS, line
            if words[1] in ("train", "predict", "export"):
                assert words[2] in (*task_ids(), *PRETRAINING, EXAMPLE), line
            assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known_flags(words), line
        elif words and words[0] == "make":
            assert f"\n{words[1]}: " in (ROOT / "Makefile").read_text(), line


def test_readmes_own_network_trains(decathlon: Command) -> None:
    (code,) = [block for block in blocks(ROOT / "README.md", "python") if "def net" in block]
    assert len(code.strip().splitlines()) <= 10
    Path("net.py").write_text(code)
    (commands,) = [block for block in blocks(ROOT / "README.md", "sh") if "--model net.py" in block]
    words = shlex.split(commands.strip().splitlines()[-1])
    assert words[0].endswith("decathlon")
    done = decathlon(*words[1:], "--data", "sample", "--epochs", "1", "--out", "run", "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["violations"] == []


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs/api.md"], ids=lambda page: page.name)
def test_python_examples_run(page: Path, tmp_path: Path) -> None:
    for path, name in ((digit(tmp_path), "digit.png"), (pet(tmp_path), "cat.jpg"), (scene(tmp_path), "scene.png")):
        Path(path).rename(name)
    examples = [code for code in blocks(page, "python") if "def net" not in code]
    assert examples
    variables: dict[str, object] = {}
    for code in examples:
        exec(compile(code, page.name, "exec"), variables)


def test_readmes_are_short() -> None:
    for name in ("README.md", "README.ru.md"):
        assert len((ROOT / name).read_text().splitlines()) < 150, name


LIBRARY_LINK = re.compile(
    r"\[`([\w.]+)`\]\(https://github\.com/(?:pytorch/vision|huggingface/transformers)/blob/v([\w.]+)/(?:src/)?"
    r"(torchvision|transformers)/([\w/]+\.py)#L(\d+)\)"
)
LIBRARY_LINKS = [match for page in PAGES for match in LIBRARY_LINK.findall(page.read_text())]


@pytest.mark.parametrize(("name", "version", "package", "file", "line"), LIBRARY_LINKS)
def test_links_into_libraries_are_exact(name: str, version: str, package: str, file: str, line: str) -> None:
    """The linked line of the pinned version defines what the link names."""
    assert re.search(
        rf"^{package}=={re.escape(version)}( *;.*)?$", (ROOT / "constraints.txt").read_text(), re.MULTILINE
    )
    if metadata.version(package).partition("+")[0] != version:
        pytest.skip(f"another {package} is installed")
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    text = Path(spec.origin).parent.joinpath(file).read_text().splitlines()[int(line) - 1]
    assert re.search(rf"\b(class|def) {name.rpartition('.')[2]}\b", text), text


def test_the_example_task_works(tmp_path: Path, decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks(ROOT / "docs/adding-a-task.md", "python")
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "mnist_linear.py").write_text(code)
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(folder)])
    monkeypatch.setattr(base, "__file__", str(folder / "base.py"))  # the registry lists the files beside it
    importlib.invalidate_caches()
    try:
        assert EXAMPLE in [row["id"] for row in json.loads(decathlon("list", "--json").out)]
        done = decathlon("train", EXAMPLE, "--data", "sample", "--out", "run", "--json")
        assert done.status == 0, done.err
        summary = json.loads(done.out)
        assert summary["passed"], summary
        assert summary["violations"] == []
        assert json.loads(decathlon("evaluate", "run", "--json").out)["value"] == summary["value"]
        assert decathlon("predict", EXAMPLE, digit(tmp_path), "--run", "run").status == 0
        assert decathlon("export", EXAMPLE, "--run", "run").status == 0
        assert decathlon("predict", EXAMPLE, digit(tmp_path), "--onnx", f"{EXAMPLE}.onnx").status == 0
    finally:
        sys.modules.pop("decathlon.tasks.mnist_linear", None)


def test_nothing_names_a_machine() -> None:
    pattern = re.compile(r"/(root|work|home)/")
    for path in [*PAGES, ROOT / "constraints.txt", ROOT / "pyproject.toml", ROOT / "Makefile"]:
        assert not pattern.search(path.read_text()), path


def tables(page: Path) -> list[list[str]]:
    """The rows of every table outside code."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [table.strip().splitlines() for table in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)]


def code(page: Path) -> list[str]:
    """Every block of code, without the remarks behind its commands, which are translated."""
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [re.sub(r" +#.*$", "", text, flags=re.MULTILINE) if kind == "sh" else text for kind, text in blocks]


def test_the_russian_readme_says_the_same() -> None:
    """Tables, commands, code and links are the same to the letter, and there are as many headings and paragraphs."""
    english, russian = ROOT / "README.md", ROOT / "README.ru.md"
    assert tables(english) == tables(russian)
    assert tables(english)
    assert code(english) == code(russian)
    targets = [re.findall(r"\]\(([^)]+)\)", page.read_text()) for page in (english, russian)]
    as_english = {target.replace("docs/ru/", "docs/") for target in targets[1]}  # where a translation exists
    assert {target.replace("docs/ru/", "docs/") for target in targets[0]} ^ as_english == {"README.md", "README.ru.md"}
    for mark in (r"^#+ ", r"^- ", r"^\d\. ", r"\n\n"):
        counts = [len(re.findall(mark, page.read_text(), re.MULTILINE)) for page in (english, russian)]
        assert counts[0] == counts[1], (mark, counts)


def test_the_page_on_ones_own_network_has_every_task() -> None:
    rows = tables(ROOT / "docs/own-network.md")[0][2:]
    assert [re.findall(r"`([\w-]+)`", row)[0] for row in rows] == task_ids()
