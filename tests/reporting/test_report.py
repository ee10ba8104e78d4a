"""`decathlon report RUN --open`: the report in the browser."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import hostile
import pytest
from conftest import Command


def write_run(folder: Path) -> None:
    hostile.write(folder, hostile.run_files())


def test_the_report_is_opened(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    write_run(Path("a run #1"))
    assert decathlon("report", "a run #1").status == 0
    assert not opened
    answer = decathlon("report", "a run #1", "--open")
    assert answer.status == 0, answer.err
    assert opened == [Path("a run #1/report.html").resolve().as_uri()]
    assert "%231" in opened[0]


def test_without_a_browser_the_path_is_said(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    write_run(Path("run"))
    answer = decathlon("report", "run", "--open")
    assert answer.status == 1
    assert str(Path("run/report.html").resolve()) in answer.error
