"""The lessons docs/tasks/TASK.md: their experiments can be run, and their Russian versions say the same."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT, Command
from scripts import load_script

from decathlon.tasks.base import task_ids

PAGES = ROOT / "docs" / "tasks"
RUSSIAN = ROOT / "docs" / "ru" / "tasks"
SECTIONS = ["What it teaches", "Experiments", "Typical mistakes", "Results, ablations and failures", "Sources"]
HEADINGS = {"Experiments": "Эксперименты"}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
ANSWER = re.compile(
    r'^<details markdown="1">\n<summary>(?:Answer|Ответ)</summary>\n\n(.+?)\n\n</details>$', re.S | re.M
)
LESSONS = [path for path in sorted(PAGES.glob("*.md")) if "\n## Experiments\n" in path.read_text()]
LANGUAGES = [page for path in LESSONS for page in (path, RUSSIAN / path.name) if page.exists()]
TRANSLATED = [path for path in LESSONS if (RUSSIAN / path.name).exists()]


def test_every_task_has_a_lesson_in_both_languages() -> None:
    assert set(task_ids()) <= {path.stem for path in LESSONS}
    assert LESSONS == TRANSLATED


def name(page: Path) -> str:
    return str(page.relative_to(ROOT / "docs"))


def headings(page: Path, level: int) -> list[str]:
    return re.findall(rf"^{'#' * level} (.+)$", BLOCK.sub("", page.read_text()), re.MULTILINE)


def experiments(page: Path) -> list[str]:
    """The text of each experiment."""
    heading = HEADINGS["Experiments"] if page.is_relative_to(RUSSIAN) else "Experiments"
    section = page.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.split(r"^### ", section, flags=re.MULTILINE)[1:]


def commands(text: str) -> list[list[str]]:
    """The words of each command in the shell blocks."""
    lines = "\n".join(code for kind, code in BLOCK.findall(text) if kind == "sh").replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


COMMANDS = {" ".join(words): words for page in LESSONS for text in experiments(page) for words in commands(text)}
TRAININGS = {line: words for line, words in COMMANDS.items() if words[:2] == ["decathlon", "train"]}
ABLATIONS = {line: words for line, words in COMMANDS.items() if words[:2] == ["python", "bench/ablation.py"]}


@pytest.mark.parametrize("page", LESSONS, ids=name)
def test_sections(page: Path) -> None:
    assert page.stem in task_ids()
    assert [heading for heading in headings(page, 2) if heading in SECTIONS] == SECTIONS


@pytest.mark.parametrize("page", LANGUAGES, ids=name)
def test_three_experiments_with_a_command_and_a_folded_answer(page: Path) -> None:
    texts = experiments(page)
    assert len(texts) == 3
    for text in texts:
        before, _, answer = text.partition("<details")
        assert len(commands(before)) == len(BLOCK.findall(before)) == 1, "one command, before the answer"
        assert "?" in before, "a question"
        (answer,) = ANSWER.findall("<details" + answer)
        assert re.search(r"\d", answer), "what was measured"
        assert not commands(answer)
    text = page.read_text()
    assert text.count("<details") == text.count("</details>") == len(ANSWER.findall(text))


def test_every_command_is_known() -> None:
    others = COMMANDS.keys() - TRAININGS.keys() - ABLATIONS.keys()
    for line in others:
        assert COMMANDS[line][0] == "decathlon" or (ROOT / COMMANDS[line][1]).is_file(), line


@pytest.mark.parametrize("line", TRAININGS)
def test_trainings_can_start(line: str, decathlon: Command) -> None:
    Path("examples").symlink_to(ROOT / "examples")
    words = TRAININGS[line][1:]
    data = [] if "--data" in words else ["--data", "sample"]
    done = decathlon(*words, *data, "--dry-run")
    assert done.status == 0, done.err


@pytest.fixture(scope="module")
def ablation() -> ModuleType:
    return load_script("bench/ablation.py")


@pytest.mark.parametrize("line", ABLATIONS)
def test_ablations_have_these_rows(line: str, ablation: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trained: what each row would measure is made up."""
    words, chosen = ABLATIONS[line][2:], list[str]()

    def record(task_id: str, recipe: object, data: object) -> dict[str, object]:
        chosen.append(task_id)
        return {"value": 0.5, "without_tta": 0.5, "epochs": 1, "train_seconds": 1.0}

    monkeypatch.setattr(ablation, "train_and_measure", record)
    monkeypatch.setattr(sys, "argv", ["ablation.py", *words, *([] if "--data" in words else ["--data", "sample"])])
    ablation.main()
    rows = words[words.index("--rows") + 1 :] if "--rows" in words else list(ablation.rows(words[0]))
    assert chosen == [words[0]] * len([row for row in rows if not row.startswith("--")])


