"""The commands. Each imports what it needs itself, so that help is printed without loading torch."""

from __future__ import annotations

import dataclasses
import itertools
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from decathlon import __version__
from decathlon.cli import usage
from decathlon.cli.data import data_command
from decathlon.cli.flags import check_task, expand_home, parse, peek_option, split_flags, split_task
from decathlon.cli.grade import attempts_command, grade_command, start_command
from decathlon.cli.inspect import inspect_command
from decathlon.cli.options import All, Common, Compare, Demo, Evaluate, Export, List, Predict, Report, Scoreboard
from decathlon.cli.terminal import (
    print_export,
    print_output,
    print_predictions,
    print_result,
    print_table,
    print_text,
    stdout_for_result,
)
from decathlon.data.read_options import ReadOptions, join_path
from decathlon.errors import UsageError, nearest, require
from decathlon.messages import printable, say
from decathlon.tasks.base import PRETRAINING, base_recipe, choose_recipe, get_task, task_ids, tta_name

if TYPE_CHECKING:
    from decathlon.api import Model
    from decathlon.evaluation.predictions import Prediction

MAX_ERROR_LENGTH = 2000  # characters: class names and other text from files can be any length
RESUME_OPTIONS = ("--resume", "--data-dir", "--dry-run", "--json", "--debug", "--help")  # allowed beside --resume


