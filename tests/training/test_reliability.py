"""What goes wrong while training loses nothing, and is said in one line."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command
from lightning_fabric.strategies.single_device import SingleDeviceStrategy
from resuming import interrupt_after
from safetensors.torch import load_file
from spoiled import idx

from decathlon.data.base import Split
from decathlon.models.mlp import MLP
from decathlon.tasks.base import get_task
from decathlon.training import checkpoint, loop, optim

pytestmark = pytest.mark.usefixtures("without_plots")

TRAIN = ("train", "mnist-mlp", "--data", "sample", "--hidden", "64")


def test_nan_stops_and_keeps_the_last_good_checkpoint(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    task, steps = get_task("mnist-mlp"), 0
    training_loss = task.training_loss

    def spoiled(model: torch.nn.Module, batch: Split, recipe: Any) -> dict[str, torch.Tensor]:
        nonlocal steps
        steps += 1
        losses = training_loss(model, batch, recipe)
        return {"loss": losses["loss"] * float("nan")} if steps == 4 + 30 else losses  # four are the estimate's

    with monkeypatch.context() as patch:
        patch.setattr(task, "training_loss", spoiled)
        answer = decathlon(*TRAIN, "--epochs", "3", "--out", "run")
    assert answer.status == 1
    assert "step 30 (epoch 2)" in answer.error
    assert "run/checkpoint/step-00000021.safetensors" in answer.error
    weights = load_file("run/checkpoint/step-00000021.safetensors")
    assert all(value.isfinite().all() for value in weights.values())
    assert not Path("run/summary.json").exists()
    assert decathlon("train", "mnist-mlp", "--resume", "run").status == 0


def test_a_far_too_high_learning_rate_is_reported(decathlon: Command) -> None:
    answer = decathlon(*TRAIN, "--optimizer.lr", "1e30", "--out", "run")
    assert answer.status == 1
    assert "--optimizer.lr" in answer.error


def test_resume_of_another_task_is_refused(decathlon: Command) -> None:
    assert decathlon(*TRAIN, "--epochs", "1", "--out", "run").status == 0
    for command in (("train", "mnist-cnn", "--resume", "run"), ("predict", "mnist-cnn", "x.png", "--run", "run")):
        answer = decathlon(*command)
        assert answer.status == 2
        assert "is a run of mnist-mlp, not of mnist-cnn" in answer.error


def test_resume_keeps_the_recipe(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, 5)
        assert decathlon(*TRAIN, "--epochs", "1", "--out", "run").status == 1
    for flag in (("--epochs", "7"), ("--epochs", "35"), ("--out", "x"), ("--model", "x.py:f"), ("--devices=2",)):
        answer = decathlon("train", "mnist-mlp", "--resume", "run", *flag)
        assert answer.status == 2
        assert "keeps its recipe" in answer.error
        assert flag[0].split("=")[0] in answer.error
    assert decathlon("train", "mnist-mlp", "--resume", "run").status == 0
    again = decathlon("train", "mnist-mlp", "--resume", "run", "--json")
    assert again.status == 0
    assert "finished already" in again.err
    assert json.loads(again.out)["epochs"] == 1


def test_a_resumed_run_may_find_its_data_elsewhere(
    decathlon: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, 5)
        assert decathlon(*TRAIN, "--epochs", "1", "--out", "run").status == 1
    before = sorted(Path("run").rglob("*"))
    plan = decathlon("train", "mnist-mlp", "--resume", "run", "--dry-run", "--json")
    assert plan.status == 0, plan.err
    assert json.loads(plan.out)["epochs"] == 1
    assert sorted(Path("run").rglob("*")) == before
    folder = tmp_path / "elsewhere"
    assert decathlon("train", "mnist-mlp", "--resume", "run", "--data-dir", folder).status == 0
    assert (folder / "sample").is_dir()


def test_ctrl_c_in_the_last_validation_counts(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        measure = loop.measure

        def press(*args: Any) -> dict[str, float]:
            os.kill(os.getpid(), signal.SIGINT)
            return measure(*args)

        patch.setattr(loop, "measure", press)
        answer = decathlon(*TRAIN, "--epochs", "1", "--out", "run")
    assert answer.status == 1
    assert "interrupted at step" in answer.error
    assert not Path("run/summary.json").exists()
    assert decathlon("train", "mnist-mlp", "--resume", "run").status == 0


def test_a_second_run_in_the_same_folder_is_refused(decathlon: Command) -> None:
    assert decathlon(*TRAIN, "--epochs", "1", "--out", "run").status == 0
    answer = decathlon(*TRAIN, "--epochs", "1", "--out", "run")
    assert answer.status == 2
    assert "holds a run already" in answer.error


@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "json"])
def test_a_damaged_checkpoint_falls_back(damage: str, decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, 50)
        assert decathlon(*TRAIN, "--epochs", "3", "--out", "run").status == 1
    last = checkpoint.latest_path(Path("run"))
    assert last is not None
    assert last.name == "step-00000050.safetensors"
    content = bytearray(last.read_bytes())
    if damage == "cut":
        last.write_bytes(content[:-100])
    elif damage == "flip":
        content[-50] ^= 1
        last.write_bytes(content)
    elif damage == "gone":
        last.unlink()
    else:
        last.with_suffix(".json").write_text("{")
    answer = decathlon("train", "mnist-mlp", "--resume", "run")
    assert answer.status == 0, answer.err
    assert "trying the one before" in answer.err
    assert decathlon(*TRAIN, "--epochs", "3", "--out", "whole").status == 0
    first, second = (load_file(Path(run, "model.safetensors")) for run in ("whole", "run"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert Path("whole/metrics.jsonl").read_text() == Path("run/metrics.jsonl").read_text()


def test_without_a_usable_checkpoint_it_starts_again(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, 50)
        assert decathlon(*TRAIN, "--epochs", "3", "--out", "run").status == 1
    for path in Path("run/checkpoint").glob("*.safetensors"):
        path.write_bytes(b"")
    answer = decathlon("train", "mnist-mlp", "--resume", "run")
    assert answer.status == 0, answer.err
    assert "starting from the beginning" in answer.err
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]


def test_until_bar_stops_at_the_bar_after_a_resume(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the checkpoint at the bar and before the summary: the resumed run must not train on."""
    command = ("train", "mnist-mlp", "--data", "sample", "--epochs", "60", "--until-bar", "--out")
    assert decathlon(*command, "whole").status == 0
    with monkeypatch.context() as patch:
        patch.setattr("decathlon.training.runner.finish", lambda *args: (_ for _ in ()).throw(OSError("killed here")))
        assert decathlon(*command, "run").status == 1
    assert decathlon("train", "mnist-mlp", "--resume", "run").status == 0
    first, second = (json.loads(Path(run, "summary.json").read_text()) for run in ("whole", "run"))
    assert first["epochs"] == second["epochs"] < 60
    assert first["value"] == second["value"]


