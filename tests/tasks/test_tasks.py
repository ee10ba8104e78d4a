"""What every task must do. The registry says which there are: a new file is tested without a line written here."""

from __future__ import annotations

import ast
import copy
import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import resuming
import torch
from conftest import ROOT, Command, SampleRun
from inputs import INPUTS
from torch import Tensor

from decathlon.data.base import Data, EpochShard, Split, parse_source
from decathlon.data.voc import DetectionSplit
from decathlon.runs import folder as run_folder
from decathlon.tasks.base import Task, get_task, task_ids
from decathlon.tasks.recipe import Recipe, differences, from_dict, to_dict
from decathlon.training.optim import make_optimizers

SECTIONS = ["Recipe", "Data", "Model", "Training loss", "Evaluate", "Predict", "Plots"]

pytestmark = pytest.mark.parametrize("task_id", task_ids())


def small(task_id: str) -> tuple[Task, Recipe, Data]:
    task = get_task(task_id)
    recipe = task.sample_recipe()
    return task, recipe, task.load(parse_source("sample"), recipe)


def batch(task: Task, recipe: Recipe, data: Data) -> Any:
    return next(iter(task.batches(data.train, recipe, EpochShard(seed=0, number=0))))


def test_file_has_its_parts(task_id: str) -> None:
    name = task_id.replace("-", "_")
    text = (ROOT / "src/decathlon/tasks" / f"{name}.py").read_text()
    sections = [line.strip("# -") for line in text.splitlines() if line.startswith("# --- ")]
    assert sections == SECTIONS
    assert len(text.splitlines()) <= 250
    docstring = ast.get_docstring(ast.parse(text)) or ""
    for word in (f"`{task_id}`", "Network ", "Expected ", "Time ", f"decathlon train {task_id}"):
        assert word in docstring, f"the docstring of {task_id} does not say {word!r}"


def test_documented_and_proved(task_id: str) -> None:
    page = ROOT / "docs/tasks" / f"{task_id}.md"
    assert page.exists()
    summaries = [json.loads(path.read_text()) for path in (ROOT / "results" / task_id).glob("*.json")]
    proved = [s for s in summaries if s["counts"] and not s["overrides"]]
    if get_task(task_id).SPEC.bar is None:  # hours a run: what was possible, its settings and their number stated
        assert summaries, f"results/{task_id} proves no number"
        assert re.search(r"\bn = \d|\b(one|two|three|\d+) (seed|run)s?\b", page.read_text()), "of how many runs?"
    else:
        seeds = len({s["seed"] for s in proved})
        assert seeds >= 3, f"results/{task_id} proves no number over three seeds"
    assert all(s["task"] == task_id and s["split"] == "test" for s in summaries)
    assert task_id in (ROOT / "README.md").read_text()


def test_spec(task_id: str) -> None:
    spec = get_task(task_id).SPEC
    assert spec.id == task_id
    assert spec.bar is None or 0 < spec.bar < 1
    assert spec.dataset in INPUTS, f"tests/support/inputs.py must say what an input of {spec.dataset!r} is"


@pytest.mark.parametrize("kind", ["official", "sample"])
def test_network_has_its_architecture(task_id: str, kind: str) -> None:
    task, recipe, data = small(task_id)
    network = task.model(task.recipe(), data.info) if kind == "official" else task.model(recipe, data.info, data.train)
    assert task.check_architecture(network, data.info) == []


def test_recipe_survives_json(task_id: str) -> None:
    task = get_task(task_id)
    for recipe in (task.recipe(), task.sample_recipe()):
        assert from_dict(task.recipe(), json.loads(json.dumps(to_dict(recipe)))) == recipe
    assert differences(task.recipe(), task.recipe()) == {}


def images_of(part: Any) -> Iterable[Tensor]:
    """The examples; a detector's inputs are their numbers, which never are the same."""
    return (part.example(i)[0] for i in range(len(part))) if isinstance(part, DetectionSplit) else part.inputs


def test_splits_do_not_overlap(task_id: str) -> None:
    _, _, data = small(task_id)
    parts = [data.train, data.validation, data.test]
    assert min(len(part) for part in parts) > 0
    if all(isinstance(part, Split) for part in parts):
        contents = [{example.numpy().tobytes() for example in images_of(part)} for part in parts]
        # Equal images exist in any large set; a split that is part of another would share nearly all.
        for first, second in ((0, 1), (0, 2), (1, 2)):
            assert len(contents[first] & contents[second]) < 0.02 * len(contents[second])


