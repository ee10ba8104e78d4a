"""What every task must do. The registry says which there are: a new file is tested without a line written here."""

from __future__ import annotations

import ast
import copy
import json
import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, Command
from inputs import INPUTS
from safetensors.torch import load_file

from decathlon import progress, run
from decathlon.data import Data, Epoch, Split, source, steps_per_epoch
from decathlon.optim import make_optimizers
from decathlon.recipe import Recipe, Task, differences, from_dict, get_task, task_ids, to_dict

SECTIONS = ["Recipe", "Data", "Model", "Step", "Evaluate", "Predict", "Show"]

pytestmark = pytest.mark.parametrize("task_id", task_ids())


def small(task_id: str) -> tuple[Task, Recipe, Data]:
    task = get_task(task_id)
    recipe = task.sample_recipe()
    return task, recipe, task.load(source("sample"), recipe)


def batch(task: Task, recipe: Recipe, data: Data) -> Any:
    return next(iter(task.batches(data.train, recipe, Epoch(seed=0, number=0))))


def test_file_has_its_parts(task_id: str) -> None:
    name = task_id.replace("-", "_")
    text = (ROOT / "src/decathlon/tasks" / f"{name}.py").read_text()
    found = [line.split()[2] for line in text.splitlines() if line.startswith("# --- ")]
    assert found == SECTIONS
    assert len(text.splitlines()) <= 250
    card = ast.get_docstring(ast.parse(text)) or ""
    for word in (f"`{task_id}`", "Network ", "Expected ", "Time ", f"decathlon train {task_id}"):
        assert word in card, f"the card of {task_id} does not say {word!r}"


def test_documented_and_proved(task_id: str) -> None:
    page = ROOT / "docs/tasks" / f"{task_id}.md"
    assert page.exists()
    summaries = [json.loads(path.read_text()) for path in (ROOT / "results" / task_id).glob("*.json")]
    proved = [s for s in summaries if s["counts"] and not s["overrides"]]
    if get_task(task_id).CARD.bar is None:  # hours a run: what was possible, its settings and their number stated
        assert any(s["counts"] for s in summaries), f"results/{task_id} proves no number"
        assert re.search(r"\bn = \d|\b(one|two|three|\d+) (seed|run)s?\b", page.read_text()), "of how many runs?"
    else:
        assert len({s["seed"] for s in proved}) >= 3, f"results/{task_id} proves no number over three seeds"
    assert all(s["task"] == task_id and s["split"] == "test" for s in summaries)
    assert task_id in (ROOT / "README.md").read_text()


def test_card(task_id: str) -> None:
    card = get_task(task_id).CARD
    assert card.id == task_id
    assert card.bar is None or 0 < card.bar < 1
    assert card.dataset in INPUTS, f"tests/inputs.py must say what an input of {card.dataset!r} is"


@pytest.mark.parametrize("kind", ["official", "sample"])
def test_network_keeps_its_promise(task_id: str, kind: str) -> None:
    task, recipe, data = small(task_id)
    made = task.model(task.recipe(), data.meta) if kind == "official" else task.model(recipe, data.meta, data.train)
    assert task.rules(made, data.meta) == []


def test_recipe_survives_json(task_id: str) -> None:
    task = get_task(task_id)
    for recipe in (task.recipe(), task.sample_recipe()):
        assert from_dict(task.recipe(), json.loads(json.dumps(to_dict(recipe)))) == recipe
    assert differences(task.recipe(), task.recipe()) == {}


def test_splits_do_not_overlap(task_id: str) -> None:
    _, _, data = small(task_id)
    parts = [data.train, data.validation, data.test]
    assert min(len(part) for part in parts) > 0
    if all(isinstance(part, Split) for part in parts):
        seen = [{example.numpy().tobytes() for example in part.inputs} for part in parts]
        # Equal pictures exist in any large set; a split that is part of another would share nearly all.
        for one, other in ((0, 1), (0, 2), (1, 2)):
            assert len(seen[one] & seen[other]) < 0.02 * len(seen[other])


def test_overfits_one_batch(task_id: str) -> None:
    task, recipe, data = small(task_id)
    torch.manual_seed(0)
    model = task.model(recipe, data.meta, data.train).train()
    examples = batch(task, recipe, data)
    optimizers = make_optimizers(model, replace(recipe.optimizer, weight_decay=0.0))
    losses = []
    for _ in range(60):
        torch.manual_seed(1)  # the same augmentation every time
        loss = task.step(model, examples, recipe)["loss"]
        model.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0], losses


def test_every_parameter_learns(task_id: str) -> None:
    task, recipe, data = small(task_id)
    model = task.model(recipe, data.meta, data.train).train()
    examples = batch(task, recipe, data)
    task.step(model, examples, recipe)["loss"].backward()
    still = [
        name
        for name, p in model.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.to_dense().any())
    ]
    assert still == []


def test_evaluation_is_repeatable(task_id: str) -> None:
    task, recipe, data = small(task_id)
    model = task.model(recipe, data.meta, data.train).eval()
    with torch.no_grad():
        first = task.evaluate(model, data, "validation", recipe)
        second = task.evaluate(copy.deepcopy(model), data, "validation", recipe)
    assert first == second
    assert task.CARD.metric in first
    assert all(isinstance(value, float) for value in first.values())


