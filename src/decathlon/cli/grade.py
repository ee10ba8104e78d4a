"""`decathlon start`, `grade` and `attempts`: writing one's own network, checking it, and looking back."""

from __future__ import annotations

import ast
import dataclasses
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from decathlon.cli.flags import check_task, parse, peek_option
from decathlon.cli.options import Attempts, Common, Grade, Start
from decathlon.cli.terminal import print_output, print_table, print_text
from decathlon.data.read_options import ReadOptions, join_path
from decathlon.errors import UsageError, require
from decathlon.messages import say
from decathlon.tasks.base import base_recipe, get_task, task_ids

if TYPE_CHECKING:
    from decathlon.training.stages import Stage

MAX_DIFF_LINES = 12  # of the changes between two attempts that the list shows


def start_command(args: list[str]) -> int:
    """`decathlon start TASK`."""
    options = parse(Start, args, "start")
    if not options.task:
        raise UsageError(f"decathlon start needs a TASK; tasks: {', '.join(task_ids())}")
    check_task(options.task, task_ids())
    from decathlon.reporting.starter import write_starter

    paths = write_starter(options.task, Path(options.dir), options.overwrite)

    def print_next() -> None:
        print_text(f"{paths[0]}: write your network there; {paths[1]}: look at the data and train")
        print_text(f"check it: decathlon grade {shlex.quote(str(paths[0]))} --data sample")

    print_output({"files": [str(path) for path in paths]}, options.json, print_next)
    return 0


def grade_command(args: list[str]) -> int:
    """`decathlon grade net.py`: exit status 0 if all stages passed and the bar, where there is one, is cleared."""
    try:
        return _grade(args)
    except Exception as error:
        if "--json" in args:  # for programs that read the result whatever the exit status
            result = {"error": str(error) or type(error).__name__, "passed": False, "stages": []}
            print_output(result, True, lambda: None)
        raise


def _grade(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help"):
        if not args:
            raise UsageError("decathlon grade needs a file: net.py, or net.py:FUNCTION")
        parse(dataclasses.make_dataclass("Grade", _fields(None), frozen=True), ["--help"], "grade net.py")
    network, rest = args[0], args[1:]
    if network.startswith("-"):
        raise UsageError("decathlon grade needs a file first: net.py, or net.py:FUNCTION")
    network = network if ":" in Path(network).name else f"{network}:net"
    file = Path(network.rpartition(":")[0])
    if not file.is_file():
        raise UsageError(f"there is no file {str(file)!r}; decathlon start TASK writes one")
    task_id = peek_option(rest, "--task") or read_task(file)
    check_task(task_id, task_ids())
    task = get_task(task_id)
    recipe = base_recipe(task, peek_option(rest, "--data"))
    parsed: Any = parse(dataclasses.make_dataclass("Grade", _fields(recipe), frozen=True), rest, f"grade {file}")
    options: Grade = parsed.options
    require("--seeds", options.seeds >= 1, "at least 1")
    if options.quick and (options.seeds > 1 or options.reference):
        raise UsageError("--seeds and --reference are for the whole training, which --quick leaves out")
    from decathlon.reporting.grade import grade
    from decathlon.runs.records import RunOptions

    def report(stage: Stage) -> None:
        status = "passed" if stage.passed else "fix"
        line = f"{status:>6}  {stage.name:<12}  {stage.message}  ({stage.seconds:.1f} s)"
        (say if parsed.common.json else print_text)(line)

    data = join_path(options.data, parsed.reading, task.SPEC.dataset)
    run_options = RunOptions(data, options.data_dir)
    rest_of = options.out, report, options.quick, options.seeds, options.reference
    result = grade(network, task, parsed.recipe, run_options, *rest_of)
    print_output(result, parsed.common.json, lambda: print_grade(result))
    return 0 if result["passed"] else 1


def _fields(recipe: Any) -> list[tuple[str, Any, Any]]:
    """The fields of the dataclass of all options; without a recipe those that all tasks share."""
    parts = {"options": Grade(), "reading": ReadOptions(), "common": Common()} | ({"recipe": recipe} if recipe else {})
    return [
        (name, Annotated[type(value), arg(name="")], dataclasses.field(default=value, metadata={"flat": True}))
        for name, value in parts.items()
    ]


def read_task(file: Path) -> str:
    """The task that a file names, `TASK = "mnist-mlp"`; the file is not run.

    Raises:
        UsageError: It names none.
    """
    from decathlon.data.io import files

    text = files.read_text(file)
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError) as error:
        if named := re.search(r"""^TASK *= *["']([\w-]+)["']""", text, re.MULTILINE):
            return named[1]  # what is wrong the first stage says
        line = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
        raise UsageError(f"{file}: {getattr(error, 'msg', error)}{line}; and it names no task") from None
    for statement in statements:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            names = [target.id for target in statement.targets if isinstance(target, ast.Name)]
            if names == ["TASK"] and isinstance(statement.value.value, str):
                return statement.value.value
    raise UsageError(f'{file} names no task: write TASK = "mnist-mlp" into it, or give --task')


