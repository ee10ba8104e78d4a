"""The weights that ship: complete, as their cards say, small enough, and answering without any training."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from conftest import ROOT, Command
from inputs import INPUTS

from decathlon.data.io import files
from decathlon.demo import examples
from decathlon.reporting import weight_cards
from decathlon.reporting.scoreboard import name_recipe
from decathlon.runs import bundled
from decathlon.runs.folder import load_weights, read_json
from decathlon.tasks.base import get_task, task_ids


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("weights", ROOT / "tools" / "weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_weights_are_small_enough() -> None:
    sizes = [path.stat().st_size for path in bundled.WEIGHTS.rglob("*") if path.is_file()]
    assert sum(sizes) <= bundled.MAX_TOTAL_BYTES
    assert max(sizes) <= 15_000_000


@pytest.mark.parametrize("task_id", task_ids())
def test_the_card_tells_of_these_weights(task_id: str, maker: ModuleType) -> None:
    card, folder = bundled.card(task_id), bundled.WEIGHTS / task_id
    assert card["sha256"] == files.sha256(folder / "model.safetensors")
    assert card["bytes"] == (folder / "model.safetensors").stat().st_size
    summary = read_json(folder / "summary.json")
    assert {card[name] == summary[name] for name in ("task", "data", "metric", "seed", "commit")} == {True}
    assert (card.get("recipe") or "fast", card["overrides"]) == name_recipe(summary)
    assert not card["commit"].endswith("+")
    if card["value_in_full_precision"] is not None:  # of a run whose code has changed
        # A detector's map is a mean over classes, some with a handful of objects in the test split, where a box that
        # rounding moves counts for points. The classes with a hundred and more are held to the bound one by one.
        assert abs(card["value"] - card["value_in_full_precision"]) < (0.001 if card["bar"] else 0.002)
    if task_id.startswith("voc"):
        for name in ("ap_car", "ap_person", "ap_cat", "ap_train"):
            assert abs(card["metrics"][name] - summary["metrics"][name]) < 0.001
    assert card["published"] == maker.published(summary)
    assert card["limits"] == maker.LIMITS[task_id]
    assert card["limits"]
    assert not card["data"].endswith("-sample")
    assert card["published"]["n"] >= (1 if task_id in maker.OPTIONS else 3)  # a detector takes over an hour
    assert card["value"] >= (card["bar"] or 0)
    assert (ROOT / "docs" / "weights" / f"{task_id}.md").read_text() == weight_cards.page(card)


@pytest.mark.parametrize("task_id", task_ids())
def test_parameters_are_halves_and_the_rest_is_whole(task_id: str) -> None:
    from decathlon.runs.load import load_run

    folder = bundled.WEIGHTS / task_id
    tensors, model = load_weights(folder / "model.safetensors"), load_run(folder).model
    parameters = dict(model.named_parameters())
    assert {tensor.dtype for name, tensor in tensors.items() if name in parameters} == {torch.float16}
    assert torch.float16 not in {tensor.dtype for name, tensor in tensors.items() if name not in parameters}
    assert {p.dtype for p in parameters.values()} == {torch.float32}


@pytest.mark.parametrize("task_id", task_ids())
def test_predicts_in_an_empty_folder(task_id: str, tmp_path: Path, decathlon: Command) -> None:
    example = INPUTS[get_task(task_id).SPEC.dataset](tmp_path)
    answer = decathlon("predict", task_id, example, "--json")
    assert answer.status == 0, answer.err
    assert "weights of the package" in answer.err
    (prediction,) = json.loads(answer.out)
    assert prediction["input"] == example


def test_a_digit_is_read_by_all_three(tmp_path: Path, decathlon: Command) -> None:
    for task_id in ("mnist-mlp", "mnist-cnn", "mnist-autoencoder"):
        (prediction,) = json.loads(decathlon("predict", task_id, INPUTS["mnist"](tmp_path), "--json").out)
        assert prediction["label"] == "1"


@pytest.mark.parametrize("task_id", ["voc-faster-rcnn", "voc-retinanet"])
@pytest.mark.parametrize(("photo", "expected"), [("astronaut", "person"), ("chelsea", "cat")])
def test_detectors_find_the_object_of_a_photo(task_id: str, photo: str, expected: str, decathlon: Command) -> None:
    answer = decathlon("predict", task_id, examples.PHOTOS / f"{photo}.jpg", "--json")
    (prediction,) = json.loads(answer.out)
    assert prediction["objects"][0]["class"] == expected


def test_refuses_to_pack_what_could_not_be_made_again(tmp_path: Path, decathlon: Command) -> None:
    texts = "".join(json.dumps({"text": f"{word} film {n}", "label": word}) + "\n" for n in range(40) for word in "ab")
    Path("own.jsonl").write_text(texts)
    assert decathlon("train", "imdb-textcnn", "--data", "own.jsonl", "--epochs", "1", "--out", "run").status == 0
    with pytest.raises(ValueError, match="official data"):
        weight_cards.pack(Path("run"), ["none"], None, tmp_path / "weights")
    assert not (tmp_path / "weights").exists()
