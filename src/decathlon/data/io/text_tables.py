"""Tables of texts: CSV with any of three delimiters, JSON and JSON lines, read strictly."""

from __future__ import annotations

import csv
import io
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from decathlon.data.io import files
from decathlon.data.io.listing import ONLY_SPLITS, choose_splits, has_suffix, list_folder, split_name, walk, warn_unused
from decathlon.errors import nearest
from decathlon.messages import pluralize, some, warn

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
TABLE_SUFFIXES = (".csv", ".tsv", ".tab", *JSON_SUFFIXES)
FOREIGN_SUFFIXES = (".xlsx", ".xls", ".ods", ".parquet", ".feather", ".arrow", ".pkl", ".zip", ".gz")
SAVE_AS = "tables are read as CSV or JSON lines; save it as one of these"
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
MAX_NAME = 40  # characters of a column's name in a message
MIN_ROWS_INSIDE = 0.5  # of the lines within a quoted text that look like rows: then its quote was never closed


class Row(NamedTuple):
    """The wanted values of one row, None where it has none, and the line in which it begins."""

    line: int
    values: tuple[str | None, ...]


def read_table(path: Path, columns: Sequence[str], flags: Sequence[str] = ()) -> list[Row]:
    """The rows of a table, each with the values of these columns, as they are written.

    Column names are compared without blanks around them and, where that is unique, without case.

    Args:
        path: A CSV file whose columns are separated by commas, semicolons or tabs, or JSON: one object a line, or a
            list of objects.
        columns: Names of the columns that are wanted.
        flags: Options that name these columns, for errors.

    Raises:
        ValueError: The columns are not there (says which are), or a row cannot be read for certain: names its line.
    """
    if has_suffix(path, FOREIGN_SUFFIXES):
        raise ValueError(f"{path}: {SAVE_AS}")
    text = decode_text(files.read_bytes(path), path)
    is_json = has_suffix(path, JSON_SUFFIXES)
    rows = _read_json(text, path, columns, flags) if is_json else _read_csv(text, path, columns, flags)
    if not rows:
        raise ValueError(f"{path} holds no rows")
    return rows


def has_tables(folder: Path) -> bool:
    """Whether a folder holds tables of texts, and no texts in folders of classes."""
    listed, folders = list_folder(folder)
    in_folders = any(has_suffix(file, (".txt",)) for inner in folders for file in walk(inner))
    return not in_folders and any(has_suffix(path, TABLE_SUFFIXES) for path in listed)


def find_tables(folder: Path) -> dict[str, Path]:
    """The table of each split in a folder, or its only one, which is `train`.

    Raises:
        ValueError: Several tables could be meant, or a split is in a format that is not read.
    """
    listed = list_folder(folder)[0]
    tables = [file for file in listed if has_suffix(file, TABLE_SUFFIXES)]
    chosen = choose_splits(tables, folder)
    for file in listed:
        split = split_name(file.name.partition(".")[0])
        if has_suffix(file, FOREIGN_SUFFIXES) and split and split not in chosen:
            raise ValueError(f"{file}: {SAVE_AS}")
    if not chosen and len(tables) > 1:
        names = some(table.name for table in tables)
        raise ValueError(f"{folder} holds several tables ({names}), none called train: name one as --data FILE")
    chosen = chosen or {"train": tables[0]}
    warn_unused(folder, chosen.values(), ONLY_SPLITS)
    return chosen


def decode_text(content: bytes, path: Path) -> str:
    """As `files.decode_text`; the error says how to save the file."""
    try:
        return files.decode_text(content, path)
    except ValueError as error:
        raise ValueError(f"{error}; save it as UTF-8 (in Excel: CSV UTF-8)") from None


def _find_columns(names: Sequence[str], columns: Sequence[str]) -> list[int] | None:
    """Where each wanted column stands among the names; None where one is missing or there twice."""
    clean = [str(name).strip() for name in names]
    lower = [name.casefold() for name in clean]
    indices = []
    for column in columns:
        if clean.count(column) == 1:
            indices.append(clean.index(column))
        elif column not in clean and lower.count(column.casefold()) == 1:
            indices.append(lower.index(column.casefold()))
        else:
            return None
    return indices


