"""The networks of the recipes for the real data, which are larger than the sample's, as ONNX files.

They are not trained: neither whether they can be written nor how long they take depends on what the weights are.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from conftest import Command

from decathlon.data.base import Data, parse_source
from decathlon.data.io import atomic
from decathlon.runs.records import RunOptions
from decathlon.tasks.base import Task, get_task, task_ids
from decathlon.tasks.recipe import Recipe, to_dict

WORDS = [f"word{number}" for number in range(30_000)]  # as many as the recipe of imdb-textcnn has


def untrained(task: Task, recipe: Recipe, data: Data, folder: Path) -> Path:
    """A run folder of a network that has learned nothing."""
    torch.manual_seed(0)
    info = replace(data.info, vocabulary=WORDS) if data.info.vocabulary else data.info
    folder.mkdir()
    config = {
        "task": task.SPEC.id,
        "recipe": to_dict(recipe),
        "options": asdict(RunOptions("sample")),
        "data": data.name,
        "info": info.to_dict(),
    }
    atomic.write_json(folder / "config.json", config)
    model = task.model(recipe, info)
    for name, value in model.named_buffers():  # batch norm that has seen nothing lets all through
        if name.endswith("running_var"):
            value.uniform_(0.5, 2.0)
    if task.SPEC.id == "mnist-autoencoder":
        model.codes.normal_()
        model.labels.copy_(torch.arange(len(model.labels)) % len(info.classes))
    atomic.save_weights(folder / "model.safetensors", model.state_dict())
    return folder


@pytest.mark.parametrize("task_id", task_ids())
def test_the_recipes_network_is_written(task_id: str, decathlon: Command, tmp_path: Path) -> None:
    task = get_task(task_id)
    recipe = task.recipe()
    folder = untrained(task, recipe, task.load(parse_source("sample"), recipe), tmp_path / "run")
    done = decathlon("export", task_id, "--run", folder, "--json")
    assert done.status == 0, done.err
    result = json.loads(done.out)
    assert result["max_difference"] <= result["tolerance"]
    print(
        {name: result[name] for name in ("task", "bytes", "threads", "onnxruntime_ms", "pytorch_ms", "max_difference")}
    )
