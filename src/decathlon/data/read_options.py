"""How a user's own data are written, where the files do not tell: `--text-column`, `--mask-suffix` and others.

They travel with the path, as `tickets.csv?text-column=review`, so that a run that is resumed or evaluated reads the
same. Nothing here imports torch: the command line makes flags of it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import quote, unquote

from decathlon.errors import UsageError

DATASETS = {"text_column": "imdb", "label_column": "imdb", "mask_suffix": "pets", "transposed": "mnist"}


@dataclass(frozen=True)
class ReadOptions:
    """How the user's own data are written; the defaults stand for what the readers expect."""

    text_column: str = ""
    """column of a table that holds the texts; default: text"""
    label_column: str = ""
    """column of a table that holds the labels; default: label"""
    mask_suffix: str = ""
    """what a mask's name has after its image's: _mask for cat.jpg and cat_mask.png"""
    transposed: bool = False
    """the images of IDX files are stored column by column, as EMNIST's are"""

    def changed(self) -> dict[str, str | bool]:
        """The options that are not the default."""
        return {field.name: getattr(self, field.name) for field in fields(self) if getattr(self, field.name)}


def join_path(data: str, options: ReadOptions, dataset: str) -> str:
    """`--data` with the options behind it, as `split_path` reads them.

    Args:
        data: `official`, `sample` or a path.
        options: Of the user's own data.
        dataset: The task's data set.

    Raises:
        UsageError: An option does not apply to this data.
    """
    changed = options.changed()
    for name in changed:
        flag = f"--{name.replace('_', '-')}"
        if data in ("official", "sample"):
            raise UsageError(f"{flag} is for your own data: give --data PATH, too")
        if DATASETS[name] != dataset:
            raise UsageError(f"{flag} does not apply to this task: it is for {_describe(name)}")
    if not changed:
        return data
    return data + "?" + "&".join(f"{name.replace('_', '-')}={_encode(value)}" for name, value in changed.items())


def split_path(data: str) -> tuple[Path, ReadOptions]:
    """The path of `--data`, and the options behind it; a path that exists has none.

    Raises:
        FileNotFoundError: There is no such path.
    """
    path = Path(data).expanduser()
    if path.exists():
        return path, ReadOptions()
    name, mark, query = data.rpartition("?")
    known = {field.name: field for field in fields(ReadOptions)}
    values: dict[str, str | bool] = {}
    for part in query.split("&") if mark else ():
        key, _, value = part.partition("=")
        if key.replace("-", "_") not in known:
            break
        values[key.replace("-", "_")] = True if key == "transposed" else unquote(value)
    else:
        if mark and (path := Path(name).expanduser()).exists():
            return path, ReadOptions(**values)  # type: ignore[arg-type]
    raise FileNotFoundError(
        f"--data {name if values else data}: no such path; give official, sample, or the path of your own data"
    )


def _encode(value: str | bool) -> str:
    return "yes" if value is True else quote(str(value), safe="")


def _describe(name: str) -> str:
    return {"imdb": "tables of texts", "pets": "masks", "mnist": "IDX files"}[DATASETS[name]]
