"""Real PASCAL VOC. Needs VOCdevkit/VOC2007 in the folder that DECATHLON_DATA names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from decathlon.cli import run_command
from decathlon.data import Epoch, Source, source, voc
from decathlon.recipe import get_task

DATA = os.environ.get("DECATHLON_DATA", "")

pytestmark = pytest.mark.skipif(
    not (Path(DATA) / "VOCdevkit" / "VOC2007").is_dir(),
    reason="needs real PASCAL VOC: set DECATHLON_DATA to a folder with VOCdevkit/VOC2007",
)


def test_it_is_read_whole() -> None:
    data = voc.load(Source("official", None, Path(DATA), download=False))
    assert data.meta["classes"] == list(voc.CLASSES)
    seen = set[int]()
    for split in (data.train, data.validation, data.test):
        assert isinstance(split, voc.Scenes)
        for place in range(0, len(split), 25):
            picture, target = split.example(place)
            high, wide = picture.shape[1:]
            assert (target["boxes"] >= 0).all()
            assert (target["boxes"] <= torch.tensor([wide, high, wide, high]) + 1e-3).all()
            assert (target["boxes"][:, 2:] > target["boxes"][:, :2]).all()
        seen |= {int(label) for start, end in split.targets.tolist() for label in split.source.labels[start:end]}
    assert seen == set(range(1, 21))


@pytest.mark.parametrize("task_id", ["voc-faster-rcnn", "voc-retinanet"])
def test_the_official_network_learns_from_a_few_photos(task_id: str) -> None:
    """The recipe's network on four photos, at a smaller size: forty steps bring the loss down by a third."""
    task = get_task(task_id)
    data = task.load(source("official", DATA, download=False), task.recipe())
    torch.manual_seed(0)
    model = task.model(task.recipe(), data.meta, data.train).train()
    model.transform.min_size, model.transform.max_size = (96,), 160  # type: ignore[union-attr]
    few = next(iter(task.batches(data.train, task.recipe(), Epoch(0, 0))))
    batch = few[0][:4], few[1][:4]
    optimizer, losses = torch.optim.AdamW(model.parameters(), 3e-4), []
    for _ in range(40):
        torch.manual_seed(1)
        loss = task.step(model, batch, task.recipe())["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.67 * losses[0], losses


def test_the_plan_for_real_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "voc-faster-rcnn", "--data-dir", DATA, "--out", str(tmp_path / "run"), "--dry-run", "--json"]
    assert run_command(command) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["broken_rules"] == []
    assert plan["data"].startswith("voc")
