"""The command line: help, exit statuses, one clear line for every mistake."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Command
from PIL import Image, ImageDraw
from resuming import interrupt_after

from decathlon.tasks.base import CURRICULUM, get_task, task_ids

FAST = ("train", "mnist-mlp", "--data", "sample", "--epochs", "1", "--out", "run")


def test_help_is_fast_and_needs_no_torch() -> None:
    code = (
        "import sys; from decathlon.cli.main import run_command; "
        "status = run_command(['--help']); sys.exit(3 if 'torch' in sys.modules else status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(task_id in done.stdout for task_id in task_ids())


def test_module_and_script_are_the_same_command() -> None:
    for command in ([sys.executable, "-m", "decathlon"], [Path(sys.executable).with_name("decathlon")]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert done.stdout.startswith("decathlon 0.")


def test_output_that_nobody_reads_ends_the_command_with_one_line() -> None:
    """As under `decathlon list --json | head -1`, once head has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "decathlon", "list", "--json"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.returncode == 1
    assert done.stderr.endswith("decathlon: stopped: the output is closed\n")  # at first use matplotlib may say a line
    assert "Traceback" not in done.stderr


def test_list_is_in_the_curriculums_order(decathlon: Command) -> None:
    rows = json.loads(decathlon("list", "--json").out)
    assert [row["id"] for row in rows] == task_ids()
    listed = [row["id"] for row in rows if row["id"] in CURRICULUM]
    assert listed == [name for name in CURRICULUM if name in listed]
    assert {row["id"]: row["tta"] for row in rows}["cifar10-cnn"] == "flip", "of the recipe"
    assert rows[0] | {"id": "mnist-mlp", "metric": "accuracy", "bar": 0.98} == rows[0]
    table = decathlon("list").out
    assert "99.3 %" in table
    assert table.strip().splitlines()[-1].startswith("roberta-mlm"), "pre-training is listed apart, at the end"
    ids = [row["id"] for row in json.loads(decathlon("list", "--json", "--pretraining").out)]
    assert ids == [*task_ids(), "roberta-mlm"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["trian", "mnist-mlp"], ["unknown command 'trian'", "'train'"]),
        (["train"], ["needs a TASK"]),
        (["train", "mnist-mpl"], ["unknown task 'mnist-mpl'", "'mnist-mlp'"]),
        (["evaluate", "--run", "x"], ["unknown flag '--run'; RUN stands without a flag"]),
        (["train", "mnist-mlp", "--epoch", "3"], ["unknown flag '--epoch'", "'--epochs'"]),
        (["train", "mnist-mlp", "--optimizer.lrr=3"], ["unknown flag '--optimizer.lrr'", "'--optimizer.lr'"]),
        (["train", "mnist-mlp", "--epochs", "many"], ["--epochs", "'many'"]),
        (["train", "mnist-mlp", "--epochs"], ["--epochs"]),
        (["train", "mnist-mlp", "--optimizer.name", "adm"], ["adm", "adamw"]),
        (["train", "mnist-mlp", "--precision", "half"], ["half", "bf16-mixed"]),
        (["train", "mnist-mlp", "cifar"], ["unknown argument 'cifar'"]),
        (["train", "mnist-mlp", "--epochs", "0"], ["--epochs", "at least 1"]),
        (["train", "mnist-mlp", "--batch-size", "-4"], ["--batch-size", "at least 1"]),
        (["train", "mnist-mlp", "--ema", "1.5"], ["--ema"]),
        (["train", "mnist-mlp", "--optimizer.lr", "nan"], ["--optimizer.lr"]),
        (["train", "mnist-mlp", "--optimizer.beta2", "1.5"], ["--optimizer.beta2"]),
        (["train", "mnist-mlp", "--warp-groups", "0"], ["--warp-groups", "at least 1"]),
        (["train", "mnist-mlp", "--hidden", "0"], ["--hidden", "at least 1"]),
        (["train", "mnist-mlp", "--shift", "nan"], ["--shift"]),
        (["train", "mnist-mlp", "--label-smoothing", "3"], ["--label-smoothing"]),
        (["train", "mnist-autoencoder", "--data", "sample", "--n-labelled", "5"], ["--n-labelled", "10"]),
        (["train", "mnist-mlp", "--devices", "0"], ["--devices"]),
        (["evaluate"], ["run folder"]),
        (["predict", "mnist-mlp"], ["at least one input"]),
        (["predict", "nothing", "x.png"], ["unknown task"]),
        (["all", "--data", "mine"], ["official"]),
        (["report"], ["run folder"]),
        (["data", "mnits"], ["unknown data set 'mnits'", "'mnist'"]),
    ],
)
def test_wrong_commands_end_with_2(command: list[str], words: list[str], decathlon: Command) -> None:
    answer = decathlon(*command)
    assert answer.status == 2, answer
    assert answer.out == ""
    for word in words:
        assert word in answer.error


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["train", "mnist-mlp", "--data", "no/such/folder"], ["no/such/folder", "sample"]),
        (["train", "mnist-mlp", "--resume", "nowhere"], ["nowhere", "no run folder"]),
        (["evaluate", "nowhere"], ["nowhere", "neither a run folder"]),
        (["predict", "mnist-mlp", "x.png", "--run", "latest"], ["no finished run", "decathlon train mnist-mlp"]),
        (["report", "nowhere"], ["nowhere"]),
        (["scoreboard"], ["no folder results"]),
    ],
)
def test_failed_work_ends_with_1(command: list[str], words: list[str], decathlon: Command) -> None:
    answer = decathlon(*command)
    assert answer.status == 1, answer
    for word in words:
        assert word in answer.error


