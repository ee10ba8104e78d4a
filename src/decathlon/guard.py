"""Run folders as strangers make them: what they say is checked before anything is built from it or run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from torch import Tensor, nn

from decathlon import run
from decathlon.data import files

TRUST = "DECATHLON_TRUST_CODE"
CONFIG: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("task", "data"), (str,)),
    **dict.fromkeys(("recipe", "options", "meta"), (dict,)),
}
SIZES: dict[str, tuple[type, ...]] = dict.fromkeys(("train", "validation", "test"), (int,))
OPTIONS = {"data": (str,), "data_dir": (str, type(None)), "devices": (int,), "model": (str, type(None))}
NUMBER = (int, float)
# Fields of a summary that are read, with their types; those of `NEEDED` must be there.
SUMMARY: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("task", "data", "metric"), (str,)),
    **dict.fromkeys(("value", "train_seconds"), NUMBER),
    **dict.fromkeys(("bar", "seconds_to_bar"), (*NUMBER, type(None))),
    **dict.fromkeys(("seed", "parameters"), (int,)),
}
MORE: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("hardware", "device", "split"), (str,)),
    **dict.fromkeys(("commit", "encoder", "model"), (str, type(None))),
    **dict.fromkeys(("epochs", "steps", "threads", "devices"), (int,)),
    "passed": (bool, type(None)),
    "peak_memory_mib": (*NUMBER, type(None)),
}


def config(folder: Path) -> dict[str, Any]:
    """The config.json of a run folder.

    Raises:
        FileNotFoundError: It is no run folder.
        ValueError: The file is damaged, or holds what no training writes.
    """
    path = folder / "config.json"
    found = run.read_json(path)
    if not set(CONFIG) <= set(found):
        raise ValueError(f"{path} is damaged: it does not say {', '.join(CONFIG)}")
    check(found, CONFIG, path)
    check(found["options"], OPTIONS, path, needed=("data", "data_dir", "model"))
    check(found, {"sizes": (dict,)}, path)  # which older runs have not
    check(found.get("sizes", {}), SIZES, path)
    meta(found["meta"], path)
    return found


def meta(found: dict[str, Any], path: Path) -> None:
    """Raise ValueError, naming the file, where what prediction must know of the data is not what trainings write."""
    for name, value in found.items():
        plain = isinstance(value, (str, int, float, type(None)))
        if not plain and not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
            raise ValueError(f"{path} is damaged: {name!r} of meta is neither a text, a number nor a list of texts")
        if name in ("classes", "words"):
            files.class_names(value if isinstance(value, list) else [str(value)], path)
            if not isinstance(value, list) or not value:
                raise ValueError(f"{path} is damaged: its {name} are no list of texts")


def summary(path: Path, needed: tuple[str, ...] = ()) -> dict[str, Any]:
    """A run's summary.

    Args:
        path: The file.
        needed: Fields that must be there besides those every summary has.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is damaged, or holds what no training writes.
    """
    found = run.read_json(path)
    missing = [name for name in (*SUMMARY, *needed) if name not in found]
    if missing:
        raise ValueError(f"{path} is no run summary: it lacks {', '.join(missing)}")
    check(found, SUMMARY | MORE, path)
    metrics, rules, overrides = (found.get(name, kind()) for name, kind in PARTS.items())
    if not isinstance(metrics, dict) or not all(isinstance(value, NUMBER) for value in metrics.values()):
        raise ValueError(f"{path} is damaged: its metrics are no table of numbers")
    if not isinstance(rules, list) or not all(isinstance(rule, str) for rule in rules):
        raise ValueError(f"{path} is damaged: its broken_rules are no list of texts")
    if not isinstance(overrides, dict):
        raise ValueError(f"{path} is damaged: its overrides are no table")
    return found


PARTS: dict[str, Callable[[], Any]] = {"metrics": dict, "broken_rules": list, "overrides": dict}


def check(found: dict[str, Any], kinds: dict[str, tuple[type, ...]], path: Path, needed: tuple[str, ...] = ()) -> None:
    """Raise ValueError where a field that is there has another type than it must, or a needed one is not there."""
    for name, kind in kinds.items():
        if name not in found and name in needed:
            raise ValueError(f"{path} is damaged: it does not say {name}")
        value = found.get(name)
        if name in found and (not isinstance(value, kind) or (isinstance(value, bool) and bool not in kind)):
            raise ValueError(f"{path} is damaged: its {name} is {str(value)[:60]!r}")


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Turn what a page or table raises, for whose numbers others stand in a run folder, into a ValueError naming it."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ArithmeticError, TemplateError, UnicodeEncodeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{folder} is damaged: its files do not hold what a training writes ({reason[:200]})"
        ) from None


# --- The network ------------------------------------------------------------------------------------------------------


def built(build: Callable[[], nn.Module], weights: dict[str, Tensor], folder: Path, ours: bool) -> nn.Module:
    """The network that a run folder describes, with its weights.

    One of ours is first built without memory, and its shapes are held against those of the weights: what config.json
    says can so take no more memory than model.safetensors has bytes.

    Raises:
        ValueError: They describe no network, do not fit together, or a weight is no number.
    """
    place = folder / "model.safetensors"
    try:
        if ours:
            with torch.device("meta"):
                shapes = {name: tuple(tensor.shape) for name, tensor in build().state_dict().items()}
            found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
            if odd := sorted(name for name in shapes.keys() | found.keys() if shapes.get(name) != found.get(name)):
                told = f"{odd[0]} should be {shapes.get(odd[0], 'absent')}, and is {found.get(odd[0], 'absent')}"
                raise Unfit(f"{place} does not fit the network: {told}")
        model = build()
    except Unfit:
        raise
    except Exception as error:  # each network fails in its own way where sizes make no sense
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{folder / 'config.json'} describes no network that can be built: {reason}") from None
    if bad := next((name for name, tensor in weights.items() if not bool(tensor.isfinite().all())), None):
        raise ValueError(f"{place} is damaged: {bad} holds what are no numbers")
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{place} does not fit the network: {error}") from None
    return model


class Unfit(ValueError):
    """Weights are of another network."""


# --- Code that a run brings along -------------------------------------------------------------------------------------


def remember(path: Path) -> None:
    """Note that the user has trained with this file, so that runs that brought it along may run it again."""
    mark = _mark(path)
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError:
        return  # then they will have to say so


def own_code(path: Path) -> Path:
    """The network file of a run folder, where the user has trained with it on this machine or says that it may run.

    Raises:
        ValueError: It is a stranger's; says what to do.
    """
    if os.environ.get(TRUST) != "1" and not _mark(path).exists():
        raise ValueError(
            f"{path} is a program, and nobody has trained with it here: read it, and set {TRUST}=1 if it may run"
        )
    return path


def _mark(path: Path) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "decathlon" / "trusted" / hashlib.sha256(files.content(path)).hexdigest()
