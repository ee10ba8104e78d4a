"""The named recipes: fast and best."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command
from PIL import Image
from real_inputs import coco, images

import decathlon
from decathlon.errors import UsageError
from decathlon.reporting.scoreboard import changes
from decathlon.tasks.base import base_recipe, choose_recipe, get_task, task_ids
from decathlon.tasks.recipe import differences, from_dict, to_dict

WITH_BEST = ("cifar10-cnn", "cifar10-skip", "pets-unet", "voc-faster-rcnn", "voc-retinanet")
SMALL = ("--epochs", "1", "--channels", "8", "8", "8", "--batch-size", "8", "--whitening-filters", "4")


def test_which_tasks_have_two_recipes() -> None:
    """The page on training lists them."""
    assert tuple(name for name in task_ids() if hasattr(get_task(name), "best_recipe")) == WITH_BEST


@pytest.mark.parametrize("task_id", WITH_BEST)
def test_best_differs_and_survives_json(task_id: str) -> None:
    task = get_task(task_id)
    best = base_recipe(task, "official", "best")
    assert differences(best, task.recipe()).keys() & {"epochs", "backbone"}
    assert from_dict(task.recipe(), json.loads(json.dumps(to_dict(best)))) == best
    assert base_recipe(task, "official", "fast") == base_recipe(task, "mine") == task.recipe()
    assert base_recipe(task, "sample", "best") == task.sample_recipe()


@pytest.mark.parametrize(
    ("task_id", "data", "name", "has_gpu", "expected"),
    [
        ("cifar10-cnn", "official", None, False, "fast"),
        ("cifar10-cnn", "official", None, True, "best"),
        ("cifar10-cnn", "mine", None, True, "best"),
        ("cifar10-cnn", "official", "fast", True, "fast"),
        ("cifar10-cnn", "official", "best", False, "best"),
        ("cifar10-cnn", "sample", None, True, "sample"),
        ("mnist-mlp", "official", None, True, "fast"),
        ("voc-faster-rcnn", "official", None, True, "fast"),  # its best recipe has another network
        ("voc-faster-rcnn", "mine", "best", True, "best"),
        ("mnist-mlp", "official", "fast", False, "fast"),
    ],
)
def test_default(
    task_id: str, data: str, name: str | None, has_gpu: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert choose_recipe(get_task(task_id), data, name) == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("mnist-mlp", "--recipe", "best"), "mnist-mlp has one recipe"),
        (("cifar10-cnn", "--recipe", "bset"), "unknown recipe 'bset'; did you mean 'best'?"),
        (("cifar10-cnn", "--recipe", "best", "--data", "sample"), "the sample has a recipe of its own"),
        (("cifar10-cnn", "--recipe"), "--recipe"),
        (("cifar10-cnn", "--recipe", "best", "--resume", "run"), "--recipe cannot be set with --resume"),
    ],
)
def test_refused(flags: tuple[str, ...], message: str, decathlon: Command) -> None:
    refused = decathlon("train", *flags)
    assert refused.status == 2
    assert message in refused.error


def test_api_refuses_an_unknown_recipe() -> None:
    with pytest.raises(UsageError, match="did you mean 'fast'"):
        decathlon.train("cifar10-cnn", recipe="fasst")  # type: ignore[arg-type]


def test_help_shows_the_flag_and_the_defaults(decathlon: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        decathlon("train", "cifar10-cnn", "--recipe", "best", "--help")
    text = capsys.readouterr().out
    assert "--recipe" in text
    assert "512" in text, "filters of the best recipe"


def image_folder(path: Path) -> Path:
    """Ten images of each of two classes."""
    for color, name in enumerate(("cat", "dog")):
        (path / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (32, 32), (200 * color, 12 * number, 90)).save(path / name / f"{number}.png")
    return path


def test_a_run_records_its_recipe(tmp_path: Path, decathlon: Command) -> None:
    data = str(image_folder(tmp_path / "mine"))
    done = decathlon("train", "cifar10-skip", "--data", data, "--recipe", "best", *SMALL, "--out", "run", "--json")
    assert done.status == 0, done.err
    assert "recipe best" in done.err
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["recipe"] == "best"
    assert summary["overrides"]["epochs"] == 1
    assert json.loads(Path("run/config.json").read_text())["options"]["recipe"] == "best"
    assert changes(summary).startswith("best, batch_size 8")
    plan = json.loads(decathlon("train", "cifar10-skip", "--data", data, "--recipe", "best", "--dry-run", "--json").out)
    assert (plan["recipe"], plan["epochs"]) == ("best", 30)


@pytest.mark.parametrize("task_id", ["voc-faster-rcnn", "voc-retinanet"])
def test_the_best_recipe_of_a_detector_trains_on_own_boxes(task_id: str, tmp_path: Path, decathlon: Command) -> None:
    """As docs/own-data.md has it: from the weights that ship, whose backbone it has."""
    images(tmp_path / "mine", range(12))
    (tmp_path / "mine" / "_annotations.coco.json").write_text(coco(range(12)))
    flags = ("--weights", task_id, "--epochs", "1", "--min-size", "64", "--max-size", "96")
    done = decathlon("train", task_id, "--data", str(tmp_path / "mine"), "--recipe", "best", *flags, "--out", "run")
    assert done.status == 0, done.err
    recipe = json.loads(Path("run/config.json").read_text())["recipe"]
    assert (recipe["backbone"], recipe["norm"]) == ("timm/tf_efficientnet_lite0", "frozen")
    refused = decathlon("train", task_id, "--recipe", "best", "--weights", "coco")
    assert "--weights must be another than coco with timm/NAME (as in --recipe best)" in refused.error


# The flags of the run of pets-unet that was measured before recipes had names.
BEST_BY_FLAGS = {"epochs": 240, "ema": 0.995, "image_size": 128, "low_res_size": 80, "color_jitter": 0.4}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"overrides": BEST_BY_FLAGS}, "best"),
        ({"overrides": BEST_BY_FLAGS | {"precision": "bf16-mixed"}}, "best, precision bf16-mixed"),
        ({"overrides": {"epochs": 41}}, "epochs 41"),
        ({"recipe": "best", "overrides": {}}, "best"),
        ({"recipe": "best", "overrides": {"epochs": 60}}, "best, epochs 60"),
        ({"recipe": "fast", "overrides": {}}, ""),
        (
            {"data": "pets-sample", "overrides": BEST_BY_FLAGS},
            "color_jitter 0.4, ema 0.995, epochs 240, image_size 128, low_res_size 80",
        ),
    ],
)
def test_the_scoreboard_names_the_recipe(fields: dict[str, Any], expected: str) -> None:
    """A summary of earlier versions names none: its flags tell."""
    assert changes({"task": "pets-unet", "data": "pets"} | fields) == expected


def test_files_that_a_recipe_names_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w.pth").touch()
    Path("encoder").mkdir()
    detector = get_task("voc-retinanet").recipe()
    assert replace(detector, weights="w.pth").weights == str(tmp_path / "w.pth")
    for name in ("imagenet", "none", "voc-retinanet"):
        assert replace(detector, weights=name).weights == name
    texts = replace(get_task("imdb-textcnn").recipe(), teachers=("ngrams", "roberta-mini", "encoder"))
    assert texts.teachers == ("ngrams", "roberta-mini", str(tmp_path / "encoder"))