def test_overfits_one_batch(task_id: str) -> None:
    """Sixty steps at most halve the loss of a batch."""
    task, recipe, data = small(task_id)
    torch.manual_seed(0)
    model = task.model(recipe, data.info, data.train).train()
    examples = batch(task, recipe, data)
    optimizers = make_optimizers(model, replace(recipe.optimizer, weight_decay=0.0))
    losses = []
    for _ in range(60):
        torch.manual_seed(1)  # the same augmentation every time
        loss = task.training_loss(model, examples, recipe)["loss"]
        model.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
        if losses[-1] < 0.5 * losses[0]:
            return
    pytest.fail(f"the loss was not halved: {losses}")


def test_every_parameter_learns(task_id: str) -> None:
    task, recipe, data = small(task_id)
    model = task.model(recipe, data.info, data.train).train()
    examples = batch(task, recipe, data)
    task.training_loss(model, examples, recipe)["loss"].backward()
    still = [
        name
        for name, p in model.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.to_dense().any())
    ]
    assert still == []


def test_evaluation_is_repeatable(task_id: str) -> None:
    task, recipe, data = small(task_id)
    model = task.model(recipe, data.info, data.train).eval()
    with torch.no_grad():
        first = task.evaluate(model, data, "validation", recipe)
        second = task.evaluate(copy.deepcopy(model), data, "validation", recipe)
    assert first == second
    assert task.SPEC.metric in first
    assert all(isinstance(value, float) for value in first.values())


def test_leaves_a_run_folder(task_id: str, sample_run: SampleRun) -> None:
    folder, summary = sample_run.folder, sample_run.summary
    assert run_folder.read_json(folder / "summary.json") == {k: v for k, v in summary.items() if k != "folder"}
    assert (summary["epochs"], summary["counts"]) == (2, False)
    names = {path.name for path in folder.iterdir()}
    files = {"config.json", "environment.json", "metrics.jsonl", "timing.jsonl", "model.safetensors", "report.html"}
    assert names == files | {"checkpoint", "plots", "summary.json"}
    assert list((folder / "plots").glob("*.png"))
    assert "<img" in (folder / "report.html").read_text()
    page = re.sub(r"data:image/png;base64,[^\"]*", "", (folder / "report.html").read_text())
    assert "http" not in page, "the report must need nothing from elsewhere"
    assert list(folder.rglob("*.part")) == []


def test_test_split_is_read_once(task_id: str, sample_run: SampleRun) -> None:
    assert sample_run.splits_read == ["validation", "validation", "test"]


def test_evaluate_gives_the_same_numbers(task_id: str, sample_run: SampleRun, decathlon: Command) -> None:
    folder, summary = sample_run.folder, sample_run.summary
    again = decathlon("evaluate", folder, "--json")
    assert again.status == 0, again.err
    assert json.loads(again.out) == {k: v for k, v in summary.items() if k != "folder"}


def test_predicts(task_id: str, sample_run: SampleRun, decathlon: Command, tmp_path: Path) -> None:
    example = INPUTS[get_task(task_id).SPEC.dataset](tmp_path)
    answer = decathlon("predict", task_id, example, "--run", sample_run.folder, "--json")
    assert answer.status == 0, answer.err
    (prediction,) = json.loads(answer.out)
    assert prediction["input"] in example
    assert "label" in prediction
    assert abs(sum(prediction.get("probabilities", {"": 1.0}).values()) - 1) < 1e-4
    assert prediction["label"] in decathlon("predict", task_id, example, "--run", sample_run.folder).out


def test_resumes_bit_for_bit(
    task_id: str, sample_run: SampleRun, decathlon: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    if task_id in resuming.SLOW:
        pytest.skip("in tests/soak/test_sample_recipes.py")
    resuming.check_resume(task_id, sample_run.folder, decathlon, monkeypatch)


def test_the_loss_falls(task_id: str, sample_run: SampleRun) -> None:
    first, second = run_folder.read_lines(sample_run.folder / "metrics.jsonl")
    assert second["train"]["loss"] < first["train"]["loss"]


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
