"""`decathlon grade` at full length: every reference network passes its quick stages, and a newcomer clears a bar."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Command

from decathlon.tasks.base import task_ids

REFERENCE = """
import decathlon
from decathlon.tasks.base import base_recipe, get_task

TASK = "{task}"

def net():
    data, task = decathlon.load_data(TASK, data="sample"), get_task(TASK)
    model = task.model(base_recipe(task, "sample"), data.info, data.train)
    return getattr(model, "network", model)
"""
SKIP = """
from torch import nn

TASK = "cifar10-skip"

def convolution(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.wide = convolution(3, 16), convolution(16, 32)
        self.block, self.pool = convolution(32, 32), nn.MaxPool2d(2)
        self.dropout, self.output = nn.Dropout(0.1), nn.Linear(32, 10)

    def forward(self, images):
        maps = self.pool(self.wide(self.pool(self.stem(images))))  # (N, 32, 8, 8)
        maps = maps + self.block(maps)
        return self.output(self.dropout(maps.amax((2, 3))))

def net():
    return Net()
"""


@pytest.mark.parametrize("task_id", task_ids())
def test_the_reference_network_passes(task_id: str, decathlon: Command) -> None:
    Path("net.py").write_text(REFERENCE.format(task=task_id))
    answer = decathlon("grade", "net.py", "--data", "sample", "--quick", "--json")
    stages = json.loads(answer.out)["stages"]
    assert answer.status == 0, stages[-1]
    assert stages[-1]["name"] == "small part"


def test_a_newcomer_clears_the_bar_of_cifar10_skip(decathlon: Command) -> None:
    Path("net.py").write_text(SKIP.replace("maps = maps + self.block(maps)", "maps = self.block(maps)"))
    plain = decathlon("grade", "net.py", "--data", "sample")
    assert plain.status == 1
    assert "it has no skip connection" in plain.out
    Path("net.py").write_text(SKIP)
    done = decathlon("grade", "net.py", "--data", "sample", "--json")
    assert done.status == 0, done.err
    result = json.loads(done.out)
    assert result["cleared"] is True
    assert len(result["result"]["rows"]) == 2
    assert len(result["result"]["disagreements"]["examples"]) == min(12, result["result"]["disagreements"]["count"])
