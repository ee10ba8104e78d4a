"""The commands. torch is imported by the commands that need it, so that help comes at once."""

from __future__ import annotations

import dataclasses
import itertools
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from decathlon import __version__, usage
from decathlon.flags import first, one_of, parse, peek, split_flags
from decathlon.options import (
    All,
    Common,
    Compare,
    DataOptions,
    Demo,
    Evaluate,
    Export,
    List,
    Predict,
    Report,
    Scoreboard,
)
from decathlon.recipe import PRETRAINING, UsageError, base_recipe, get_task, nearest, pretraining_ids, task_ids
from decathlon.terminal import print_answers, print_export, print_result, show, shown, table, tell

LONGEST = 2000  # characters of a complaint: files can name things as long as they are
RESUMING = ("--resume", "--data-dir", "--dry-run", "--json", "--debug", "--help")  # what may stand beside --resume


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
        status = COMMANDS[argv[0]](argv[1:])
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read the output has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else the interpreter complains when it flushes at its end
        print("decathlon: stopped, since nothing reads its output any more", file=sys.stderr)
        return 1
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in argv:
            print("\n".join(map(shown, traceback.format_exc().splitlines())), file=sys.stderr)
        text = one_line(error)
        if not isinstance(error, (ValueError, OSError, RuntimeError, FloatingPointError, KeyboardInterrupt)):
            text = f"{type(error).__name__}: {text} (--debug shows where)"
        if isinstance(error, RuntimeError) and os.environ.get("WORLD_SIZE", "1") != "1":
            from decathlon import processes

            text = processes.farewell() if processes.lost(error) else text
        print(f"decathlon: {text}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


def one_line(error: BaseException) -> str:
    """What went wrong, without line breaks and whatever else a terminal would obey."""
    text = shown(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"


def list_command(args: list[str]) -> int:
    """`decathlon list`."""
    options = parse(List, args, "list")
    rows = [dataclasses.asdict(get_task(name).CARD) for name in task_ids()]
    words = [row | {"bar": "none" if row["bar"] is None else f"{100 * row['bar']:g} %"} for row in rows]
    show(rows, options.json, lambda: table(words))
    return 0


def train_command(args: list[str]) -> int:
    """`decathlon train TASK`: every field of the task's recipe is an option."""
    task_id, rest = first(args, "train", task_ids())
    if task_id in ("-h", "--help"):
        print(usage.TRAIN.format(tasks=", ".join(task_ids())))
        return 0
    one_of(task_id, task_ids())
    run_training(task_id, f"train {task_id}", rest)
    return 0


def pretrain_command(args: list[str]) -> int:
    """`decathlon pretrain TASK`: a training whose product, an encoder, goes into the run folder, too."""
    name, rest = first(args, "pretrain", pretraining_ids())
    if name in ("-h", "--help"):
        print(usage.PRETRAIN.format(tasks=", ".join(pretraining_ids())))
        return 0
    if name in task_ids() and name not in pretraining_ids():
        raise UsageError(f"{name} has no encoder to train; pretrain takes {', '.join(pretraining_ids())}")
    one_of(name, pretraining_ids())
    if peek(rest, "--model"):
        raise UsageError("--model is not for pre-training: its network has to be a RoBERTa that transformers loads")
    run_training(name + PRETRAINING, f"pretrain {name}", rest)
    return 0


def run_training(task_id: str, prog: str, rest: list[str]) -> None:
    """Read the options of a training, train, and tell the result; of a pre-training write the encoder, too."""
    task = get_task(task_id)
    from lightning_fabric.utilities import rank_zero_only

    from decathlon import train

    if peek(rest, "--resume"):
        typed = [word.partition("=")[0].replace("_", "-") for word in rest if word.startswith("--")]
        if clash := [word for word in typed if word not in RESUMING]:
            raise UsageError(f"a resumed run keeps its recipe and options: without --resume you may set {clash[0]}")
    default = base_recipe(task, peek(rest, "--data"))
    kind = dataclasses.make_dataclass(
        "Train",
        [
            ("options", Annotated[train.Options, arg(name="")], dataclasses.field(default=train.Options())),
            ("common", Annotated[Common, arg(name="")], dataclasses.field(default=Common())),
            ("recipe", Annotated[type(default), arg(name="")], dataclasses.field(default=default)),
        ],
        frozen=True,
    )
    chosen: Any = parse(kind, rest, prog)
    result = train.train(task_id, chosen.recipe, chosen.options)
    if task_id.endswith(PRETRAINING) and not chosen.options.dry_run:
        from decathlon import encoder

        rank_zero_only(encoder.export)(Path(result["folder"]))
    speak = rank_zero_only(show)  # of several processes one speaks
    speak(result, chosen.common.json, lambda: None if chosen.options.dry_run else print_result(result))


def evaluate_command(args: list[str]) -> int:
    """`decathlon evaluate RUN`."""
    options = parse(Evaluate, args, "evaluate")
    if not options.run:
        raise UsageError("decathlon evaluate needs a run folder, runs/TASK/…, or a task")
    from decathlon import shipped
    from decathlon.finished import evaluate

    folder = shipped.folder(options.run) or Path(options.run)
    if not folder.is_dir():
        if options.run in task_ids():
            raise FileNotFoundError(f"no weights of {options.run} ship; name a run folder: runs/{options.run}/…")
        raise FileNotFoundError(f"{options.run!r} is neither a run folder nor a task{nearest(options.run, task_ids())}")
    result = evaluate(folder, options.data_dir)
    show(result, options.json, lambda: print_result(result))
    return 0


def predict_command(args: list[str]) -> int:
    """`decathlon predict TASK INPUT…`."""
    task_id, rest = first(args, "predict", task_ids())
    if task_id not in ("-h", "--help"):
        one_of(task_id, task_ids())  # an unknown task is the first thing to say
    options = parse(Predict, rest if task_id not in ("-h", "--help") else ["--help"], "predict TASK")
    if not options.inputs:
        raise UsageError(f"decathlon predict {task_id} needs at least one input")
    from decathlon.data import say

    if options.onnx:
        if options.run:
            raise UsageError("--run and --onnx: give one of them")
        from decathlon.portable import open_file

        opened = open_file(Path(options.onnx), get_task(task_id))
        who = f"{task_id} as trained on {opened.data}, by onnxruntime from {options.onnx}"
        answers, failed = asked(
            lambda some: opened.task.predict(opened.network, some, opened.recipe, opened.meta), options.inputs
        )
    else:
        from decathlon import shipped
        from decathlon.finished import find_run, load_run

        folder = find_run(task_id, options.run)
        loaded = load_run(folder)
        who = f"{task_id} as trained on {loaded.config['data']} in {folder}"
        if options.run is None and shipped.folder(task_id):
            who = shipped.words(shipped.card(task_id))
        answers, failed = asked(
            lambda some: loaded.task.predict(loaded.model, some, loaded.recipe, loaded.config["meta"]), options.inputs
        )
    say(who)
    show(answers, options.json, lambda: print_answers(answers))
    for error in failed:
        print(f"decathlon: {one_line(error)}", file=sys.stderr)
    return 1 if failed else 0


def asked(
    predict: Callable[[list[str]], list[dict[str, Any]]], inputs: tuple[str, ...]
) -> tuple[list[dict[str, Any]], list[Exception]]:
    """The answers to all inputs that can be read, and what is wrong with the others. Raises where none can be."""
    try:
        return predict(list(inputs)), []
    except (OSError, ValueError):
        if len(inputs) == 1 or "-" in inputs:  # standard input cannot be read again
            raise
    good, failed = list[str](), list[Exception]()
    for each in inputs:
        try:
            predict([each])
            good.append(each)
        except (OSError, ValueError) as error:
            failed.append(error)
    if not good:
        raise failed[0]
    return predict(good), failed  # together: pictures of one name in two folders get two names


def export_command(args: list[str]) -> int:
    """`decathlon export TASK`."""
    task_id, rest = first(args, "export", task_ids())
    if task_id not in ("-h", "--help"):
        one_of(task_id, task_ids())
    options = parse(Export, rest if task_id not in ("-h", "--help") else ["--help"], "export TASK")
    from decathlon.export import export
    from decathlon.finished import find_run

    folder, out = find_run(task_id, options.run), Path(options.out or f"{task_id}.{options.format}")
    result = export(folder, out, list(options.inputs))
    show(result, options.json, lambda: print_export(result))
    return 0


def all_command(args: list[str]) -> int:
    """`decathlon all`: goes on after a task that fails, and says so at the end."""
    options = parse(All, args, "all")
    if options.data not in ("official", "sample"):
        raise UsageError(f"decathlon all takes --data official or --data sample, not {options.data!r}")
    from decathlon import report, scoreboard, train
    from decathlon.data import say
    from decathlon.fit import Interrupted

    results, failed = [], []
    for name in task_ids():
        recipe = dataclasses.replace(base_recipe(get_task(name), options.data), seed=options.seed)
        folder = Path(options.out, name, f"{options.data}-{scoreboard.stamp()}-seed{options.seed}")
        try:
            results.append(train.train(name, recipe, train.Options(options.data, options.data_dir, str(folder))))
        except Interrupted:
            raise
        except Exception as error:
            if options.debug:
                traceback.print_exc()
            failed.append(name)
            say(f"{name} failed: {one_line(error)}")
    links = {
        r["task"]: str(Path(r["folder"], "report.html").resolve().relative_to(Path(options.out).resolve()))
        for r in results
    }
    rows = scoreboard.rows(results, links)
    page = report.overview(Path(options.out, "index.html"), rows, f"all tasks on {options.data} data")

    def words() -> None:
        table(scoreboard.words(rows))
        tell(f"Open {page.resolve()}")

    show(results, options.json, words)
    if failed:
        raise RuntimeError(f"failed: {', '.join(failed)}")
    return 0


def compare_command(args: list[str]) -> int:
    """`decathlon compare TASK TASK`: options of `decathlon train` go to both trainings as they are."""
    sides = list(itertools.takewhile(lambda word: not word.startswith("-"), args))
    ours, theirs = split_flags(args[len(sides) :], ("--data-dir", "--out", "--json", "--debug", "--help", "-h"))
    options = parse(Compare, [*sides, *ours], "compare")
    if len(options.sides) != 2:
        raise UsageError("decathlon compare needs two names first, each a task or a run folder")
    from decathlon.compare import compare

    names = "-".join(Path(side).name for side in options.sides)
    out = Path(options.out or Path("runs", "compare", names))
    found = compare((options.sides[0], options.sides[1]), theirs, out, options.data_dir)

    def words() -> None:
        for sentence in found["findings"]:
            tell(sentence)
        tell(f"Open {Path(found['page']).resolve()}")

    show(found, options.json, words)
    return 0


def scoreboard_command(args: list[str]) -> int:
    """`decathlon scoreboard`."""
    options = parse(Scoreboard, args, "scoreboard")
    from decathlon import scoreboard

    pages = Path(options.results).parent / "docs" / "tasks"
    links = {page.stem: os.path.relpath(page, Path(options.html or ".").parent) for page in pages.glob("*.md")}
    rows = scoreboard.rows(scoreboard.read(Path(options.results)), links)
    if options.html:
        from decathlon import report

        report.overview(Path(options.html), rows, "mean ± standard deviation over seeds, test split")
    if options.write:
        scoreboard.write(Path(options.write), rows)
    if options.check:
        scoreboard.check(Path(options.check), rows)
    show(rows, options.json, lambda: table(scoreboard.words(rows)))
    return 0


def report_command(args: list[str]) -> int:
    """`decathlon report RUN`."""
    options = parse(Report, args, "report")
    if not options.run:
        raise UsageError("decathlon report needs a run folder: runs/TASK/…")
    from decathlon import guard, report

    with guard.reading(Path(options.run)):
        path = report.write(Path(options.run), guard.summary(Path(options.run, "summary.json")))
    show({"report": str(path)}, options.json, lambda: tell(path))
    return 0


def data_command(args: list[str]) -> int:
    """`decathlon data [NAME…]`."""
    options = parse(DataOptions, args, "data")
    first_task = {get_task(task_id).CARD.dataset: get_task(task_id) for task_id in reversed(task_ids())}
    for name in options.names:
        if name not in first_task:
            raise UsageError(f"unknown data set {name!r}{nearest(name, first_task)}")
    from decathlon.data import source

    where = source("official", options.data_dir, options.download)
    rows = []
    for name in options.names or list(first_task)[::-1]:
        try:
            data = first_task[name].load(where, first_task[name].recipe())
            sizes = ", ".join(f"{number:,} {split}" for split, number in data.sizes.items())
            rows.append({"data": name, "found": True, "folder": str(where.folder), "what": sizes})
        except (OSError, ValueError) as error:
            rows.append({"data": name, "found": False, "folder": str(where.folder), "what": str(error)})
    show(rows, options.json, lambda: table(rows))
    return 1 if options.download and not all(row["found"] for row in rows) else 0


def demo_command(args: list[str]) -> int:
    """`decathlon demo`."""
    options = parse(Demo, args, "demo")
    if not 0 <= options.port <= 65535:
        raise UsageError("--port must be from 0 to 65535")
    from importlib.util import find_spec

    if find_spec("gradio") is None:
        raise RuntimeError("the demo needs Gradio: pip install -c constraints.txt -e '.[demo]'")
    from decathlon.demo import server

    server.serve(options.host, options.port, not options.no_browser)
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "list": list_command,
    "train": train_command,
    "pretrain": pretrain_command,
    "evaluate": evaluate_command,
    "predict": predict_command,
    "export": export_command,
    "all": all_command,
    "compare": compare_command,
    "scoreboard": scoreboard_command,
    "report": report_command,
    "data": data_command,
    "demo": demo_command,
}
