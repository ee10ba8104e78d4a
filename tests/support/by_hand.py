"""The tables "By hand" of the tasks' pages, and the arithmetic in their cells."""

from __future__ import annotations

import re

from conftest import ROOT


def read_rows(task_id: str) -> tuple[list[list[str]], list[str]]:
    """The cells of the table's rows, and of the last, which sums them up."""
    page = (ROOT / "docs" / "tasks" / f"{task_id}.md").read_text()
    section = page[page.index("## By hand") :].split("\n## ")[0]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:2] == "| "]
    return table[2:-1], table[-1]


def number(cell: str) -> int:
    """The result of a cell such as `5·5·1·16 = 400`, once it is seen to be right; 0 for `–`."""
    if cell == "–":
        return 0
    expression, _, result = cell.partition(" = ")
    assert re.fullmatch(r"[\d·+() ]+", expression), cell
    value = eval(expression.replace("·", "*"))
    assert f"{value:,}" == result, cell
    return value
