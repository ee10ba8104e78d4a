"""The notebook runs from top to bottom, and shows what it was committed with."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient

from decathlon import shipped
from decathlon.recipe import task_ids

NOTEBOOK = ROOT / "notebooks" / "decathlon.ipynb"


@pytest.mark.filterwarnings("ignore:Parsing dates involving a day of month:DeprecationWarning")
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert len(notebook.cells) == 10
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in shown) == 3
    (result,) = [
        output.data["text/plain"]
        for output in shown
        if "'train_seconds'" in output.get("data", {}).get("text/plain", "")
    ]
    assert "'data': 'mnist-sample'" in result


def test_it_was_committed_with_what_the_weights_of_today_reach() -> None:
    shown = [output for cell in nbformat.read(NOTEBOOK, as_version=4).cells for output in cell.get("outputs", [])]
    told = [
        output.data["text/plain"]
        for output in shown
        if "with the weights" in output.get("data", {}).get("text/plain", "")
    ]
    assert ast.literal_eval(told[0]) == [shipped.words(shipped.card(task_id)) for task_id in task_ids()]


def test_what_it_was_committed_with_names_no_machine() -> None:
    text = NOTEBOOK.read_text()
    assert "/root/" not in text
    assert "site-packages" not in text
    assert '"image/png"' in text