def _refuse_columns(names: Sequence[str], columns: Sequence[str], flags: Sequence[str], path: Path, end: str) -> None:
    names = [str(name).strip() for name in names]
    wanted = f"columns {' and '.join(columns)}" if len(columns) > 1 else f"column {columns[0]}"
    if twice := [column for column in columns if names.count(column) > 1]:
        raise ValueError(f"{path} has the column {twice[0]} twice")
    cut = [f"{name[:MAX_NAME]}…" if len(name) > MAX_NAME else name for name in names]
    held = f"only {cut[0]!r}{end}" if len(names) == 1 else ", ".join(cut) or "none"
    if end and any(len(name) > MAX_NAME for name in names):  # its first line may be a text
        wanted += ", named in its first line"
    way = f"; name them with {' and '.join(flags)}" if flags and len(names) > 1 else ""
    absent = [column for column in columns if column not in names]
    near = nearest(absent[0], names) if absent and len(names) > 1 else ""
    hint = near if near.startswith("; did you mean") else ""
    raise ValueError(f"{path} needs the {wanted}; it has {held}{hint}{way}")


# --- CSV --------------------------------------------------------------------------------------------------------------


def _read_csv(text: str, path: Path, columns: Sequence[str], flags: Sequence[str]) -> list[Row]:
    csv.field_size_limit(sys.maxsize)
    if not text.strip():
        raise ValueError(f"{path} holds no rows")
    text = re.sub(r"\Asep=.(?=\r?\n)", "", text)  # Excel's line, left empty so that lines keep their numbers
    headers = {delimiter: _header(text, delimiter) for delimiter in DELIMITERS}
    fitting = [delimiter for delimiter, names in headers.items() if _find_columns(names, columns) is not None]
    if not fitting:
        names = max(headers.values(), key=len)
        _refuse_columns(names, columns, flags, path, " (commas, semicolons or tabs separate columns)")
    delimiter = fitting[0]
    if delimiter != "," and len(headers[delimiter]) > 1:
        warn(f"{path}: {DELIMITERS[delimiter]} separate the columns")
    indices = _find_columns(headers[delimiter], columns)
    assert indices is not None
    records = _records(text, path, delimiter)
    width = len(records[0][1])
    wrong = [(line, len(fields)) for line, fields in records if len(fields) != width]
    if wrong:
        more = f" (and {len(wrong) - 1:,} more such lines: {some(line for line, _ in wrong[1:])})" if wrong[1:] else ""
        hint = f": put texts with {DELIMITERS[delimiter]} into quotation marks" if wrong[0][1] > width else ""
        count = f"{wrong[0][1]} field{'' if wrong[0][1] == 1 else 's'}"
        raise ValueError(f"{path}, line {wrong[0][0]}: {count} where the header has {width}{hint}{more}")
    _check_quotes(records, path, delimiter, indices)
    return [Row(line, tuple(fields[index] for index in indices)) for line, fields in records[1:]]


def _header(text: str, delimiter: str) -> list[str]:
    first = text.lstrip("\r\n")
    try:
        return next(csv.reader(io.StringIO(first, newline=""), delimiter=delimiter), [])
    except csv.Error:
        return []


