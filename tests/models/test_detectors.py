"""The two detectors' networks: torchvision's, kept to their promise, and begun with pretrained weights."""

from __future__ import annotations

import json
import os
import pickle
import socket
import urllib.error
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from decathlon.data import pretrained, voc
from decathlon.data.base import DataInfo
from decathlon.errors import UsageError
from decathlon.tasks.base import get_task

TASKS = ("voc-faster-rcnn", "voc-retinanet")
INFO = DataInfo(list(voc.CLASSES))

# --- Networks ---------------------------------------------------------------------------------------------------------


def torchvision_model(task_id: str, classes: int, **options: Any) -> nn.Module:
    """What torchvision builds under the name in the card."""
    name = "fasterrcnn_mobilenet_v3_large_320_fpn" if "faster" in task_id else "retinanet_resnet50_fpn"
    build = getattr(torchvision.models.detection, name)
    return build(weights=None, weights_backbone=None, num_classes=classes, **options)


def plain(task_id: str, **changes: Any) -> Any:
    """The recipe, without the group norm that torchvision's heads lack."""
    recipe = get_task(task_id).recipe()
    return replace(recipe, **({"head_norm": "none"} if "retina" in task_id else {}), **changes)


@pytest.mark.parametrize("task_id", TASKS)
def test_networks_are_torchvisions(task_id: str) -> None:
    torch.manual_seed(0)
    reference = torchvision_model(task_id, 21, min_size=320, max_size=640).eval()
    if "faster" in task_id:  # as they are, all scores are nearly equal, and which come first is chance
        for part in (reference.rpn.head.cls_logits, reference.roi_heads.box_predictor.cls_score):
            nn.init.normal_(part.weight, std=0.5)
    network = get_task(task_id).model(plain(task_id), INFO).eval()
    network.load_state_dict(reference.state_dict())
    for model in (network, reference):
        (model.roi_heads if "faster" in task_id else model).score_thresh = 0.0  # random weights are sure of nothing
    image = torch.rand(3, 90, 130)
    with torch.no_grad():
        (detections,), (expected,) = network([image]), reference([image])
    count = min(len(detections["scores"]), len(expected["scores"]))
    assert count > 0
    assert torch.allclose(detections["scores"][:count], expected["scores"][:count], atol=1e-4)
    # Where scores are equal the order is chance, so the boxes are compared as a set.
    assert torch.cdist(detections["boxes"][:5], expected["boxes"]).min(1).values.max() < 0.2


def test_retinanet_begins_with_the_prior_of_the_focal_loss() -> None:
    head = get_task("voc-retinanet").model(plain("voc-retinanet"), INFO).head.classification_head  # type: ignore[union-attr]
    assert isinstance(head, torchvision.models.detection.retinanet.RetinaNetClassificationHead)
    assert torch.allclose(head.cls_logits.bias.sigmoid(), torch.tensor(0.01))
    assert head.num_classes == 21


@pytest.mark.parametrize("task_id", TASKS)
def test_the_small_backbone_breaks_the_promise_on_other_data(task_id: str) -> None:
    task = get_task(task_id)
    small = task.model(task.sample_recipe(), INFO)
    assert any("its backbone is not" in rule for rule in task.check_architecture(small, INFO))
    assert task.check_architecture(small, replace(INFO, is_sample=True)) == []
    fewer = DataInfo(["cat", "dog"], is_sample=True)
    assert any(
        "for the data's classes" in rule
        for rule in task.check_architecture(
            task.model(task.sample_recipe(), INFO), replace(INFO, classes=[*voc.CLASSES, "unicorn"])
        )
    )
    assert task.check_architecture(task.model(task.sample_recipe(), fewer), fewer) == []


@pytest.mark.parametrize("task_id", TASKS)
def test_official_networks_keep_the_promise(task_id: str) -> None:
    task = get_task(task_id)
    assert task.check_architecture(task.model(task.recipe(), INFO), INFO) == []
    other_model = torchvision_model(TASKS[task_id == TASKS[0]], 21, min_size=64, max_size=96)
    assert any("it is not a " in rule for rule in task.check_architecture(other_model, INFO)), "the other detector"


@pytest.mark.parametrize("network", [nn.Linear(3, 4), nn.Identity()])
def test_a_network_that_is_no_detector_is_refused(network: nn.Module) -> None:
    network.register_parameter("one", nn.Parameter(torch.zeros(1)))
    with pytest.raises(ValueError, match="must take a list of images"):
        get_task(TASKS[0]).check_architecture(network, INFO)


