"""`decathlon compare`: two tasks or runs on one page."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import real_inputs
from conftest import Command
from resuming import interrupt_after

from decathlon.cli.flags import split_flags
from decathlon.errors import UsageError
from decathlon.reporting import compare as compare_module
from decathlon.reporting.compare import best_until, default_folder, distinct_names, findings, group_runs, train_side


def points(*values: float, seconds: float = 10.0) -> list[dict[str, float]]:
    return [{"epoch": n, "seconds": n * seconds, "value": value} for n, value in enumerate(values, 1)]


def test_two_tasks_are_trained_and_compared(decathlon: Command) -> None:
    command = ["compare", "mnist-mlp", "mnist-cnn", "--data", "sample", "--epochs", "1", "--out", "both", "--json"]
    done = decathlon(*command)
    assert done.status == 0, done.err
    comparison = json.loads(done.out)
    first, second = comparison["runs"]
    assert (first["task"], second["task"], comparison["data"]) == ("mnist-mlp", "mnist-cnn", "mnist-sample")
    for run in comparison["runs"]:
        summary = json.loads(Path(run["folder"], "summary.json").read_text())
        assert run["value"] == summary["value"]
        assert summary["epochs"] == 1, "the options of train reached the training"
        assert run["training_memory_mib"] >= 0
        assert run["evaluation_per_second"] > 0
        assert len(run["curve"]) == 1
    weights = 28 * 28 * 160 + 160 * 160 + 160 * 10
    assert first["multiplications"] > weights / 3, "matrices are multiplied once for each example"
    page = Path(comparison["page"]).read_text()
    assert page.count("data:image/png;base64") >= 3
    assert "http" not in page
    for sentence in comparison["findings"]:
        assert sentence.split(":")[0] in page
    before = Path(first["folder"], "summary.json").stat().st_mtime_ns
    again = decathlon(*command)
    assert again.status == 0, again.err
    board = json.loads(decathlon("scoreboard", "--results", ".", "--json").out)
    assert len(board) == 2, "compare's own files are left out"
    assert Path(first["folder"], "summary.json").stat().st_mtime_ns == before, "finished runs are reused"
    same = decathlon("compare", first["folder"], second["folder"], "--out", "runs-only", "--json")
    assert same.status == 0, same.err
    assert json.loads(same.out)["runs"][0]["value"] == first["value"]


def test_comparisons_of_runs_of_one_name_have_folders_of_their_own() -> None:
    assert default_folder(("mnist-mlp", "mnist-cnn")) == Path("runs/compare/mnist-mlp-mnist-cnn")
    folders = [default_folder((f"runs/{a}/seed0", f"runs/{b}/seed0")) for a, b in ("ab", "cd")]
    assert folders == [Path("runs/compare/a-seed0-b-seed0"), Path("runs/compare/c-seed0-d-seed0")]


def side(name: str, curve: list[dict[str, float]], *values: float) -> dict[str, Any]:
    return {"name": name, "task": name, "curve": curve, "values": list(values or (0.5,)), "violations": []}


def test_findings_say_who_is_ahead_when() -> None:
    slow = side("slow", points(0.5, 0.7, 0.9, seconds=100), 0.91)
    fast = side("fast", points(0.4, 0.6, 0.65, 0.68, seconds=10), 0.67)
    sentences = findings([slow, fast], "map")
    assert sentences[0] == (
        "Test map: slow 91.00 % (n = 1), fast 67.00 % (n = 1); difference +24.00 points. "
        "With n = 1 the spread is unknown: the difference may be chance."
    )
    assert (
        sentences[1]
        == "After 3 epochs, where the shorter run ends, the best validation map: slow 90.00 %, fast 65.00 %."
    )
    assert "After 40 s" in sentences[2]
    assert "slow no value yet, fast 68.00 %" in sentences[2]
    assert sentences[3] == "slow passes the best of fast (68.00 %) after 2 epochs and 200 s of training."
    assert sentences[4] == "fast never passes the best of slow (90.00 %)."
    assert best_until(points(0.9, 0.2), "epoch", 2) == 0.9
    assert best_until(points(0.9), "seconds", 9) is None


def test_several_runs_give_the_spread_of_the_difference() -> None:
    rows = [side("a", points(0.5), 0.52, 0.50, 0.54), side("b", points(0.5), 0.40, 0.44, 0.42)]
    assert findings(rows, "map")[0] == (
        "Test map: a 52.00 ± 2.00 % (n = 3), b 42.00 ± 2.00 % (n = 3); difference +10.00 ± 2.83 points."
    )


def test_several_runs_are_grouped_by_task() -> None:
    names = {"a": "mnist-mlp", "b": "mnist-cnn", "c": "mnist-autoencoder"}

    def summaries(*tasks_and_seeds: tuple[str, int], **of_last: Any) -> list[tuple[Path, dict[str, Any]]]:
        runs = [
            (Path(str(number)), {"task": names[task], "seed": seed, "data": "mnist", "metric": "accuracy"})
            for number, (task, seed) in enumerate(tasks_and_seeds)
        ]
        runs[-1][1].update(of_last)
        return runs

    sides = group_runs(summaries(("a", 0), ("b", 0), ("a", 1)))
    assert [[str(folder) for folder, _ in side] for side in sides] == [["0", "2"], ["1"]]
    assert len(group_runs(summaries(("a", 0), ("a", 0)))) == 2, "two runs are compared, whatever they are of"
    with pytest.raises(UsageError, match="two tasks"):
        group_runs(summaries(("a", 0), ("b", 0), ("c", 0)))
    with pytest.raises(UsageError, match="same seed"):
        group_runs(summaries(("a", 0), ("b", 0), ("a", 0)))
    with pytest.raises(UsageError, match="the runs of mnist-mlp have different recipes: fast; epochs 1"):
        group_runs(summaries(("a", 0), ("b", 0), ("a", 1), overrides={"epochs": 1}))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["mnist-mlp"], "needs two names"),
        (["mnist-mlp", "mnist-cn"], "'mnist-cn' is neither a task nor a run folder"),
    ],
)
def test_wrong_names(words: list[str], complaint: str, decathlon: Command) -> None:
    done = decathlon("compare", *words)
    assert done.status == 2
    assert complaint in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_other_data_are_no_comparison(decathlon: Command) -> None:
    for task in ("mnist-mlp", "imdb-textcnn"):
        done = decathlon("train", task, "--data", "sample", "--epochs", "1", "--out", task)
        assert done.status == 0, done.err
    done = decathlon("compare", "./mnist-mlp", "./imdb-textcnn")
    assert done.status == 1
    assert "cannot be compared" in done.err
    done = decathlon("compare", "./mnist-mlp", "./imdb-textcnn", "--epochs", "3")
    assert done.status == 2
    assert "--epochs is for training" in done.err


def test_own_data_of_one_name_may_be_others(decathlon: Command) -> None:
    for folder, classes in (("a", ("blue", "red")), ("b", ("cat", "dog"))):
        real_inputs.classed(Path(folder) / "images", range(12), classes)
        trained = decathlon(
            *("train", "cifar10-skip", "--data", f"{folder}/images", "--out", f"run-{folder}", "--epochs", "1"),
            *("--channels", "8", "8", "8", "--batch-size", "8"),
        )
        assert trained.status == 0, trained.err
    done = decathlon("compare", "./run-a", "./run-b")
    assert done.status == 1
    assert "the classes of run-a are ['blue', 'red'], those of run-b ['cat', 'dog']" in done.err


def test_a_failed_training_is_reported(decathlon: Command) -> None:
    for epochs in ("-1", "-2"):  # the first one, which never began, leaves nothing that the second is held to
        done = decathlon("compare", "mnist-mlp", "mnist-cnn", "--data", "sample", "--epochs", epochs, "--out", "both")
        assert done.status == 2
        assert "the training of mnist-mlp failed" in done.err
        assert "checkpoint" not in done.err, "none was started"


def test_a_task_is_trained_on_the_data_of_the_run_beside_it(decathlon: Command) -> None:
    assert decathlon("train", "mnist-mlp", "--data", "sample", "--epochs", "1", "--out", "run").status == 0
    done = decathlon("compare", "./run", "mnist-cnn", "--epochs", "1", "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["data"] == "mnist-sample"


def test_a_task_takes_the_data_folder_of_the_run_beside_it(
    decathlon: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert decathlon("train", "mnist-mlp", "--data", "sample", "--epochs", "1", "--out", "run").status == 0
    values = json.loads(Path("run/config.json").read_text())
    values["options"]["data_dir"] = str(tmp_path / "big")
    Path("run/config.json").write_text(json.dumps(values))
    seen = []
    monkeypatch.setattr(compare_module, "train_side", lambda *given: seen.append(given) or Path("run"))
    compare_module.compare(("run", "mnist-mlp"), [], tmp_path / "both", None)
    assert seen[1][1] == ["--data", "sample"]
    assert seen[1][3] == str(tmp_path / "big")


@pytest.mark.parametrize("flag", ["--dry-run", "--resume=x"])
def test_options_that_give_no_run_are_refused(flag: str, decathlon: Command) -> None:
    done = decathlon("compare", "mnist-mlp", "mnist-cnn", "--data", "sample", flag)
    assert done.status == 2
    assert f"takes no {flag.partition('=')[0]}" in done.err


def test_an_interrupted_comparison_waits_for_its_checkpoint(tmp_path: Path) -> None:
    """Ctrl-C goes to the whole group of processes, as a terminal sends it; SIGTERM to `compare` alone."""
    command = [sys.executable, "-m", "decathlon", "compare", "mnist-mlp", "mnist-cnn", "--data", "sample"]
    for number, kill in ((signal.SIGINT, os.killpg), (signal.SIGTERM, os.kill)):
        out = tmp_path / number.name
        arguments = [*command, "--epochs", "400", "--out", str(out)]
        process = subprocess.Popen(arguments, start_new_session=True, stderr=subprocess.PIPE, text=True)
        while not (out / "mnist-mlp-1" / "checkpoint").exists() and process.poll() is None:
            time.sleep(0.05)
        kill(process.pid, number)
        error = process.communicate(timeout=60)[1]
        assert process.returncode == 1, error
        assert "interrupted at step" in error
        with pytest.raises(ProcessLookupError):  # no training is left over
            os.killpg(process.pid, 0)


def test_an_interrupted_training_of_a_comparison_is_resumed(
    decathlon: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--data", "sample", "--epochs", "2"]
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        assert decathlon("train", "mnist-mlp", *flags, "--out", "both/mnist-mlp-1").status == 1
    Path("both/mnist-mlp-1.options.json").write_text(json.dumps({"options": flags}))
    (checkpoint,) = Path("both/mnist-mlp-1/checkpoint").glob("*.json")
    began = Path("both/mnist-mlp-1/config.json").stat().st_mtime_ns
    done = decathlon("compare", "mnist-mlp", "mnist-cnn", "--out", "both", *flags)
    assert done.status == 0, done.err
    assert Path("both/mnist-mlp-1/config.json").stat().st_mtime_ns == began, "it was not begun again"
    assert not checkpoint.exists(), "it went on from there"


def test_flags_are_split() -> None:
    words = ["--out", "here", "--epochs", "3", "--optimizer.lr", "1e-3", "--json", "--data_dir=there"]
    assert split_flags(words, ("--out", "--json", "--data-dir")) == (
        ["--out", "here", "--json", "--data_dir=there"],
        ["--epochs", "3", "--optimizer.lr", "1e-3"],
    )


def test_two_runs_of_one_task_are_distinct_names() -> None:
    rows = [{"task": "mnist-mlp", "folder": f"runs/{name}", "network": None} for name in ("a", "b")]
    assert distinct_names(rows) == ["a", "b"]
    assert distinct_names([rows[0], rows[1] | {"folder": "old/a"}]) == ["runs/a", "old/a"]
    assert distinct_names([rows[0], rows[1] | {"task": "mnist-cnn"}]) == ["mnist-mlp", "mnist-cnn"]
    own = [rows[0], rows[1] | {"network": "net.py:net"}]
    assert distinct_names(own) == ["mnist-mlp (built in)", "mnist-mlp (net.py:net)"]


def test_own_network_is_named_and_does_not_count(decathlon: Command) -> None:
    Path("net.py").write_text(
        "from torch.nn import BatchNorm1d, Flatten, Linear, ReLU, Sequential\n"
        "def net(): return Sequential(Flatten(), Linear(784, 30), BatchNorm1d(30), ReLU(), Linear(30, 10))\n"
    )
    for out, flags in (("a", ()), ("b", ("--model", "net.py:net"))):
        trained = decathlon("train", "mnist-mlp", "--data", "sample", "--epochs", "1", "--out", out, *flags)
        assert trained.status == 0, trained.err
    done = decathlon("compare", "a", "b", "--out", "both")
    assert done.status == 0, done.err
    page = Path("both/compare.html").read_text()
    for text in (
        "<th>network</th><td>built in</td><td>net.py:net</td>",
        "mnist-mlp (net.py:net) does not count: it uses batch norm",
    ):
        assert text in page


def test_reused_run_must_have_the_same_options(tmp_path: Path) -> None:
    folder = tmp_path / "mnist-mlp-1"
    folder.mkdir()
    for name in ("config.json", "summary.json"):
        (folder / name).write_text("{}")
    (tmp_path / "mnist-mlp-1.options.json").write_text('{"options": ["--epochs", "3"]}')
    assert train_side("mnist-mlp", ["--epochs", "3"], folder, None) == folder
    with pytest.raises(UsageError, match="was trained with --epochs 3, not with --epochs 10: choose another --out"):
        train_side("mnist-mlp", ["--epochs", "10"], folder, None)