def blind(data: Data) -> Data:
    """The data without their test split."""
    return replace(data, test=None)  # type: ignore[arg-type]


RUNS: dict[str, tuple[Path, dict[str, Any], list[str]]] = {}


@pytest.fixture
def whole(
    task_id: str, decathlon: Command, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, dict[str, Any], list[str]]:
    """A run of two epochs on the sample that nobody interrupted, made once a task: folder, summary, splits read."""
    if task_id not in RUNS:
        task, asked, folder = get_task(task_id), list[str](), tmp_path_factory.mktemp(task_id) / "whole"
        evaluate, show = task.evaluate, task.show

        def spy(model: Any, data: Data, split: str, recipe: Recipe) -> dict[str, float]:
            asked.append(split)
            return evaluate(model, data if split == "test" else blind(data), split, recipe)

        with monkeypatch.context() as patch:
            patch.setattr(task, "evaluate", spy)
            patch.setattr(task, "show", lambda model, data, *rest: show(model, blind(data), *rest))
            done = decathlon("train", task_id, "--data", "sample", "--epochs", "2", "--out", folder, "--json")
        assert done.status == 0, done.err
        assert "could not be drawn" not in done.err, "the plots need no test split"
        RUNS[task_id] = folder, json.loads(done.out), asked
    return RUNS[task_id]


Whole = tuple[Path, dict[str, Any], list[str]]


def test_leaves_a_run_folder(task_id: str, whole: Whole) -> None:
    folder, summary, _ = whole
    assert run.read_json(folder / "summary.json") == {k: v for k, v in summary.items() if k != "folder"}
    assert (summary["epochs"], summary["counts"]) == (2, False)
    names = {path.name for path in folder.iterdir()}
    files = {"config.json", "environment.json", "metrics.jsonl", "timing.jsonl", "model.safetensors", "report.html"}
    assert names == files | {"checkpoint", "plots", "summary.json"}
    assert list((folder / "plots").glob("*.png"))
    assert "<img" in (folder / "report.html").read_text()
    assert "http" not in (folder / "report.html").read_text(), "the report must need nothing from elsewhere"
    assert list(folder.rglob("*.part")) == []


def test_test_split_is_read_once(task_id: str, whole: Whole) -> None:
    assert whole[2] == ["validation", "validation", "test"]


def test_evaluate_gives_the_same_numbers(task_id: str, whole: Whole, decathlon: Command) -> None:
    folder, summary, _ = whole
    again = decathlon("evaluate", folder, "--json")
    assert again.status == 0, again.err
    assert json.loads(again.out) == {k: v for k, v in summary.items() if k != "folder"}


def test_predicts(task_id: str, whole: Whole, decathlon: Command, tmp_path: Path) -> None:
    example = INPUTS[get_task(task_id).CARD.dataset](tmp_path)
    answer = decathlon("predict", task_id, example, "--run", whole[0], "--json")
    assert answer.status == 0, answer.err
    (found,) = json.loads(answer.out)
    assert found["input"] in example
    assert "label" in found
    assert abs(sum(found.get("probabilities", {"": 1.0}).values()) - 1) < 1e-4
    assert found["label"] in decathlon("predict", task_id, example, "--run", whole[0]).out


def test_resumes_bit_for_bit(task_id: str, whole: Whole, decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted in the middle of an epoch, then at its very end: the same weights and the same metrics."""
    _, recipe, data = small(task_id)
    steps = steps_per_epoch(data.train, recipe.batch_size)
    stops = [max(1, steps // 2), steps]
    update = progress.Rows.update

    def interrupt(rows: progress.Rows, state: Any, sums: Any) -> None:
        update(rows, state, sums)
        if stops and state.step == stops[0]:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(progress.Rows, "update", interrupt)
    command = ["train", task_id, "--data", "sample", "--epochs", "2", "--out", "parts"]
    while stops:
        broken = decathlon(*command)
        assert broken.status == 1
        assert f"interrupted at step {stops.pop(0)}" in broken.error
        assert "--resume parts" in broken.error
        assert not Path("parts/summary.json").exists()
        command = ["train", task_id, "--resume", "parts"]
    done = decathlon(*command)
    assert done.status == 0, done.err
    one, other = (load_file(folder / "model.safetensors") for folder in (whole[0], Path("parts")))
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert (whole[0] / "metrics.jsonl").read_text() == Path("parts/metrics.jsonl").read_text()


def test_dry_run_leaves_nothing(task_id: str, decathlon: Command, tmp_path: Path) -> None:
    plan = decathlon("train", task_id, "--data", "sample", "--dry-run", "--json")
    assert plan.status == 0, plan.err
    assert json.loads(plan.out)["task"] == task_id
    assert list(tmp_path.iterdir()) == []


def test_help_shows_the_recipe(task_id: str, decathlon: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        decathlon("train", task_id, "--help")
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for name in ("--epochs", "--optimizer.lr", "--seed", "--until-bar", "--data-dir"):
        assert name in text
