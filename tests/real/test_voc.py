"""Real PASCAL VOC. Needs VOCdevkit/VOC2007 in the folder that DECATHLON_DATA names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import real_data
import torch

from decathlon.cli.main import run_command
from decathlon.data import voc
from decathlon.data.base import EpochShard, Source, parse_source
from decathlon.tasks.base import get_task


def test_all_splits_and_classes_are_read() -> None:
    data = voc.load(Source("official", None, Path(real_data.require("voc")), download=False))
    assert data.info.classes == list(voc.CLASSES)
    labels = set[int]()
    for split in (data.train, data.validation, data.test):
        assert isinstance(split, voc.DetectionSplit)
        for index in range(0, len(split), 25):
            image, target = split.example(index)
            height, width = image.shape[1:]
            assert (target["boxes"] >= 0).all()
            assert (target["boxes"] <= torch.tensor([width, height, width, height]) + 1e-3).all()
            assert (target["boxes"][:, 2:] > target["boxes"][:, :2]).all()
        labels |= {int(label) for start, end in split.targets.tolist() for label in split.source.labels[start:end]}
    assert labels == set(range(1, 21))


@pytest.mark.parametrize("task_id", ["voc-faster-rcnn", "voc-retinanet"])
def test_the_official_network_learns_from_a_few_images(task_id: str) -> None:
    """The recipe's network on four images, at a smaller size: forty steps reduce the loss by a third."""
    task = get_task(task_id)
    data = task.load(parse_source("official", real_data.require("voc"), download=False), task.recipe())
    torch.manual_seed(0)
    model = task.model(task.recipe(), data.info, data.train).train()
    model.transform.min_size, model.transform.max_size = (96,), 160  # type: ignore[union-attr]
    first_batch = next(iter(task.batches(data.train, task.recipe(), EpochShard(0, 0))))
    batch = first_batch[0][:4], first_batch[1][:4]
    optimizer, losses = torch.optim.AdamW(model.parameters(), 3e-4), []
    for _ in range(40):
        torch.manual_seed(1)
        loss = task.training_loss(model, batch, task.recipe())["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.67 * losses[0], losses


def test_the_plan_for_real_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = real_data.require("voc")
    command = ["train", "voc-faster-rcnn", "--data-dir", folder, "--out", str(tmp_path / "run"), "--dry-run", "--json"]
    assert run_command(command) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["violations"] == []
    assert plan["data"].startswith("voc")