# --- Russian ----------------------------------------------------------------------------------------------------------


def tables(page: Path) -> list[list[str]]:
    """The numbers of each row of every table."""
    rows = re.findall(r"^\|.*\|$", BLOCK.sub("", page.read_text()), re.MULTILINE)
    return [re.findall(r"[−+]?\d[\d.,]*", re.sub(r"\]\([^)]*\)", "", row)) for row in rows]


def code(page: Path) -> list[tuple[str, str]]:
    """Every block of code; of commands without the comments, which are translated, and of drawings the numbers."""
    plain = {"sh": lambda text: re.sub(r" +#.*$", "", text, flags=re.M), "text": lambda text: " ".join(numbers(text))}
    return [(kind, plain.get(kind, str)(text)) for kind, text in BLOCK.findall(page.read_text())]


def numbers(text: str) -> list[str]:
    return re.findall(r"\d+", text)


def links(page: Path) -> set[str]:
    """The targets of all links, those to a Russian page as if to the English one."""
    found = set[str]()
    for target in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", page.read_text())):
        if "://" in target:
            found.add(target)
            continue
        path = (page.parent / target.partition("#")[0]).resolve() if target[0] != "#" else page
        assert path.exists(), target
        if path.is_relative_to(ROOT / "docs/ru"):
            path = ROOT / "docs" / path.relative_to(ROOT / "docs/ru")
        elif path == ROOT / "README.ru.md":
            path = ROOT / "README.md"
        found.add(str(path))
    return found


@pytest.mark.parametrize("page", TRANSLATED, ids=name)
def test_the_russian_page_says_the_same(page: Path) -> None:
    russian = RUSSIAN / page.name
    for level in (1, 2, 3):
        assert len(headings(page, level)) == len(headings(russian, level)), f"headings of level {level}"
    assert headings(page, 1)[0].partition(":")[0] == headings(russian, 1)[0].partition(":")[0] == page.stem
    assert code(page) == code(russian)
    assert tables(page) == tables(russian)
    assert links(page) == links(russian)
    for mark in (r"^- ", r"^\d+\. ", r"^!\["):
        counts = [len(re.findall(mark, path.read_text(), re.MULTILINE)) for path in (page, russian)]
        assert counts[0] == counts[1], (mark, counts)


@pytest.mark.parametrize("page", TRANSLATED, ids=name)
def test_the_answers_have_the_same_numbers(page: Path) -> None:
    for english, russian in zip(experiments(page), experiments(RUSSIAN / page.name), strict=True):
        assert sorted(numbers(english)) == sorted(numbers(russian))


@pytest.mark.parametrize("page", TRANSLATED, ids=name)
def test_links_of_a_russian_page_prefer_russian_pages(page: Path) -> None:
    docs, translated = ROOT / "docs", ROOT / "docs/ru"
    text = BLOCK.sub("", (RUSSIAN / page.name).read_text())
    for target in re.findall(r"\]\(([^)#\s]+\.md)[^)]*\)", text):
        path = (RUSSIAN / target).resolve()
        if path.is_relative_to(docs) and not path.is_relative_to(translated) and path != page:
            assert not (translated / path.relative_to(docs)).exists(), f"{target}: there is a Russian page"