@pytest.mark.parametrize("flag", ["--resume", "--model", "--data", "--data-dir", "--out", "--optimizer.name"])
def test_an_empty_value_is_no_value(flag: str, decathlon: Command) -> None:
    """`--resume "$RUN"` without RUN began a new training, `--model "$NET"` one of the task's own network."""
    for words in ([flag, ""], [f"{flag}="]):
        result = decathlon("train", "mnist-mlp", *words)
        assert result.status == 2
        assert flag in result.error
        assert not Path("runs").exists()
    assert decathlon("predict", "mnist-mlp", "digit.png", "--run", "").error.startswith("decathlon: --run has an empty")


def test_debug_shows_the_traceback(decathlon: Command) -> None:
    answer = decathlon("evaluate", "nowhere", "--debug")
    assert answer.status == 1
    assert "Traceback" in answer.err


def test_no_command_shows_help(decathlon: Command) -> None:
    answer = decathlon()
    assert answer.status == 2
    assert "train TASK" in answer.out


SEVERAL_COMMANDS = """
import json, sys
from decathlon.__main__ import main
for words in json.loads(sys.argv[1]):
    sys.argv[1:] = words
    try:
        status = main()
    except SystemExit as stop:
        status = stop.code
    print(f"exit status {status}", flush=True)
"""


def without_unicode(*commands: list[str]) -> tuple[list[str], list[str]]:
    """What each command prints in one process whose terminal has ASCII only, and the lines of its standard error."""
    command = [sys.executable, "-c", SEVERAL_COMMANDS, json.dumps(commands)]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    errors = [line for line in done.stderr.splitlines() if "building the font cache" not in line]  # where that is slow
    return done.stdout.split("exit status "), errors


def test_help_and_tables_on_a_terminal_without_unicode() -> None:
    commands = (
        ["predict", "--help"],
        ["train", "mnist-mlp", "--help"],
        ["scoreboard", "--results", str(ROOT / "results")],
    )
    printed, errors = without_unicode(*commands)
    assert len(printed) == len(commands) + 1
    for text in printed[:-1]:
        assert "None" not in text
        assert text.count("\n") > 10
    assert all(text.startswith("0\n") for text in printed[1:]), errors


