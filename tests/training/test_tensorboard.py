"""`--tensorboard`: the curves, plots and recipe of a run, as TensorBoard reads them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from conftest import Command

FAST = ("train", "mnist-mlp", "--data", "sample", "--epochs", "2", "--hidden", "8", "--out", "run")


def test_curves_plots_and_recipe_are_logged(decathlon: Command) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = decathlon(*FAST, "--tensorboard")
    assert done.status == 0, done.err
    log = EventAccumulator("run/tensorboard")
    log.Reload()
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    for split in ("train", "validation"):
        for name in lines[0][split]:
            logged = [(event.step, event.value) for event in log.Scalars(f"{split}/{name}")]
            assert logged == [(line["step"], pytest.approx(line[split][name])) for line in lines]
    summary = json.loads(Path("run/summary.json").read_text())
    assert log.Scalars("test/accuracy")[0].value == pytest.approx(summary["value"])
    plots = {f"plots/{path.stem}" for path in Path("run/plots").glob("*.png")}
    assert "plots/mistakes" in plots
    assert set(log.Tags()["images"]) == plots
    recipe = log.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| hidden | 8 |" in recipe


def test_without_the_package_nothing_is_trained(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "decathlon.training.tensorboard.find_spec", lambda name: None if name == "tensorboard" else find(name)
    )
    answer = decathlon(*FAST, "--tensorboard")
    assert answer.status == 1
    assert ".[tensorboard]" in answer.error
    assert not Path("run").exists()
