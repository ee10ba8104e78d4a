"""Reading config.json and summary.json, which may come from strangers: checked before anything is built from them."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from decathlon.data.base import DataInfo
from decathlon.data.io import files
from decathlon.errors import UsageError
from decathlon.runs.folder import read_json
from decathlon.runs.records import RunConfig, RunOptions, Summary

T = TypeVar("T")

CONFIG = TypeAdapter(RunConfig)
DATA_INFO = TypeAdapter(DataInfo)
OPTIONS = TypeAdapter(RunOptions)
SUMMARY = TypeAdapter(Summary)
REQUIRED_OPTIONS = ("data", "data_dir", "model")
REQUIRED_IN_SUMMARY = tuple(
    field.name for field in fields(Summary) if field.default is field.default_factory is MISSING
)


def config(folder: Path) -> RunConfig:
    """The config.json of a run folder.

    Raises:
        FileNotFoundError: It is no run folder.
        ValueError: The file is damaged, or not what a training writes.
    """
    path = folder / "config.json"
    values = read_json(path)
    parsed = _parse(CONFIG, values, path)
    if missing := [name for name in REQUIRED_OPTIONS if name not in values["options"]]:
        raise ValueError(f"{path} is damaged: 'options.{missing[0]}': Field required")
    data_info(values["info"], path)
    return parsed


def options(given: RunOptions) -> None:
    """Raise UsageError for an option of another type, none of its choices (strategy="DDP"), or empty (resume="")."""
    if empty := [name for name, value in asdict(given).items() if value == ""]:
        raise UsageError(f"{empty[0]} is empty: leave it out")
    try:
        values = json.dumps(asdict(given), default=lambda value: {})  # an object is of no option's type
        OPTIONS.validate_json(values, strict=True)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)[0]
        raise UsageError(f"{details['loc'][0]}: {details['msg']}") from None


def data_info(values: dict[str, Any], path: Path) -> DataInfo:
    """What building a network and predicting must know of the data. Raises ValueError, naming the file, if damaged."""
    info = _parse(DATA_INFO, values, path, "info.")
    if unknown := sorted(set(values) - set(asdict(info))):
        raise ValueError(f"{path} is damaged: info has an unknown field {unknown[0]!r}")
    files.check_class_names(info.classes, path)
    files.check_class_names(info.vocabulary, path)
    if not info.classes and not info.tokenizer:
        raise ValueError(f"{path} is damaged: info names no classes")
    return info


def summary(path: Path, needed: tuple[str, ...] = ()) -> Summary:
    """A run's summary.

    Args:
        path: The file.
        needed: Further fields that it must have; older summaries lack some.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is damaged, or not what a training writes.
    """
    values = read_json(path)
    if missing := [name for name in (*REQUIRED_IN_SUMMARY, *needed) if name not in values]:
        raise ValueError(f"{path} is no run summary: it lacks {', '.join(missing)}")
    return _parse(SUMMARY, values, path)


def _parse(adapter: TypeAdapter[T], values: Any, path: Path, prefix: str = "") -> T:
    """JSON data as a dataclass, without conversions. Raises ValueError that names the file and the field."""
    try:
        return adapter.validate_json(json.dumps(values), strict=True)  # in JSON, strict mode takes objects and arrays
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)[0]
        where = prefix + ".".join(map(str, details["loc"]))
        raise ValueError(f"{path} is damaged: {where!r}: {details['msg']}") from None