# --- Pretrained weights -----------------------------------------------------------------------------------------------


def pretrained_model(task_id: str, classes: list[str], weights: Path | str) -> Any:
    task, data = get_task(task_id), object()
    info = DataInfo(classes)
    return task.model(plain(task_id, weights=str(weights)), info, data)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=TASKS)
def coco(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, Path]:
    """A detector for COCO's 91 classes with random weights, and its file."""
    torch.manual_seed(1)
    model = torchvision_model(request.param, 91).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.02)
        elif parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.0, 1.0)
    path = tmp_path_factory.mktemp("coco") / "coco.safetensors"
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    return request.param, model, path


def test_rows_of_coco_are_copied(coco: tuple[str, Any, Path]) -> None:
    """The same features get the same scores, and boxes, for the classes that both know."""
    task_id, model, path = coco
    classes = [*voc.CLASSES, "unicorn"]
    detector = pretrained_model(task_id, classes, path).eval()
    task: Any = get_task(task_id)
    names = task.Weights.COCO_V1.meta["categories"]
    rows = [0, *(names.index(pretrained.COCO_NAMES.get(name, name)) for name in voc.CLASSES)]
    assert len(set(rows)) == 21, "all twenty of VOC's classes are COCO's"
    with torch.no_grad():
        if "faster" in task_id:
            features = torch.rand(5, 1024)
            (scores, offsets), (expected, moved) = (m.roi_heads.box_predictor(features) for m in (detector, model))
            predicted, expected_offsets = offsets.view(5, 22, 4)[:, :21], moved.view(5, 91, 4)[:, rows]
            assert torch.allclose(predicted, expected_offsets, atol=1e-5)
        else:
            features = [torch.rand(1, 256, 4, 5)]
            outputs = [m.head(features) for m in (detector, model)]
            scores, expected = (output["cls_logits"][0] for output in outputs)
            assert torch.allclose(*(output["bbox_regression"] for output in outputs), atol=1e-5)
        assert torch.allclose(scores[:, :21], expected[:, rows], atol=1e-5)
        maps = [next(iter(m.backbone(torch.full((1, 3, 64, 64), 0.5)).values())) for m in (detector, model)]
    assert torch.allclose(*maps, atol=1e-4), "and the backbone is the same"


def test_weights_of_the_same_classes_are_taken_whole(coco: tuple[str, Any, Path], tmp_path: Path) -> None:
    task_id = coco[0]
    torch.manual_seed(2)
    model = get_task(task_id).model(plain(task_id), DataInfo(["cat", "dog"]))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "run.safetensors")
    detector = pretrained_model(task_id, ["cat", "dog"], tmp_path / "run.safetensors")
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in detector.state_dict().items())
    with pytest.raises(ValueError, match="a detector of 3 classes, which are neither COCO's 91 nor ours"):
        pretrained_model(task_id, ["cat", "dog", "cow"], tmp_path / "run.safetensors")


@pytest.mark.parametrize("task_id", TASKS)
def test_a_classifiers_backbone(task_id: str, tmp_path: Path) -> None:
    name = "mobilenet_v3_large" if "faster" in task_id else "resnet50"
    torch.manual_seed(3)
    classifier = getattr(torchvision.models, name)()
    torch.save(classifier.state_dict(), tmp_path / "backbone.pth")
    state = pretrained_model(task_id, list(voc.CLASSES), tmp_path / "backbone.pth").state_dict()
    for key, value in classifier.state_dict().items():
        parameter = "backbone.body." + key.removeprefix("features.")
        if parameter in state:
            assert torch.equal(state[parameter], value)
    assert sum(key.startswith("backbone.body.") for key in state) > 200
    other_backbone = "resnet50" if "faster" in task_id else "mobilenet_v3_large"
    torch.save(getattr(torchvision.models, other_backbone)().state_dict(), tmp_path / "other.pth")
    with pytest.raises(ValueError, match="neither a detector nor a backbone like ours"):
        pretrained_model(task_id, list(voc.CLASSES), tmp_path / "other.pth")


class Evil:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, ("was-run",)