def run_command(argv: list[str]) -> int:
    """Run one command. Returns the exit status: 0 done, 1 the work failed, 2 the command was wrong."""
    try:
        if not argv or argv[0] in ("-h", "--help", "help"):
            print(usage.ALL.format(tasks=", ".join(task_ids())))
            return 0 if argv else 2
        if argv[0] == "--version":
            print(f"decathlon {__version__}")
            return 0
        if argv[0] not in COMMANDS:
            raise UsageError(f"unknown command {argv[0]!r}{nearest(argv[0], COMMANDS)}")
        with stdout_for_result("--json" in argv):
            status = COMMANDS[argv[0]](expand_home(argv[1:]))
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else the interpreter prints an error when it flushes at exit
        print("decathlon: stopped: the output is closed", file=sys.stderr)
        return 1
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in argv:
            print("\n".join(map(printable, traceback.format_exc().splitlines())), file=sys.stderr)
        text = format_error(error)
        if not isinstance(error, (ValueError, OSError, RuntimeError, FloatingPointError, KeyboardInterrupt)):
            text = f"{type(error).__name__}: {text} (--debug shows where)"
        if isinstance(error, RuntimeError) and os.environ.get("WORLD_SIZE", "1") != "1":
            from decathlon.training import distributed

            text = distributed.explain_lost_connection() if distributed.is_lost_connection(error) else text
        print(f"decathlon: {text}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


def format_error(error: BaseException) -> str:
    """The error's message on one line, with escape sequences made visible and the middle of long ones left out."""
    text = printable(" ".join(str(error).split())) or type(error).__name__
    return (
        text if len(text) <= MAX_ERROR_LENGTH else f"{text[: MAX_ERROR_LENGTH // 2]} … {text[-MAX_ERROR_LENGTH // 2 :]}"
    )


def list_command(args: list[str]) -> int:
    """`decathlon list`."""
    options = parse(List, args, "list")
    names = [*task_ids(), *(PRETRAINING if options.pretraining or not options.json else ())]
    tasks = [get_task(name) for name in names]
    specs = [dataclasses.asdict(task.SPEC) | {"tta": tta_name(task, task.recipe())} for task in tasks]
    rows = [spec | {"bar": "none" if spec["bar"] is None else f"{100 * spec['bar']:g} %"} for spec in specs]
    print_output(specs, options.json, lambda: print_table(rows))
    return 0


def train_command(args: list[str]) -> int:
    """`decathlon train TASK`: every field of the task's recipe is an option."""
    all_ids = [*task_ids(), *PRETRAINING]
    task_id, rest = split_task(args, "train", all_ids)
    if task_id in ("-h", "--help"):
        print(usage.TRAIN.format(tasks=", ".join(task_ids()), pretraining=", ".join(PRETRAINING)))
        return 0
    check_task(task_id, all_ids)
    if task_id in PRETRAINING and peek_option(rest, "--model"):
        raise UsageError(
            f"--model: {task_id} takes no network of your own: its encoder must be a RoBERTa of transformers"
        )
    run_training(task_id, f"train {task_id}", rest)
    return 0


def run_training(task_id: str, prog: str, rest: list[str]) -> None:
    """Read the options of a training, train, and print the result."""
    task = get_task(task_id)
    from decathlon import api
    from decathlon.training import distributed, runner

    if peek_option(rest, "--resume"):
        flags = [word.partition("=")[0].replace("_", "-") for word in rest if word.startswith("--")]
        if forbidden := [flag for flag in flags if flag not in RESUME_OPTIONS]:
            raise UsageError(f"a resumed run keeps its recipe and options: {forbidden[0]} cannot be set with --resume")
    data = peek_option(rest, "--data")
    recipe_name = choose_recipe(task, data, peek_option(rest, "--recipe"))
    default = base_recipe(task, data, recipe_name)
    parts = {"options": runner.RunOptions(), "reading": ReadOptions(), "common": Common(), "recipe": default}
    fields = [
        (name, Annotated[type(value), arg(name="")], dataclasses.field(default=value, metadata={"flat": True}))
        for name, value in parts.items()
    ]
    parsed: Any = parse(dataclasses.make_dataclass("Train", fields, frozen=True), rest, prog)
    options = dataclasses.replace(
        parsed.options,
        data=join_path(parsed.options.data, parsed.reading, task.SPEC.dataset),
        recipe=None if recipe_name == "sample" else recipe_name,
    )
    result = api.train_and_report(task_id, parsed.recipe, options)
    if distributed.get_rank() == 0:
        print_output(result, parsed.common.json, lambda: None if options.dry_run else print_result(result))


def evaluate_command(args: list[str]) -> int:
    """`decathlon evaluate RUN`."""
    options = parse(Evaluate, args, "evaluate")
    if not options.run:
        raise UsageError("decathlon evaluate needs a run folder, runs/TASK/…, or a task")
    from decathlon.runs import bundled
    from decathlon.runs.load import latest_run
    from decathlon.training.runner import evaluate

    folder = bundled.folder(options.run) or (latest_run() if options.run == "latest" else Path(options.run))
    if not folder.is_dir():
        if options.run in task_ids():
            raise FileNotFoundError(f"no weights of {options.run} ship; name a run folder: runs/{options.run}/…")
        raise FileNotFoundError(f"{options.run!r} is neither a run folder nor a task{nearest(options.run, task_ids())}")
    result = evaluate(folder, options.data_dir).to_dict()
    print_output(result, options.json, lambda: print_result(result))
    return 0


def predict_command(args: list[str]) -> int:
    """`decathlon predict TASK INPUT…`: errors of inputs that cannot be read are printed at the end."""
    task_id, rest = split_task(args, "predict", task_ids())
    if task_id not in ("-h", "--help"):
        check_task(task_id, task_ids())  # before errors in the options
    options = parse(Predict, rest if task_id not in ("-h", "--help") else ["--help"], "predict TASK")
    if not options.inputs:
        raise UsageError(f"decathlon predict {task_id} needs at least one input")
    if options.onnx and options.run:
        raise UsageError("--run and --onnx: give one of them")
    dataset = get_task(task_id).SPEC.dataset
    if options.save and dataset not in ("pets", "voc"):
        raise UsageError("--save is for masks and boxes: this task's predictions are printed, with --json for programs")
    if options.text_column != "text" and dataset != "imdb":
        raise UsageError("--text-column does not apply to this task: it is for tables of texts")
    require("--batch-size", options.batch_size >= 1, "at least 1")
    model, description = load_model(task_id, options)
    inputs, errors = read_inputs(task_id, options.inputs, options.text_column)
    rows = list[dict[str, Any]]()
    # Texts are sorted by length in all; of images, which predictions hold, only a batch is kept at once.
    chunk = max(1, len(inputs)) if dataset == "imdb" else options.batch_size
    for start in range(0, len(inputs), chunk):
        part = inputs[start : start + chunk]
        for prediction in model.predict_each(part, device=options.device, batch_size=options.batch_size):
            if isinstance(prediction, Exception):
                errors.append(prediction)
            else:
                rows.append(prediction.to_dict() | save_files(prediction, options.save))
    if not rows and len(errors) == 1:
        raise errors[0]
    if rows:
        say(description)
        print_output(rows, options.json, lambda: print_predictions(rows, dataset == "imdb"))
    for error in errors:
        print(f"decathlon: {format_error(error)}", file=sys.stderr)
    return 1 if errors else 0


def load_model(task_id: str, options: Predict) -> tuple[Model, str]:
    """The network for `predict`, and a line that describes it."""
    from decathlon import api
    from decathlon.training.memory import keep_freed_memory

    keep_freed_memory()
    if options.onnx:
        from decathlon.data.io.files import check_file

        if check_file(options.onnx).suffix != ".onnx":
            raise UsageError(f"--onnx {options.onnx}: the name of an ONNX file ends in .onnx")
        model = api.load(options.onnx, task_id)
        return model, f"{task_id}, run by onnxruntime from {options.onnx}"
    from decathlon.runs import bundled
    from decathlon.runs.load import find_run

    folder = find_run(task_id, options.run)
    model = api.load(folder, task_id)
    if options.run is None and bundled.folder(task_id):
        return model, bundled.describe(bundled.card(task_id))
    return model, f"{task_id} as trained in {folder}"


def read_inputs(task_id: str, inputs: tuple[str, ...], column: str) -> tuple[list[str], list[Exception]]:
    """The inputs of `predict`: image files as they are; of text files, and of standard input (-), the texts in them."""
    if get_task(task_id).SPEC.dataset != "imdb":
        return list(inputs), []
    from decathlon.data.io import text_tables

    texts, errors = list[str](), list[Exception]()
    for value in inputs:
        try:
            texts += text_tables.read_reviews(value, column)
        except (OSError, ValueError) as error:
            errors.append(error)
    return texts, errors


def save_files(prediction: Prediction, folder: str | None) -> dict[str, list[str]]:
    """Write the overlays of a mask or of boxes, by default into the current folder. Returns what was written."""
    from decathlon.evaluation.predictions import Detections, Segmentation

    if not isinstance(prediction, (Detections, Segmentation)):
        return {}
    target = Path(folder or ".")
    target.mkdir(parents=True, exist_ok=True)
    return {"files": [str(path) for path in prediction.save(target, Path(prediction.input).stem)]}


def export_command(args: list[str]) -> int:
    """`decathlon export TASK`."""
    task_id, rest = split_task(args, "export", task_ids())
    if task_id not in ("-h", "--help"):
        check_task(task_id, task_ids())
    options = parse(Export, rest if task_id not in ("-h", "--help") else ["--help"], "export TASK")
    from decathlon.onnx.export import export
    from decathlon.runs.load import find_run

    folder, out = find_run(task_id, options.run), Path(options.out or f"{task_id}.{options.format}")
    result = export(folder, out, list(options.inputs))
    print_output(result, options.json, lambda: print_export(result))
    return 0


def all_command(args: list[str]) -> int:
    """`decathlon all`: continues after a task that fails, and reports it at the end."""
    options = parse(All, args, "all")
    if options.data not in ("official", "sample"):
        raise UsageError(f"decathlon all takes --data official or --data sample, not {options.data!r}")
    from decathlon import api
    from decathlon.reporting import cards, scoreboard
    from decathlon.training import runner
    from decathlon.training.loop import Interrupted

    results, failures = [], dict[str, str]()
    for name in task_ids():
        recipe_name = choose_recipe(get_task(name), options.data)
        recipe = dataclasses.replace(base_recipe(get_task(name), options.data, recipe_name), seed=options.seed)
        folder = Path(options.out, name, f"{options.data}-{scoreboard.timestamp()}-seed{options.seed}")
        kept_name = None if recipe_name == "sample" else recipe_name
        run_options = runner.RunOptions(options.data, options.data_dir, str(folder), kept_name)
        try:
            results.append(api.train_and_report(name, recipe, run_options))
        except Interrupted:
            raise
        except Exception as error:
            if options.debug:
                traceback.print_exc()
            failures[name] = format_error(error)
            say(f"{name} failed: {failures[name]}")
    rows = scoreboard.aggregate(results)
    page = cards.write(Path(options.out, "index.html"), results, failures, f"all tasks on {options.data} data")

    def print_scoreboard() -> None:
        print_table(scoreboard.format_rows(rows))
        print_text(f"Open {page.resolve()}")

    print_output(results, options.json, print_scoreboard)
    if failures:
        raise RuntimeError(f"failed: {', '.join(failures)}")
    return 0


def compare_command(args: list[str]) -> int:
    """`decathlon compare TASK TASK`: options of `decathlon train` are passed to both trainings."""
    names = list(itertools.takewhile(lambda word: not word.startswith("-"), args))
    own_flags = ("--data-dir", "--out", "--json", "--debug", "--help", "-h")
    own, training_flags = split_flags(args[len(names) :], own_flags)
    options = parse(Compare, [*names, *own], "compare")
    if len(options.sides) < 2:
        raise UsageError("decathlon compare needs two names first, each a task or a run folder")
    from decathlon.reporting.compare import compare, default_folder

    out = Path(options.out) if options.out else default_folder(options.sides)
    comparison = compare(options.sides, training_flags, out, options.data_dir)

    def print_findings() -> None:
        for sentence in comparison["findings"]:
            print_text(sentence)
        print_text(f"Open {Path(comparison['page']).resolve()}")

    print_output(comparison, options.json, print_findings)
    return 0


def scoreboard_command(args: list[str]) -> int:
    """`decathlon scoreboard`."""
    options = parse(Scoreboard, args, "scoreboard")
    from decathlon.reporting import scoreboard

    pages = Path(options.results).parent / "docs" / "tasks"
    links = {page.stem: os.path.relpath(page, Path(options.html or ".").parent) for page in pages.glob("*.md")}
    results = Path(options.results)
    rows = scoreboard.aggregate(scoreboard.read_summaries(results), links)
    rows = scoreboard.mark_changed_code(rows, scoreboard.read_waivers(results))
    if options.html:
        from decathlon.reporting import html

        html.overview(Path(options.html), rows, "mean ± standard deviation over seeds, test split")
    if options.write:
        scoreboard.write(Path(options.write), rows)
    if options.check:
        scoreboard.check(Path(options.check), rows)
    print_output(rows, options.json, lambda: print_table(scoreboard.format_rows(rows)))
    return 0


def report_command(args: list[str]) -> int:
    """`decathlon report RUN`."""
    options = parse(Report, args, "report")
    if not options.run:
        raise UsageError("decathlon report needs a run folder: runs/TASK/…")
    from decathlon.reporting import html
    from decathlon.runs import validate
    from decathlon.runs.load import latest_run

    folder = latest_run() if options.run == "latest" else Path(options.run)
    with html.naming_damaged_run(folder):
        path = html.write(folder, validate.summary(folder / "summary.json").to_dict())
    print_output({"report": str(path)}, options.json, lambda: print_text(path))
    if options.open:
        import webbrowser

        if not webbrowser.open(path.resolve().as_uri()):
            raise RuntimeError(f"no browser could be started: open {path.resolve()}")
    return 0


def demo_command(args: list[str]) -> int:
    """`decathlon demo`."""
    options = parse(Demo, args, "demo")
    if not 0 <= options.port <= 65535:
        raise UsageError("--port must be from 0 to 65535")
    from importlib.util import find_spec

    if find_spec("gradio") is None:
        raise RuntimeError("the demo needs Gradio: pip install 'decathlon[demo]'")
    from decathlon.demo import server

    server.serve(options.host, options.port, not options.no_browser)
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "list": list_command,
    "train": train_command,
    "evaluate": evaluate_command,
    "predict": predict_command,
    "export": export_command,
    "all": all_command,
    "compare": compare_command,
    "scoreboard": scoreboard_command,
    "report": report_command,
    "data": data_command,
    "inspect": inspect_command,
    "start": start_command,
    "grade": grade_command,
    "attempts": attempts_command,
    "demo": demo_command,
}
