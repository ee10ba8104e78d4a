"""Reading a command's arguments: tyro makes the flags from a dataclass, and what is wrong with them fits in a line."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from typing import TypeVar

import tyro

from decathlon.recipe import UsageError, nearest

T = TypeVar("T")


def parse(kind: type[T], args: list[str], prog: str) -> T:
    """Read a command's options into a dataclass.

    Raises:
        UsageError: One line says which option is wrong; an unknown one gets the nearest name.
    """
    said, config = io.StringIO(), (tyro.conf.FlagCreatePairsOff,)
    if {"-h", "--help"} & set(args):
        print(_help(kind, prog), end="")
        raise SystemExit(0)
    try:
        with contextlib.redirect_stderr(said):
            options, unknown = tyro.cli(
                kind, args=args, prog=f"decathlon {prog}", config=config, return_unknown_args=True
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        # tyro explains in a box, whose lines are dashes where the terminal knows no others; below the title, and above
        # the next rule, stands the reason.
        text = re.split(r"[├─]{5,}|-{5,}", re.sub(r"╭.*╮|^ *[A-Z][a-z ]+\n *-{5,}", "", said.getvalue()))[0]
        reason = re.sub(r"^Error parsing recipe[.\w]*: ", "", " ".join(text.replace("│", " ").split()))
        raise UsageError(f"{reason} (see decathlon {prog} --help)") from None
    if unknown:
        flags = re.findall(r"--[a-z][\w.-]*", _help(kind, prog))
        word = unknown[0].split("=")[0]
        hint = nearest(word, sorted(set(flags))) if word.startswith("-") else ""
        what = "flag" if word.startswith("-") else "argument"
        raise UsageError(f"unknown {what} {word!r}{hint} (see decathlon {prog} --help)")
    return options


def _help(kind: type, prog: str) -> str:
    """Tyro's help, without its `{None}|` before the type and `(default: None)` behind what may be left out."""
    said = io.TextIOWrapper(io.BytesIO(), encoding=sys.stdout.encoding or "utf-8", errors="replace")
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        tyro.cli(kind, args=["--help"], prog=f"decathlon {prog}", config=(tyro.conf.FlagCreatePairsOff,))
    said.seek(0)
    text = re.sub(r"\{None\}\|(\w+)\]", r"\1]", said.read())
    nothing = re.compile(r"\(default:[ │\n]+(None|'')?\)")
    text = nothing.sub(lambda found: re.sub(r"[^│\n]", " ", found[0]), text)
    text = re.sub(r"^│ +│\n", "", text, flags=re.MULTILINE)
    return re.sub(r"\{None\}\|(\w+)", lambda found: found[1].ljust(len(found[0])), text)


def first(args: list[str], prog: str, tasks: list[str]) -> tuple[str, list[str]]:
    """The task that a command names first, and the rest."""
    if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help")):
        raise UsageError(f"decathlon {prog} needs a TASK first; tasks: {', '.join(tasks)}")
    return args[0], args[1:]


def one_of(task_id: str, tasks: list[str]) -> None:
    """Raise UsageError, with the nearest name, where a task is none of these."""
    if task_id not in tasks:
        raise UsageError(f"unknown task {task_id!r}{nearest(task_id, tasks)}")


def peek(args: list[str], flag: str) -> str:
    """The value of an option before the options are parsed; here: which recipe the others start from."""
    for place, word in enumerate(args):
        if word == flag and place + 1 < len(args):
            return args[place + 1]
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return ""


def split_flags(args: list[str], names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Options with these names, and the others; what follows an option without being one is its value."""
    chosen, rest, place = list[str](), list[str](), list[str]()
    for word in args:
        if word.startswith("-") and not word[1:2].isdigit():
            place = chosen if word.partition("=")[0].replace("_", "-") in names else rest
        place.append(word)
    return chosen, rest