@pytest.mark.parametrize("kind", ["program", "text", "no table", "cut short", "empty"])
def test_a_file_that_holds_no_weights(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save([1, 2] if kind == "no table" else {"a": torch.zeros(99)}, path)
    if kind == "program":
        path.write_bytes(pickle.dumps({"a": Evil()}))
    elif kind == "text":
        path = path.with_suffix(".safetensors")
        path.write_text("nothing but text")
    elif kind in ("cut short", "empty"):
        path.write_bytes(path.read_bytes()[: 300 if kind == "cut short" else 0])
    with pytest.raises(ValueError, match=r"--weights .*weights.* (is damaged, or holds more than|contains no table)"):
        pretrained.read_tensors(path)
    assert not Path("was-run").exists(), "nothing in the file is run"


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError, match="give coco, imagenet, none, or a file"):
        pretrained.read_tensors(Path("absent.safetensors"))


@pytest.mark.parametrize("weights", ["coco", "imagenet"])
@pytest.mark.parametrize("task_id", TASKS)
def test_no_network_is_reported_with_a_workaround(
    task_id: str, weights: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def offline(request: Any, timeout: float) -> None:
        raise urllib.error.URLError(socket.gaierror("no route"))

    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ConnectionError, match=rf"--weights {weights}: .*https://.*--weights none.*--weights FILE"):
        pretrained_model(task_id, list(voc.CLASSES), weights)


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": "frozen"},
        {"norm": "group", "weights": "coco"},
        {"scale_range": (1.2, 1.5)},
        {"trainable_layers": 7},
        {"max_size": 9},
        {"backbone": "small", "norm": "group"},
        {"backbone": "small", "trainable_layers": 2},
    ],
)
@pytest.mark.parametrize("task_id", TASKS)
def test_recipes_that_make_no_sense(task_id: str, changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        replace(get_task(task_id).recipe(), **changes)


@pytest.mark.parametrize("task_id", TASKS)
def test_a_detector_of_other_classes_gives_the_rows_of_the_same_names(
    task_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fine-tuning the weights that ship, or a run of one's own, on classes of which some are the same."""
    heads = {
        "voc-faster-rcnn": "roi_heads.box_predictor.cls_score.bias",
        "voc-retinanet": "head.classification_head.cls_logits.bias",
    }
    names = ["cat", "dog", "person"]
    torch.manual_seed(2)
    model = get_task(task_id).model(plain(task_id), DataInfo(names))
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"a detector of 4 classes, which are .*not ours|neither COCO's"):
        pretrained_model(task_id, ["person", "van"], tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"info": {"classes": names}}))
    for ours, wanted in (
        (["person", "van", "cat", "boat"], [0, 3, None, 1, None]),
        (["dog", "Cat", "PERSON"], [0, 2, 1, 3]),
    ):
        capsys.readouterr()
        tuned = pretrained_model(task_id, ours, tmp_path)  # the folder
        new = [name for name, source in zip(ours, wanted[1:], strict=True) if source is None]
        told = f"with the rows of {len(ours) - len(new)} of {len(ours)} classes"
        assert told + (f" (new: {', '.join(new)})" if new else "\n") in capsys.readouterr().err
        theirs = model.state_dict()[heads[task_id]].reshape(-1, 4)
        rows = tuned.state_dict()[heads[task_id]].reshape(-1, len(ours) + 1)
        for column, source in enumerate(wanted):
            if source is not None:
                assert torch.equal(rows[:, column], theirs[:, source])
        backbone = next(
            name for name in tuned.state_dict() if name.startswith("backbone.body") and name.endswith("weight")
        )
        assert torch.equal(tuned.state_dict()[backbone], model.state_dict()[backbone])


@pytest.mark.parametrize("task_id", TASKS)
def test_weights_of_another_backbone_are_refused_in_a_sentence(task_id: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"--weights {task_id}: a detector with the backbone timm/.* --recipe best"):
        pretrained_model(task_id, list(voc.CLASSES), task_id)
    path = tmp_path / "model.safetensors"
    (tmp_path / "config.json").write_text('{"recipe": [], "info": 3}')  # says nothing of a backbone or of classes
    state = get_task(task_id).model(plain(task_id), DataInfo(["cat"])).state_dict()
    save_file({name: value.contiguous() for name, value in state.items() if ".body." not in name}, path)
    with pytest.raises(ValueError, match=r"of another network: it lacks backbone\.body\..*, …$"):
        pretrained_model(task_id, ["cat"], path)


def test_a_class_is_found_by_its_exact_name_first() -> None:
    known = ["__background__", "Cat", "cat", "tv"]
    names = ["cat", "Cat", "CAT", "TVmonitor", "dog"]
    assert [pretrained.find_class(name, known) for name in names] == [2, 1, 1, 3, None]
