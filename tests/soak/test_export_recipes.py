"""The networks of the recipes for the real data, which are larger than the sample's, as ONNX files.

They are not trained: neither whether they can be written nor how long they take depends on what the weights are.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from conftest import Command

from decathlon import run
from decathlon.data import Data, source
from decathlon.recipe import Recipe, Task, get_task, task_ids, to_dict
from decathlon.train import Options

WORDS = [f"word{number}" for number in range(30_000)]  # as many as the recipe of imdb-textcnn has


def untrained(task: Task, recipe: Recipe, data: Data, folder: Path) -> Path:
    """A run folder of a network that has learned nothing."""
    torch.manual_seed(0)
    meta = data.meta | ({"words": WORDS} if "words" in data.meta else {})
    folder.mkdir()
    config = {
        "task": task.CARD.id,
        "recipe": to_dict(recipe),
        "options": asdict(Options("sample")),
        "data": data.name,
        "meta": meta,
    }
    run.write_json(folder / "config.json", config)
    model = task.model(recipe, meta)
    for name, value in model.named_buffers():  # batch norm that has seen nothing lets all through
        if name.endswith("running_var"):
            value.uniform_(0.5, 2.0)
    if task.CARD.id == "mnist-autoencoder":
        model.codes.normal_()
        model.labels.copy_(torch.arange(len(model.labels)) % len(meta["classes"]))
    run.save_weights(folder / "model.safetensors", model.state_dict())
    return folder


@pytest.mark.parametrize("task_id", task_ids())
def test_the_recipes_network_is_written(task_id: str, decathlon: Command, tmp_path: Path) -> None:
    task = get_task(task_id)
    recipe = task.recipe()
    folder = untrained(task, recipe, task.load(source("sample"), recipe), tmp_path / "run")
    done = decathlon("export", task_id, "--run", folder, "--json")
    assert done.status == 0, done.err
    told = json.loads(done.out)
    assert told["max_difference"] <= told["tolerance"]
    print({name: told[name] for name in ("task", "bytes", "threads", "onnxruntime_ms", "pytorch_ms", "max_difference")})