def _records(text: str, path: Path, delimiter: str) -> list[tuple[int, list[str]]]:
    """All records with the lines in which they begin, empty lines left out.

    Raises:
        ValueError: A quotation mark is not closed, or what follows a closed one is no delimiter: names the line.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    records, start = list[tuple[int, list[str]]](), 1
    try:
        for fields in reader:
            if any(field.strip() for field in fields) or len(fields) > 1:
                records.append((start, fields))
            start = reader.line_num + 1
    except csv.Error as error:
        words = {"unexpected end of data": f"a quotation mark opens a text in line {start} and is never closed"}
        there = f"in line {reader.line_num}" if reader.line_num > start else "there"
        reason = words.get(str(error), f"the quoted text that opens here closes {there} with more text behind it")
        raise ValueError(
            f"{path}, line {start}: {reason}; double the quotation marks inside a quoted text, and quote texts that "
            "begin with one"
        ) from None
    return records


def _check_quotes(records: list[tuple[int, list[str]]], path: Path, delimiter: str, columns: list[int]) -> None:
    """Raise ValueError where a quoted text runs over lines that look like rows: its quote was left open."""
    width = len(records[0][1])
    known = {fields[columns[-1]].strip() for _, fields in records[1:] if not any("\n" in field for field in fields)}
    known.discard("")  # rows without a label
    numbers = {label for label in known if label.replace(".", "").replace("-", "").isdigit()}  # as in "3,5"
    for line, fields in records[1:]:
        for index, field in enumerate(fields):
            inner = re.split(r"\r\n|\r|\n", field)[1:]
            if not inner:
                continue
            likely = 0
            if len(inner) == 1 and index < columns[-1]:  # the line before it was a row up to its label?
                parts = [*fields[:index], *re.split(r"\r\n|\r|\n", field)[0].split(delimiter)]
                likely += len(parts) == width > 1 and parts[columns[-1]] in known - numbers
            for text in inner[:-1] or inner:
                parts = text.split(delimiter)
                # The last line within is cut off where the next quotation mark stands.
                likely += len(parts) >= width > 1 and bool({part.strip() for part in parts} & known)
            if likely > MIN_ROWS_INSIDE * len(inner[:-1] or inner):
                raise ValueError(
                    f"{path}, line {line}: a quoted text that begins here runs over {len(inner) + 1:,} lines which "
                    "look like rows of their own: a quotation mark was not closed, or begins a text that is not quoted"
                )


# --- JSON -------------------------------------------------------------------------------------------------------------


def _read_json(text: str, path: Path, columns: Sequence[str], flags: Sequence[str]) -> list[Row]:
    """One object a line, or a list of objects. Only a line feed ends a line."""
    if text.lstrip().startswith("["):
        try:
            whole = files.parse_json(text)
        except ValueError as error:
            raise ValueError(f"{path} is no JSON: {error}") from None
        items = list(enumerate(whole, 1))
        what = "record"
    else:
        what, items = "line", []
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    items.append((number, files.parse_json(line)))
                except ValueError as error:
                    single = not items and _is_one_object(text)
                    hint = "; it is one object: save a list of records, or one record a line" if single else ""
                    raise ValueError(f"{path} has a line that is no JSON, line {number}: {error}{hint}") from None
    rows = []
    has_columns = any(_find_columns(list(item), columns) for _, item in items if isinstance(item, dict))
    for number, item in items:
        if not isinstance(item, dict):
            raise ValueError(f"{path}: {what} {number} is no object with {' and '.join(columns)}")
        if not has_columns:
            _refuse_columns(list(item), columns, flags, path, "")
        names = {str(name).strip().casefold(): name for name in item}
        values = [item.get(column, item.get(names.get(column.casefold(), column))) for column in columns]
        for column, value in zip(columns, values, strict=True):
            if isinstance(value, (list, dict)):
                raise ValueError(f"{path}: {what} {number} has a {column} that is neither text nor number")
        rows.append(Row(number, tuple(_to_text(value) for value in values)))
    return rows


def _is_one_object(text: str) -> bool:
    try:
        return isinstance(files.parse_json(text), dict)
    except ValueError:
        return False


def _to_text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return str(value)


def read_reviews(argument: str, column: str = "text") -> list[str]:
    """The reviews that one argument of `predict` names: - is standard input and a file holds one a line, else a text.

    Args:
        argument: The argument.
        column: Of a table, the column of its texts.

    Raises:
        ValueError: There is no review in it, it is no plain file, or a file is not UTF-8.
        FileNotFoundError: One word that ends as a text file's name does, and no such file.
    """
    path = Path(argument)
    if argument == "-":
        stream = getattr(sys.stdin, "buffer", None)  # bytes, whatever the locale
        path = Path("stdin")
        reviews = _read_lines(sys.stdin.read() if stream is None else decode_text(stream.read(), path), path)
    elif _exists(path) and path.is_file():
        if has_suffix(path, TABLE_SUFFIXES):
            rows = read_table(path, (column,))
            reviews = [row.values[0] or "" for row in rows]
            if empty := [str(row.line) for row, review in zip(rows, reviews, strict=True) if not review.strip()]:
                count = f"{len(empty):,} of {len(rows):,}"
                warn(f"{path}: {count} rows have no {column} and are left out (lines {some(empty)})")
        else:
            reviews = _read_lines(decode_text(files.read_bytes(path), path), path)
    elif argument and _exists(path) and path.is_dir():
        raise ValueError(f"{argument} is a folder: name its files")
    elif argument and _exists(path):
        raise ValueError(f"{argument} is no plain file; - reads standard input")
    elif len(argument.split()) == 1 and argument.lower().endswith((".txt", ".md", *TABLE_SUFFIXES)):
        raise FileNotFoundError(f"there is no file {argument}")  # mistyped: no review is written so
    else:
        reviews = [argument]
    reviews = [line for line in reviews if line.strip()]
    if not reviews:
        raise ValueError(f"{argument!r} holds no review")
    return reviews


def _read_lines(text: str, path: Path) -> list[str]:
    """The lines of a text that are not blank; says which are.

    Only a line feed ends a line, unlike in `str.splitlines`, which also ends it at U+2028.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip().split("\n")
    if blank := [str(number) for number, line in enumerate(lines, 1) if not line.strip()][: len(lines) - 1]:
        warn(f"{path}: {pluralize(len(blank), 'blank line')} left out ({some(blank)})")
    return [line for line in lines if line.strip()]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a text: longer than a name may be, or with a null byte
        return False
