"""`--tensorboard`: the curves, predictions, plots and recipe of a run, as TensorBoard reads them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Command

FAST = ("train", "mnist-mlp", "--data", "sample", "--hidden", "8")


def read_log(folder: str) -> Any:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(f"{folder}/tensorboard", {"images": 0, "tensors": 0})  # all of them
    log.Reload()
    return log


def read_metrics(folder: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]


def text(log: Any, name: str) -> str:
    return str(log.Tensors(f"{name}/text_summary")[-1].tensor_proto.string_val[0].decode())


def test_curves_predictions_plots_and_recipe_are_logged(decathlon: Command) -> None:
    done = decathlon(*FAST, "--epochs", "5", "--out", "run", "--tensorboard")
    assert done.status == 0, done.err
    log, lines = read_log("run"), read_metrics("run")
    for split in ("train", "validation"):
        for name in lines[0][split]:
            logged = [(event.step, event.value) for event in log.Scalars(f"{split}/{name}")]
            assert logged == [(line["step"], pytest.approx(line[split][name])) for line in lines]
    summary = json.loads(Path("run/summary.json").read_text())
    assert log.Scalars("test/accuracy")[0].value == pytest.approx(summary["value"])
    plots = {f"plots/{path.stem}" for path in Path("run/plots").glob("*.png")}
    assert "plots/mistakes" in plots
    assert set(log.Tags()["images"]) == {*plots, "predictions/confusion", "predictions/mistakes"}
    images = log.Images("predictions/mistakes")
    assert [image.step for image in images] == [lines[epoch - 1]["step"] for epoch in (1, 2, 4)]
    assert len({image.encoded_image_string for image in images}) == 3, "the network learned in between"
    assert "| hidden | 8 |" in text(log, "recipe")
    assert decathlon(*FAST, "--epochs", "5", "--out", "plain").status == 0
    assert read_metrics("plain") == lines, "logging changes no number"


@pytest.mark.parametrize(
    ("task_id", "names"),
    [
        ("mnist-autoencoder", {"reconstructions", "codes", "confusion", "mistakes"}),
        ("imdb-textcnn", {"confusion"}),
        ("imdb-roberta", {"confusion", "embeddings"}),
        ("pets-unet", {"overlays", "worst", "certainty"}),
        ("voc-retinanet", {"boxes", "precision", "classes"}),
    ],
)
def test_predictions_of_every_kind_are_logged(task_id: str, names: set[str], decathlon: Command) -> None:
    """Of networks that have hardly learned anything, too."""
    done = decathlon("train", task_id, "--data", "sample", "--epochs", "1", "--out", "run", "--tensorboard")
    assert done.status == 0, done.err
    assert "could not" not in done.err + done.out
    log = read_log("run")
    assert {name.partition("/")[2] for name in log.Tags()["images"] if name.startswith("predictions/")} == names
    if task_id == "imdb-textcnn":
        assert ", not " in text(log, "predictions/texts")


def test_a_plot_that_fails_does_not_end_the_training(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("decathlon.training.tensorboard._log_plots", lambda *args: 1 / 0)
    monkeypatch.setattr("decathlon.training.tensorboard.log_result", lambda *args: None)
    done = decathlon(*FAST, "--epochs", "1", "--out", "run", "--tensorboard")
    assert done.status == 0, done.err
    assert "could not be logged: ZeroDivisionError" in done.err + done.out


def test_without_the_package_nothing_is_trained(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "decathlon.training.tensorboard.find_spec", lambda name: None if name == "tensorboard" else find(name)
    )
    answer = decathlon(*FAST, "--epochs", "2", "--out", "run", "--tensorboard")
    assert answer.status == 1
    assert "decathlon[tensorboard]" in answer.error
    assert not Path("run").exists()
