"""Reading a command's arguments: tyro makes the flags from a dataclass; every mistake becomes a one-line UsageError."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro
from tyro import _errors as events  # tyro's hook for parse errors: private, so constraints.txt pins the version

from decathlon.errors import UsageError, nearest

T = TypeVar("T")
CONFIG = (tyro.conf.FlagCreatePairsOff,)


def parse(options_type: type[T], args: list[str], prog: str) -> T:
    """Read a command's options into a dataclass; `--help` prints them and exits.

    Raises:
        UsageError: One line says which option is wrong; an unknown one gets the nearest name.
    """

    def raise_usage_error(event: events.ParseErrorEvent) -> None:
        raise UsageError(f"{describe(event)} (see decathlon {prog} --help)")

    with events.on_parse_error(raise_usage_error):
        options, unknown = tyro.cli(
            options_type,
            args=args,
            prog=f"decathlon {prog}",
            config=CONFIG,
            registry=make_registry(),
            return_unknown_args=True,
        )
    if unknown:
        word = unknown[0].partition("=")[0]
        hint = nearest(word, sorted(flag_names(options))) if word.startswith("-") else ""
        if word in flag_names(options):  # of a positional argument
            hint = f"; {word[2:].upper()} stands without a flag"
        kind = "flag" if word.startswith("-") else "argument"
        raise UsageError(f"unknown {kind} {word!r}{hint} (see decathlon {prog} --help)")
    if empty := find_empty(options):
        raise UsageError(f"{empty} has an empty value: leave it out, or is a variable of the shell not set?")
    return options


def find_empty(options: Any, prefix: str = "--") -> str:
    """The first flag whose value is empty, without being so by default; "" where there is none."""
    for field in dataclasses.fields(options):
        value, flag = getattr(options, field.name), prefix + field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            if empty := find_empty(value, prefix if field.metadata.get("flat") else f"{flag}."):
                return empty
        elif value == "" and field.default != "":
            return flag
    return ""


def expand_home(args: list[str]) -> list[str]:
    """Arguments with `~` in `--out=~/run` replaced: a shell leaves it where it follows a `=`."""
    parts = [(word, *word.partition("=")) for word in args]
    return [
        f"{flag}={Path(value).expanduser()}" if flag.startswith("--") and value.startswith("~/") else word
        for word, flag, _, value in parts
    ]


def describe(event: events.ParseErrorEvent) -> str:
    """Describe in one line why tyro rejects the arguments."""
    if isinstance(event, events.InvalidChoice):
        choices = ", ".join(event.choices)
        return f"{event.argument.display_name()} must be one of {choices}, not {event.value!r}"
    if isinstance(event, events.BadValue):
        return f"{event.argument.display_name()} needs a value"
    if isinstance(event, events.InstantiationFailure):
        name = f"{event.argument.display_name()}: " if event.argument else ""
        return name + " ".join(str(event.message).split())
    return f"the arguments are wrong ({type(event).__name__})"


def make_registry() -> tyro.constructors.ConstructorRegistry:
    """A registry of tyro's rules in which an empty default (None, "", ()) stays out of the help."""
    registry, active = tyro.constructors.ConstructorRegistry(), False

    @registry.struct_rule
    def hide_empty_defaults(
        info: tyro.constructors.StructTypeInfo,
    ) -> tyro.constructors.StructConstructorSpec | None:
        nonlocal active
        if active:
            return None
        active = True  # so that the call below finds tyro's own rule, not this one again
        try:
            spec = registry.get_struct_spec(info)
        finally:
            active = False
        if not isinstance(spec, tyro.constructors.StructConstructorSpec):
            return None
        fields = tuple(dataclasses.replace(field, type=hide_default(field)) for field in spec.fields)
        return dataclasses.replace(spec, fields=fields)

    return registry


def hide_default(field: tyro.constructors.StructFieldSpec) -> Any:
    """The field's type; where the default is empty, without `(default: None)` and `{None}|STR` in the help."""
    if field.default is None:
        return Annotated[field.type, tyro.conf.arg(metavar="STR", help_behavior_hint="")]
    if field.default in ("", ()):
        return Annotated[field.type, tyro.conf.arg(help_behavior_hint="")]
    return field.type


def flag_names(options: Any, prefix: str = "--") -> set[str]:
    """The flags of a dataclass, those of dataclasses in it (`--optimizer.lr`) included."""
    names = set()
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if not dataclasses.is_dataclass(value):
            names.add(prefix + field.name.replace("_", "-"))
        elif field.metadata.get("flat"):
            names |= flag_names(value, prefix)
        else:
            names |= flag_names(value, f"{prefix}{field.name.replace('_', '-')}.")
    return names


def split_task(args: list[str], prog: str, tasks: list[str]) -> tuple[str, list[str]]:
    """Split off the task that a command names first.

    Raises:
        UsageError: There is none.
    """
    if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help")):
        raise UsageError(f"decathlon {prog} needs a TASK first; tasks: {', '.join(tasks)}")
    return args[0], args[1:]


def check_task(task_id: str, tasks: list[str]) -> None:
    """Raise UsageError, with the nearest name, where a task is none of these."""
    if task_id not in tasks:
        raise UsageError(f"unknown task {task_id!r}{nearest(task_id, tasks)}")


def peek_option(args: list[str], flag: str) -> str:
    """Read the value of an option before the others are parsed: the recipe whose fields they are depends on it.

    Of an option that is given twice the last value counts, as everywhere.
    """
    value = ""
    for index, word in enumerate(args):
        if word == flag and index + 1 < len(args):
            value = args[index + 1]
        elif word.startswith(f"{flag}="):
            value = word.partition("=")[2]
    return value


def split_flags(args: list[str], names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Split arguments into the options with these names, each with its values, and all others."""
    selected, rest, current = list[str](), list[str](), list[str]()
    for word in args:
        if word.startswith("-") and not word[1:2].isdigit():
            current = selected if word.partition("=")[0].replace("_", "-") in names else rest
        current.append(word)
    return selected, rest
