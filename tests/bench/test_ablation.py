"""The rows of `bench/ablation.py`: what each leaves out is really left out, and the test split is not read."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from conftest import ROOT
from scripts import load_script

from decathlon.data import cifar10
from decathlon.data.base import DataInfo, EpochShard, Split, parse_source
from decathlon.reporting.scoreboard import name_recipe
from decathlon.tasks.base import base_recipe, get_task
from decathlon.training.optim import make_optimizers

TASKS = ["cifar10-cnn", "cifar10-skip"]
INFO = DataInfo([str(number) for number in range(10)])


@pytest.fixture(scope="module")
def ablation() -> ModuleType:
    return load_script("bench/ablation.py")


def few() -> Split:
    draw = torch.Generator().manual_seed(0)
    return Split(torch.randint(256, (20, 3, 32, 32), generator=draw, dtype=torch.uint8), torch.arange(20) % 10)


@pytest.mark.parametrize("task_id", TASKS)
def test_every_row_but_the_first_changes_what_is_trained(task_id: str, ablation: ModuleType) -> None:
    """Three steps of two epochs from one seed end elsewhere, or (the average of the weights) the recipe is another."""
    task, base = (
        get_task(task_id),
        replace(
            get_task(task_id).recipe(),
            optimizer=ablation.MUON,
            batch_size=10,
            epochs=2,
            low_res_epochs=0.5,
            channels=(8, 8, 8),
        ),
    )

    def trained(fields: dict[str, Any], patches: dict[str, Any]) -> Any:
        recipe = replace(base, **fields)
        with ablation.patched(patches):
            torch.manual_seed(0)
            model = task.model(recipe, INFO, few()).train()
            parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
            optimizer = torch.optim.SGD(parameters, lr=0.1)
            losses = []
            for number in (0, 1):
                for batch in task.batches(few(), recipe, EpochShard(0, number)):
                    loss = task.training_loss(model, batch, recipe)["loss"]
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    losses.append(loss.item())
        return losses, recipe.optimizer, recipe.ema

    rows = ablation.rows(task_id)
    results = {name: trained(*row) for name, row in rows.items()}
    assert next(iter(rows)) == "the baseline"
    assert trained(*rows["the baseline"]) == results["the baseline"]
    assert [name for name in rows if results[name] == results["the baseline"]] == ["the baseline"]


def test_mirrors_are_drawn_with_the_share_asked_for(ablation: ModuleType) -> None:
    task = get_task("cifar10-skip")
    split, recipe = few(), replace(task.recipe(), batch_size=20, low_res_epochs=0.0)
    module = sys.modules["decathlon.tasks.cifar10_skip"]
    for share, least, most in ((0.0, 0, 0), (0.5, 4, 16), (1.0, 20, 20)):
        (batch,) = ablation.random_flip_batches(module, share)(split, recipe, EpochShard(0, 0))
        turned = sum(any(torch.equal(image, other.flip(2)) for other in split.inputs) for image in batch.inputs)
        assert least <= turned <= most


def test_rows_are_made_once_and_on_validation(
    ablation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = cifar10.load(parse_source("sample"))
    no_test = replace(data, train=data.train[:200], validation=data.validation[:50], test=None)
    monkeypatch.setattr(cifar10, "load", lambda where: no_test)
    out = tmp_path / "rows.json"
    names = ["the baseline", "no blocks"]
    words = ["cifar10-skip", "--data", "sample", "--epochs", "1", "--precision", "32-true", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["ablation.py", *words, "--rows", *names])
    ablation.main()
    rows = json.loads(out.read_text())
    assert [row["row"] for row in rows] == names
    assert rows[0]["parameters"] > 1.5 * rows[1]["parameters"]
    assert all(0 <= row["value"] <= 1 and row["by_epoch"] == [row["value"]] for row in rows)
    first = capsys.readouterr().out
    assert first.count("seed 0") == 2
    assert f"| no blocks | {100 * rows[1]['value']:.2f} | " in first
    ablation.main()
    assert json.loads(out.read_text()) == rows
    assert "seed 0" not in capsys.readouterr().out


def test_a_table_gives_means_over_seeds_and_differences(ablation: ModuleType) -> None:
    values = [("the baseline", 3, 0.80, 0.7), ("the baseline", 3, 0.84, 0.8), ("x", 3, 0.81, 0.7), ("x", 8, 0.9, 0.9)]
    rows = [
        {"row": row, "epochs": epochs, "value": with_tta, "without_tta": without_tta}
        for row, epochs, with_tta, without_tta in values
    ]
    assert ablation.table(rows, ["the baseline", "x", "y"], 3).splitlines()[2:] == [
        "| the baseline (2 seeds) | 82.00 |  | 75.00 |",
        "| x | 81.00 | −1.00 | 70.00 |",
    ]
    names = ["the baseline", ablation.RECIPE, f"{ablation.RECIPE}, x"]
    rows = [{"row": row, "epochs": 3, "value": value} for row, value in zip(names, (0.8, 0.9, 0.85), strict=True)]
    assert ablation.table(rows, names, 3).splitlines()[-1] == f"| {ablation.RECIPE}, x | 85.00 | −5.00 |"


@pytest.mark.parametrize("task_id", [*TASKS, "voc-faster-rcnn", "voc-retinanet"])
def test_the_pages_tables_are_those_of_the_committed_rows(task_id: str, ablation: ModuleType) -> None:
    rows = json.loads(Path(ROOT, "docs/tasks/ablations", f"{task_id}.json").read_text())
    page = Path(ROOT, "docs/tasks", f"{task_id}.md").read_text()
    names = list(ablation.rows(task_id))
    assert {row["row"] for row in rows} <= set(names)
    for epochs in sorted({row["epochs"] for row in rows}):
        assert ablation.table(rows, names, epochs) in page


@pytest.mark.parametrize("task_id", ["voc-faster-rcnn", "voc-retinanet"])
def test_rows_of_detectors(task_id: str, ablation: ModuleType) -> None:
    """All rows but the first change a field of the recipe, or the backbone's learning rate; `best` is published."""
    published = [json.loads(path.read_text()) for path in (ROOT / "results" / task_id).glob("*.json")]
    assert published
    for summary in published:
        recipe_name, overrides = name_recipe(summary)
        assert (recipe_name, overrides.keys()) == ("best", {"precision"})
    task = get_task(task_id)
    best: Any = base_recipe(task, "official", "best")
    recipe = replace(best, optimizer=task.recipe().optimizer, weights="none", norm="batch", min_size=64, max_size=128)
    variants = ablation.rows(task_id)
    recipes = [repr(replace(recipe, **fields)) for fields, patches in variants.values() if not patches]
    assert len(set(recipes)) == len(recipes) == len(variants) - 1
    (patches,) = (patches for _, patches in variants.values() if patches)
    with ablation.patched(patches):
        model = task.model(recipe, DataInfo(["cat", "dog"]))
    (optimizer,) = make_optimizers(model, recipe.optimizer)
    backbone = {id(parameter) for parameter in model.backbone.body.parameters() if parameter.requires_grad}
    slow = {id(p) for group in optimizer.param_groups if group.get("lr_scale") == 0.1 for p in group["params"]}
    assert slow == backbone