def test_shares_of_weights_are_kept_when_only_the_end_is_missing(
    decathlon: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with FSDP: what is kept is a copy that gets the weights after each epoch, and here none is to come."""
    command = (*TRAIN, "--epochs", "2", "--ema", "0", "--out")
    assert decathlon(*command, "whole").status == 0
    monkeypatch.setattr("decathlon.training.prepare.ModelParallelStrategy", SingleDeviceStrategy)
    with monkeypatch.context() as patch:
        patch.setattr("decathlon.training.runner.finish", lambda *args: (_ for _ in ()).throw(OSError("killed here")))
        assert decathlon(*command, "run").status == 1
    assert decathlon("train", "mnist-mlp", "--resume", "run").status == 0
    first, second = (load_file(Path(run, "model.safetensors")) for run in ("whole", "run"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_long_epochs_are_saved_in_between(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("decathlon.training.loop.SAVE_EVERY", 0)
    steps = []
    save = checkpoint.save

    def spy(folder: Path, tensors: Any, state: checkpoint.State, task_id: str) -> None:
        steps.append(state.step)
        save(folder, tensors, state, task_id)

    monkeypatch.setattr(checkpoint, "save", spy)
    assert decathlon(*TRAIN, "--epochs", "6", "--out", "run").status == 0
    assert 50 in steps
    assert 100 in steps


def test_weights_that_are_no_numbers_are_not_kept(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last step of an epoch spoils the weights though its loss was a number."""

    def spoil(average: MLP, model: MLP, decay: float, step: int) -> None:
        optim.update_ema(average, model, decay, step)
        if step == 42:
            model.output.bias.data.fill_(float("inf"))

    monkeypatch.setattr("decathlon.training.loop.update_ema", spoil)
    answer = decathlon(*TRAIN, "--epochs", "3", "--out", "run")
    assert answer.status == 1
    assert "NaN or infinite at step 42" in answer.error
    assert "step-00000021" in answer.error


def test_sigkill_loses_nothing(decathlon: Command, tmp_path: Path) -> None:
    """Killed without warning while it trains: what is left resumes to the weights of a run nobody killed."""
    command = [sys.executable, "-m", "decathlon", *TRAIN, "--epochs", "12", "--batch-size", "16", "--out", "killed"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        deadline = time.monotonic() + 120
        while not list(Path("killed").glob("checkpoint/step-*.json")):
            assert running.poll() is None
            assert time.monotonic() < deadline, "no checkpoint within two minutes"
            time.sleep(0.02)
        running.kill()
    assert not Path("killed/summary.json").exists()
    assert decathlon("train", "mnist-mlp", "--resume", "killed").status == 0
    assert decathlon(*command[3:-1], "whole").status == 0
    first, second = (load_file(Path(run, "model.safetensors")) for run in ("whole", "killed"))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("out", ["/proc/decathlon", "file/below"])
def test_an_unwritable_folder_is_reported_before_training(out: str, decathlon: Command) -> None:
    Path("file").write_text("")
    answer = decathlon(*TRAIN, "--out", out)
    assert answer.status == 1
    assert out in answer.error
    assert "val accuracy" not in answer.err, "no training before the folder is known to be writable"


def test_a_full_disk_keeps_the_checkpoint(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on the size of files stands for the full disk: the writing fails in the same way."""
    with monkeypatch.context() as patch:
        interrupt_after(patch, 30)
        assert decathlon(*TRAIN, "--epochs", "2", "--out", "run").status == 1
    before = sorted(path.name for path in Path("run/checkpoint").iterdir())
    command = [sys.executable, "-m", "decathlon", "train", "mnist-mlp", "--resume", "run"]

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=full)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("decathlon: could not write run/checkpoint/")
    assert sorted(path.name for path in Path("run/checkpoint").iterdir()) == before
    assert decathlon("train", "mnist-mlp", "--resume", "run").status == 0


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_damaged_run_is_named(name: str, decathlon: Command) -> None:
    assert decathlon(*TRAIN, "--epochs", "1", "--out", "run").status == 0
    path = Path("run", name)
    path.write_bytes(path.read_bytes()[:20])
    answer = decathlon("evaluate", "run")
    assert answer.status == 1
    assert f"run/{name} is damaged" in answer.error


def test_an_unfinished_run_is_reported(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, 5)
        assert decathlon(*TRAIN, "--out", "run").status == 1
    answer = decathlon("evaluate", "run")
    assert answer.status == 1
    assert "--resume" in answer.error


def test_own_data_that_changed_since_are_reported(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluating goes on and says it; a resumed training, which could not be what it began as, does not."""
    own = ("train", "mnist-mlp", "--data", "own", "--hidden", "64", "--epochs", "2", "--batch-size", "10")

    def write(number: int) -> None:
        Path("own").mkdir(exist_ok=True)
        for part, count in {"train": number, "t10k": 10}.items():
            pixels = random.Random(part).randbytes(count * 28 * 28)  # all different: copies would be held out together
            Path(f"own/{part}-images-idx3-ubyte").write_bytes(idx(count, 28, 28)[: -len(pixels)] + pixels)
            Path(f"own/{part}-labels-idx1-ubyte").write_bytes(idx(count))

    write(60)
    done = decathlon(*own, "--out", "run")
    assert done.status == 0, done.err
    assert "(55 train, 5 validation, 10 test)" in done.err
    assert "classes (10): 0, 1, 2, 3, 4, 5, 6, 7, 8, 9" in done.err
    assert "2 epochs, 10 steps" in done.err
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        assert decathlon(*own, "--out", "unfinished").status == 1
    assert "the data are not those" not in decathlon("evaluate", "run").err
    write(48)
    second = decathlon("evaluate", "run")
    assert second.status == 0
    assert "the data are not those that run was trained on (train 55, now 44; validation 5, now 4)" in second.err
    answer = decathlon("train", "mnist-mlp", "--resume", "unfinished")
    assert answer.status == 1
    assert "the data are not those that unfinished was trained on" in answer.error
    assert "restore the data that it began with" in answer.error
    write(60)
    assert decathlon("train", "mnist-mlp", "--resume", "unfinished").status == 0


def test_a_number_is_reported_of_the_data_it_was_measured_on(decathlon: Command) -> None:
    assert decathlon(*TRAIN, "--epochs", "1", "--out", "run").status == 0
    for name in ("config.json", "summary.json"):  # as if it had been trained on another copy, and that were gone
        path = Path("run", name)
        path.write_text(json.dumps(json.loads(path.read_text()) | {"data": "mnist-older"}))
    answer = decathlon("evaluate", "run", "--json")
    assert "(data mnist-older, now mnist-sample)" in answer.err
    assert json.loads(answer.out)["data"] == "mnist-sample"
