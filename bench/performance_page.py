"""The tables of docs/performance.md: their rows in docs/performance.json, and how they get into the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from decathlon.data.io import atomic

DOCS = Path(__file__).parents[1] / "docs"
DATA, PAGE = DOCS / "performance.json", DOCS / "performance.md"


def load(path: Path = DATA) -> dict[str, list[dict[str, Any]]]:
    """The rows by table: `peers`, `scaling`."""
    return json.loads(path.read_text()) if path.exists() else {}


def save(table: str, rows: list[dict[str, Any]], key: str, path: Path = DATA) -> list[dict[str, Any]]:
    """Replace the rows of a table that have the same `key` as new ones. Returns all rows of the table."""
    tables = load(path)
    measured = {row[key] for row in rows}
    tables[table] = [row for row in tables.get(table, []) if row[key] not in measured] + rows
    atomic.write_json(path, tables)
    return tables[table]


def markdown(rows: list[dict[str, str]]) -> str:
    """Rows as a Markdown table, a column a key."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0])]
    return "\n".join([*lines, *("| " + " | ".join(row.values()) + " |" for row in rows)])


def replace_table(name: str, table: str, path: Path = PAGE) -> None:
    """Write a table between the page's markers `<!-- NAME -->` and `<!-- /NAME -->`.

    Raises:
        ValueError: The page lacks them.
    """
    text, begin, end = path.read_text(), f"<!-- {name} -->", f"<!-- /{name} -->"
    if begin not in text or end not in text:
        raise ValueError(f"{path} has no markers {begin} and {end}")
    before, after = text[: text.index(begin) + len(begin)], text[text.index(end) :]
    atomic.write_text(path, f"{before}\n\n{table}\n\n{after}")
