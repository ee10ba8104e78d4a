"""Errors in the use of the package: wrong commands, names and option values."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """The command was wrong (exit status 2): an unknown task, flag or file name, or options that contradict."""


def require(flag: str, condition: bool, requirement: str) -> None:
    """Raise UsageError, `FLAG must be REQUIREMENT`, unless the condition holds."""
    if not condition:
        raise UsageError(f"{flag} must be {requirement}")


def nearest(unknown: str, names: Iterable[str]) -> str:
    """Suggest the most similar name: `; did you mean 'X'?`, or list all where none is similar."""
    names = list(names)
    # --lr means --optimizer.lr
    same_ending = [name for name in names if "." in name and name.rpartition(".")[2] == unknown.lstrip("-")]
    matches = same_ending[:1] or difflib.get_close_matches(unknown, names, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else f"; there are: {', '.join(names)}"