def print_grade(result: dict[str, Any]) -> None:
    """Print how the check ended, and the table beside the reference."""
    last = result["stages"][-1]
    compared = result["result"]
    if compared:
        print_table([_format_row(row) for row in compared["rows"]])
        if compared["note"]:
            print_text(compared["note"])
        if differing := compared["disagreements"]:
            print_text(
                f"they disagree on {differing['count']:,} of {differing['total']:,} test examples: yours is better on "
                f"{differing['yours_better']:,}, the reference on {differing['reference_better']:,}"
            )
            if differing["examples"]:
                print_table(differing["examples"][:6])
            if differing["file"]:
                print_text(differing["file"])
    if not last["passed"]:
        print_text(f"stopped at {last['name']!r}: fix it and grade again")
    elif last["name"] != "training":
        print_text("all quick stages passed; without --quick the whole training follows")
    else:
        words = {True: "cleared", False: "missed", None: "trained; there is no bar for this task on these data"}
        print_text(f"{result['task']} on {result['data']}: {words[result['cleared']]}")
    print_text(f"kept in {result['folder']}; decathlon attempts {result['task']} lists your attempts")


def _format_row(row: dict[str, Any]) -> dict[str, str]:
    """A row of the table for people: percentages, seconds, and what the spread is of."""
    spread = "" if row["spread"] is None else f" ± {100 * row['spread']:.2f} ({row['of']})"
    seconds = row["seconds_to_bar"]
    error = row["calibration_error"]
    return {
        "network": row["network"],
        f"test {row['metric']}": f"{100 * row['value']:.2f} %{spread}",
        "parameters": f"{row['parameters']:,}",
        "FLOPs per example": f"{row['flops']:,}",
        "training": f"{row['train_seconds']:.1f} s",
        "to the bar": "–" if seconds is None else f"{seconds:.1f} s",
        "calibration error": "–" if error is None else f"{100 * error:.1f} %",
    }


def attempts_command(args: list[str]) -> int:
    """`decathlon attempts TASK`."""
    options = parse(Attempts, args, "attempts")
    if not options.task:
        raise UsageError(f"decathlon attempts needs a TASK; tasks: {', '.join(task_ids())}")
    check_task(options.task, task_ids())
    from decathlon.runs.attempts import attempts_folder, list_attempts

    folder = attempts_folder(options.out, options.task)
    rows = list_attempts(folder)
    if not rows:
        raise FileNotFoundError(f"there are no attempts in {folder}: decathlon grade net.py makes one")
    print_output(rows, options.json, lambda: print_attempts(rows))
    return 0


def print_attempts(rows: list[dict[str, Any]]) -> None:
    """Print each attempt: what changed in the file since the one before, and how far it came."""
    for row in rows:
        changes = [line for line in row["diff"] if not line.startswith("@@")]
        for line in changes[:MAX_DIFF_LINES]:
            print_text(f"      {line}")
        if len(changes) > MAX_DIFF_LINES:
            print_text(f"      … {len(changes) - MAX_DIFF_LINES} more lines")
        if row["number"] > 1 and not changes:
            print_text("      (the file did not change)")
        last = row["stages"][-1] if row["stages"] else {"name": "interrupted", "passed": False, "message": ""}
        status = "fix" if not last["passed"] else "passed" if row.get("passed", True) else "interrupted after"
        which = f"{row['number']:>3}  {row.get('time', ''):<19}  {row.get('file', '')}"
        print_text(f"{which}  {status}  {last['name']}: {last['message']}")
