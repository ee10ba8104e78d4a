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

from decathlon import run, shipped
from decathlon.data import files
from decathlon.recipe import get_task, task_ids


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("weights", ROOT / "tools" / "weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_weights_are_small_enough() -> None:
    sizes = [path.stat().st_size for path in shipped.WEIGHTS.rglob("*") if path.is_file()]
    assert sum(sizes) <= shipped.LARGEST
    assert max(sizes) <= 15_000_000


@pytest.mark.parametrize("task_id", task_ids())
def test_the_card_tells_of_these_weights(task_id: str, maker: ModuleType) -> None:
    card, place = shipped.card(task_id), shipped.WEIGHTS / task_id
    assert card["sha256"] == files.sha256(place / "model.safetensors")
    assert card["bytes"] == (place / "model.safetensors").stat().st_size
    summary = run.read_json(place / "summary.json")
    assert {card[name] == summary[name] for name in ("task", "data", "metric", "seed", "commit", "overrides")} == {True}
    assert not card["commit"].endswith("+")
    assert abs(card["value"] - card["value_in_full_precision"]) < 0.001
    assert card["published"] == maker.published(summary)
    assert card["limits"] == maker.LIMITS[task_id]
    assert card["limits"]
    if task_id in maker.SAMPLE:
        assert card["data"] == "voc-sample"
        assert "demonstration" in shipped.words(card)
    else:
        assert card["published"]["n"] >= 3
        assert card["value"] >= card["bar"]
    assert (ROOT / "docs" / "weights" / f"{task_id}.md").read_text() == shipped.page(card)


@pytest.mark.parametrize("task_id", task_ids())
def test_parameters_are_halves_and_the_rest_is_whole(task_id: str) -> None:
    from decathlon.finished import load_run

    place = shipped.WEIGHTS / task_id
    tensors, model = run.load_weights(place / "model.safetensors"), load_run(place).model
    parameters = dict(model.named_parameters())
    assert {tensor.dtype for name, tensor in tensors.items() if name in parameters} == {torch.float16}
    assert torch.float16 not in {tensor.dtype for name, tensor in tensors.items() if name not in parameters}
    assert {p.dtype for p in parameters.values()} == {torch.float32}


@pytest.mark.parametrize("task_id", task_ids())
def test_predicts_in_an_empty_folder(task_id: str, tmp_path: Path, decathlon: Command) -> None:
    given = INPUTS[get_task(task_id).CARD.dataset](tmp_path)
    answer = decathlon("predict", task_id, given, "--json")
    assert answer.status == 0, answer.err
    assert "weights of the package" in answer.err
    (found,) = json.loads(answer.out)
    assert found["input"] == given


def test_a_digit_is_read_by_all_three(tmp_path: Path, decathlon: Command) -> None:
    for task_id in ("mnist-mlp", "mnist-cnn", "mnist-autoencoder"):
        (found,) = json.loads(decathlon("predict", task_id, INPUTS["mnist"](tmp_path), "--json").out)
        assert found["label"] == "1"


def test_detectors_evaluate_to_their_cards_number(decathlon: Command) -> None:
    """Their data are made on the spot, so this needs nothing; tests/real does the same for the others."""
    for task_id in ("voc-faster-rcnn", "voc-retinanet"):
        answer = decathlon("evaluate", task_id, "--json")
        assert answer.status == 0, answer.err
        assert json.loads(answer.out)["value"] == pytest.approx(shipped.card(task_id)["value"], abs=0.001)


def test_refuses_to_pack_what_could_not_be_made_again(tmp_path: Path, decathlon: Command) -> None:
    texts = "".join(json.dumps({"text": f"{word} film {n}", "label": word}) + "\n" for n in range(40) for word in "ab")
    Path("own.jsonl").write_text(texts)
    assert decathlon("train", "imdb-textcnn", "--data", "own.jsonl", "--epochs", "1", "--out", "run").status == 0
    with pytest.raises(ValueError, match="official data"):
        shipped.pack(Path("run"), ["none"], None, tmp_path / "weights")
    assert not (tmp_path / "weights").exists()