def test_a_wrong_value_gets_one_line_on_a_terminal_without_unicode() -> None:
    reasons = {
        ("--optimizer.lr", "-1"): "--optimizer.lr must be a number above 0",
        ("--epochs", "x"): "--epochs: invalid literal for int() with base 10: 'x'",
        ("--optimizer.name", "x"): "--optimizer.name must be one of adamw, sgd, muon, not 'x'",
    }
    printed, errors = without_unicode(*(["train", "mnist-mlp", "--data", "sample", *flags] for flags in reasons))
    assert printed == ["", "2\n", "2\n", "2\n"]
    for line, reason in zip(errors, reasons.values(), strict=True):
        assert line.startswith(f"decathlon: {reason}")
        assert "--- " not in line


def test_flags_reach_the_recipe(decathlon: Command) -> None:
    flags = ("--hidden", "32", "--optimizer.lr", "0.002", "--seed", "5", "--batch_size", "100")
    plan = json.loads(decathlon("train", "mnist-mlp", "--data", "sample", "--dry-run", "--json", *flags).out)
    assert plan["parameters"] == 785 * 32 + 33 * 10
    assert plan["steps"] == 20 * (1375 // 100)
    done = decathlon(*FAST, *flags)
    assert done.status == 0, done.err
    recipe = json.loads(Path("run/config.json").read_text())["recipe"]
    assert (recipe["hidden"], recipe["optimizer"]["lr"], recipe["seed"]) == (32, 0.002, 5)
    changed = json.loads(Path("run/summary.json").read_text())["overrides"]
    assert changed == {"hidden": 32, "optimizer.lr": 0.002, "batch_size": 100, "epochs": 1}


def test_the_plan_knows_that_later_epochs_may_take_longer(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    task = get_task("mnist-mlp")
    batches = task.batches

    def slower(split: Any, recipe: Any, epoch: Any) -> Iterator[Any]:
        for batch in batches(split, recipe, epoch):
            time.sleep(0.1 * epoch.number)  # from 0 s in the first of three epochs to 0.2 s in the last
            yield batch

    monkeypatch.setattr(task, "batches", slower)
    plan = json.loads(decathlon("train", "mnist-mlp", "--data", "sample", "--epochs", "3", "--dry-run", "--json").out)
    assert 0.1 < plan["estimated_seconds"] / plan["steps"] < 0.2


def test_until_bar_stops_early(decathlon: Command) -> None:
    done = decathlon(
        "train", "mnist-mlp", "--data", "sample", "--epochs", "60", "--until-bar", "--out", "run", "--json"
    )
    summary = json.loads(done.out)
    assert summary["epochs"] < 60
    assert 0 < summary["seconds_to_bar"] <= summary["train_seconds"]
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["validation"]["accuracy"] >= 0.98
    assert all(line["validation"]["accuracy"] < 0.98 for line in lines[:-1])


def test_same_seed_same_metrics(decathlon: Command) -> None:
    for out in ("one", "two"):
        assert decathlon(*FAST[:-1], out).status == 0
    assert decathlon(*FAST[:-1], "three", "--seed", "1").status == 0
    first, second, third = (Path(out, "metrics.jsonl").read_text() for out in ("one", "two", "three"))
    assert first == second
    assert first != third


def test_the_result_is_printed(decathlon: Command) -> None:
    done = decathlon(*FAST)
    assert "test accuracy" in done.out
    assert "bar 98 %" in done.out
    assert "not a benchmark" in done.out
    assert "run/summary.json" in done.out
    assert "1,375 train, 125 validation, 297 test" in done.err
    assert "of training" in done.err


def test_all_trains_every_task(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here "every" is one task of three kinds; `make run` trains all ten."""
    from dataclasses import replace

    names = ["mnist-mlp", "imdb-textcnn", "pets-unet"]
    monkeypatch.setattr("decathlon.cli.main.task_ids", lambda: names)
    for name in names:
        task, short = get_task(name), replace(get_task(name).sample_recipe(), epochs=1)
        monkeypatch.setattr(task, "sample_recipe", lambda short=short: short)
    answer = decathlon("all", "--data", "sample", "--out", "everything")
    assert answer.status == 0, answer.err
    page = Path("everything/index.html").read_text()
    for name in names:
        assert name in answer.out
        assert f'href="{name}/sample-' in page
        (link,) = Path("everything", name).glob("*/report.html")
        assert str(link.relative_to("everything")) in page
    assert page.count("<polyline") == 0, "one epoch makes no curve"
    assert page.count("<img") + page.count('<div class="shot" tabindex="0">\n<p>') == len(names)
    assert "3 of 3 trained" in page


def test_all_goes_on_after_a_failure(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from decathlon.training import runner

    done = []

    def fake(name: str, recipe: object, options: object) -> dict[str, object]:
        done.append(name)
        raise ValueError("broken on purpose")

    monkeypatch.setattr(runner, "train", fake)
    answer = decathlon("all", "--data", "sample", "--out", "everything")
    assert answer.status == 1
    assert done == task_ids()
    assert f"failed: {', '.join(task_ids())}" in answer.error
    assert Path("everything/index.html").read_text().count("broken on purpose") == len(task_ids())


def test_ctrl_c_ends_all(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not go on with the next task, as it does after a failure."""
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        answer = decathlon("all", "--data", "sample", "--out", "everything", "--seed", "5")
    assert answer.status == 1
    assert "interrupted at step 3" in answer.error
    assert [path.name for path in Path("everything").iterdir()] == ["mnist-mlp"]
    assert next(Path("everything/mnist-mlp").iterdir()).name.endswith("-seed5")


def test_the_latest_run_is_taken(decathlon: Command, tmp_path: Path) -> None:
    from inputs import digit

    assert "there is no finished run in runs: train one" in decathlon("evaluate", "latest").err
    for seed in ("0", "1"):
        assert decathlon("train", "mnist-mlp", "--data", "sample", "--epochs", "1", "--seed", seed).status == 0
    answer = decathlon("predict", "mnist-mlp", digit(tmp_path), "--run", "latest")
    assert answer.status == 0, answer.err
    assert "seed1" in answer.err
    assert "looks inverted" in answer.out
    measured = json.loads(decathlon("evaluate", "latest", "--json").out)
    assert measured["seed"] == 1
    assert measured["value"] == json.loads(next(Path("runs").glob("*/*seed1/summary.json")).read_text())["value"]
    assert "seed1" in decathlon("report", "latest").out
    command = ("train", "mnist-mlp", "--data", "sample", "--epochs", "1", "--seed", "2", "--out", "runs/mine")
    assert decathlon(*command).status == 0
    assert json.loads(decathlon("evaluate", "latest", "--json").out)["seed"] == 2
    assert "runs/mine" in decathlon("predict", "mnist-mlp", digit(tmp_path), "--run", "latest").err
    assert "no finished run in runs/mnist-cnn" in decathlon("predict", "mnist-cnn", "x.png", "--run", "latest").err


def test_data_lists_what_is_found(decathlon: Command) -> None:
    rows = json.loads(decathlon("data", "--json").out)
    assert [row["data"] for row in rows] == list(dict.fromkeys(get_task(name).SPEC.dataset for name in task_ids()))
    (row,) = json.loads(decathlon("data", "mnist", "--json").out)
    assert row["data"] == "mnist"
    assert row["available"] is False
    assert "train-images-idx3-ubyte" in row["contents"]


def test_mixed_precision_trains(decathlon: Command) -> None:
    done = decathlon(*FAST, "--precision", "bf16-mixed", "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["overrides"]["precision"] == "bf16-mixed"
    assert json.loads(decathlon("evaluate", "run", "--json").out)["value"] == json.loads(done.out)["value"]


def test_makefile_has_the_targets_of_the_readme() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in ("run", "test", "setup", "check", "bench", "test-real"):
        assert f"\n{target}: " in makefile


def test_one_bad_input_of_several_does_not_silence_the_others(decathlon: Command) -> None:
    ImageDraw.Draw(digit := Image.new("L", (28, 28))).line((14, 4, 14, 24), fill=255, width=3)
    digit.save("one.png")
    done = decathlon("predict", "mnist-mlp", "one.png", "missing.png", "--json")
    assert done.status == 1
    assert [answer["input"] for answer in json.loads(done.out)] == ["one.png"]
    assert [line for line in done.err.splitlines() if "missing.png" in line] == [done.err.strip().splitlines()[-1]]
    alone = decathlon("predict", "mnist-mlp", "missing.png", "nothing.png")
    assert (alone.status, alone.out) == (1, "")
    assert alone.err.splitlines() == [f"decathlon: {name}.png: no such file" for name in ("missing", "nothing")]


def test_a_bad_input_lets_no_overlay_overwrite_another(decathlon: Command) -> None:
    for folder in ("a", "b"):
        Path(folder).mkdir()
        Image.new("RGB", (64, 48), "green").save(f"{folder}/x.png")
    done = decathlon("predict", "voc-retinanet", "a/x.png", "missing.png", "b/x.png", "--json", "--save", "out")
    assert done.status == 1
    paths = [path for prediction in json.loads(done.out) for path in prediction["files"]]
    assert len(set(paths)) == 2
    assert all(Path(path).exists() for path in paths)
    assert len(list(Path("out").iterdir())) == 2, "each input is saved once"


def test_standard_input_is_read_once(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a fine film\n"))
    done = decathlon("predict", "imdb-textcnn", "-", "missing.txt", "--json")
    assert done.status == 1
    assert [prediction["input"] for prediction in json.loads(done.out)] == ["a fine film"]
    assert done.err.endswith("there is no file missing.txt\n")


@pytest.mark.parametrize("task_id", ["imdb-textcnn", "imdb-roberta"])
def test_a_mistyped_file_name_is_no_review(task_id: str, decathlon: Command) -> None:
    done = decathlon("predict", task_id, "reveiws.txt")
    assert (done.status, done.out) == (1, "")
    assert "there is no file reveiws.txt" in done.err


def test_evaluate_says_what_it_takes(decathlon: Command) -> None:
    done = decathlon("evaluate", "mnist-mpl")
    assert done.status == 1
    assert "neither a run folder nor a task" in done.err
    assert "mnist-mlp" in done.err


def test_flags_are_found_by_their_last_part(decathlon: Command) -> None:
    assert "did you mean '--optimizer.lr'?" in decathlon("train", "mnist-mlp", "--lr", "0.1").err


@pytest.mark.parametrize(
    "command",
    [("train", "mnist-mlp"), ("predict",), ("compare",), ("demo",), ("start",), ("grade",), ("attempts",)],
)
def test_help_shows_no_none(command: tuple[str, ...], decathlon: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        decathlon(*command, "--help")
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "--json" in out
    assert "{None}" not in out


def test_json_stands_alone_beside_what_a_network_prints(decathlon: Command) -> None:
    Path("net.py").write_text(
        "from torch import nn\n\n"
        "class Net(nn.Sequential):\n"
        "    def forward(self, x):\n"
        "        print('shape', x.shape)\n"
        "        return super().forward(x)\n\n"
        "def net():\n"
        "    print('built')\n"
        "    return Net(nn.Flatten(), nn.Linear(784, 10))\n"
    )
    flags = ("--data", "sample", "--epochs", "1", "--model", "net.py:net", "--out", "run", "--json")
    trained = decathlon("train", "mnist-mlp", *flags)
    digit = Image.new("L", (28, 28))
    ImageDraw.Draw(digit).line((14, 4, 14, 24), fill=255, width=3)
    digit.save("digit.png")
    evaluated = decathlon("evaluate", "run", "--json")
    predicted = decathlon("predict", "mnist-mlp", "digit.png", "--run", "run", "--json")
    for answer in (trained, evaluated, predicted):
        assert json.loads(answer.out)
        assert "shape torch.Size" in answer.err
    assert "shape torch.Size" in decathlon("predict", "mnist-mlp", "digit.png", "--run", "run").out
