"""The notebook runs from top to bottom, uses the public API only, and was committed with its outputs."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient

NOTEBOOK = ROOT / "notebooks" / "decathlon.ipynb"


@pytest.mark.filterwarnings("ignore:Parsing dates involving a day of month:DeprecationWarning")
def test_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    assert any("'accuracy'" in output.get("data", {}).get("text/plain", "") for output in outputs)


def test_notebook_uses_the_public_api_only() -> None:
    source = "\n".join(cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells)
    assert "import decathlon\n" in source
    assert not re.search(r"from decathlon|import decathlon\.", source)


def test_notebook_has_outputs_and_no_machine_paths() -> None:
    text = NOTEBOOK.read_text()
    assert "/root/" not in text
    assert "site-packages" not in text
    assert text.count('"image/png"') == 4
