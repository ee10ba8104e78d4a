"""What the two detectors share: measures, batches, pretrained weights, rules and predictions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from conftest import Command
from lightning_fabric import Fabric
from PIL import Image
from torch import Tensor, nn
from torchmetrics.detection import MeanAveragePrecision
from voc_trees import bright, many, object_xml, own, patch, tree, xml

from decathlon.data import voc
from decathlon.data.base import Data, DataInfo, EpochShard, parse_source
from decathlon.data.transforms import detection as transforms
from decathlon.data.transforms.augment import to_float
from decathlon.evaluation import detection, detection_plots, predictions, voc_ap
from decathlon.evaluation.predictions import Detections
from decathlon.runs import folder as run_folder
from decathlon.tasks.base import get_task

TASKS = ("voc-faster-rcnn", "voc-retinanet")
INFO = DataInfo(list(voc.CLASSES))
Boxes = dict[str, Tensor]


def ground_truth(*boxes: tuple[float, float, float, float], hard: int = 0, label: int = 1) -> Boxes:
    """What is in a picture; of these the last `hard` are difficult."""
    difficult = torch.arange(len(boxes)) >= len(boxes) - hard
    return {
        "boxes": torch.tensor(boxes).float().view(-1, 4),
        "labels": torch.full((len(boxes),), label),
        "difficult": difficult,
    }


def detections_of(*boxes_and_scores: tuple[float, ...], label: int = 1) -> Boxes:
    """Detections: boxes, and as a fifth number the score."""
    table = torch.tensor(boxes_and_scores).float().view(-1, 5)
    return {"boxes": table[:, :4], "scores": table[:, 4], "labels": torch.full((len(boxes_and_scores),), label)}


# --- Measures ---------------------------------------------------------------------------------------------------------

A, B, C = (0, 0, 20, 20), (40, 40, 70, 70), (100, 0, 140, 40)


def test_eleven_points_by_hand() -> None:
    """Two objects; detections right, wrong, right: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1.

    So the best precision is 1 at the six recalls from 0 to 0.5, and 2/3 at the five from 0.6 to 1.
    """
    curve = voc_ap.precision_recall([detections_of((*A, 0.9), (*C, 0.8), (*B, 0.7))], [ground_truth(A, B)], 1)
    assert curve is not None
    assert curve[0].tolist() == pytest.approx([1, 1 / 2, 2 / 3])
    assert curve[1].tolist() == pytest.approx([0.5, 0.5, 1])
    assert voc_ap.eleven_point_ap(*curve) == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


def test_detections_are_ranked_over_all_images() -> None:
    curve = voc_ap.precision_recall(
        [detections_of((*C, 0.5)), detections_of((*A, 0.9))], [ground_truth(B), ground_truth(A)], 1
    )
    assert curve is not None
    assert curve[0].tolist() == [1, 0.5]


def test_a_second_detection_of_an_object_is_wrong() -> None:
    curve = voc_ap.precision_recall([detections_of((*A, 0.9), (*A, 0.8))], [ground_truth(A)], 1)
    assert curve is not None
    assert curve[0].tolist() == [1, 0.5]


def test_too_little_overlap_is_wrong() -> None:
    curve = voc_ap.precision_recall([detections_of((0, 0, 20, 9.9, 0.9))], [ground_truth(A)], 1)
    assert curve is not None
    assert curve[0].tolist() == [0]


def test_what_is_difficult_does_not_count() -> None:
    detections, truths = [detections_of((*A, 0.9), (*B, 0.8))], [ground_truth(A, B, hard=1)]
    curve = voc_ap.precision_recall(detections, truths, 1)
    assert curve is not None
    assert (curve[0].tolist(), curve[1].tolist()) == ([1], [1])
    for predicted in (detections, [detections_of((*A, 0.9))]):
        assert detection.compute_metrics(predicted, truths, ["cat"])["map"] == pytest.approx(1)


def test_difficult_objects_are_matched_by_iou() -> None:
    """A small box in a large difficult object has a low IoU with it: a false positive, unlike in a crowd of COCO's."""
    large, small = (0, 0, 100, 100), (10, 10, 30, 30)
    targets = [ground_truth(B, large, hard=1)]
    assert voc_ap.match_difficult(detections_of((*small, 0.9), (0, 0, 100, 70, 0.8)), targets[0]).tolist() == [
        False,
        True,
    ]
    assert not voc_ap.match_difficult(detections_of((*large, 0.9), label=2), targets[0]).any(), "of another class"
    alone = detection.compute_metrics([detections_of((*B, 0.5))], targets, ["cat"])
    assert alone["map"] == pytest.approx(1), "what is difficult is not missed"
    ignored = detection.compute_metrics([detections_of((*large, 0.9), (*large, 0.8), (*B, 0.5))], targets, ["cat"])
    assert ignored == alone, "however often it is detected"
    wrong = detection.compute_metrics([detections_of((*small, 0.9), (*B, 0.5))], targets, ["cat"])
    assert wrong["map"] == pytest.approx(0.5)
    assert wrong["voc_ap50_11_point"] == pytest.approx(0.5)


@pytest.mark.parametrize("backend", ["pycocotools", "faster_coco_eval"])
def test_without_difficult_objects_the_metrics_are_cocos(backend: Literal["pycocotools", "faster_coco_eval"]) -> None:
    generator = torch.Generator().manual_seed(0)
    targets, detections = [], []
    for _ in range(12):
        corners = torch.rand(4, 2, generator=generator) * 60
        boxes = torch.cat([corners, corners + 10 + torch.rand(4, 2, generator=generator) * 40], 1)
        labels = torch.randint(1, 3, (4,), generator=generator)
        targets.append({"boxes": boxes, "labels": labels, "difficult": torch.zeros(4, dtype=torch.bool)})
        moved = boxes + torch.randn(4, 4, generator=generator) * 2
        detections.append({"boxes": moved, "labels": labels, "scores": torch.rand(4, generator=generator)})
    reference = MeanAveragePrecision(backend=backend)
    reference.update(detections, targets)
    expected = reference.compute()
    values = detection.compute_metrics(detections, targets, ["cat", "dog"])
    assert 0.2 < values["map"] < 0.9
    for name in ("map", "map_50", "map_75", "mar_100"):
        assert values[name] == pytest.approx(float(expected[name]), abs=1e-6)


def test_a_class_that_is_not_there() -> None:
    assert voc_ap.precision_recall([detections_of((*A, 0.9), label=2)], [ground_truth(A)], 2) is None
    values = detection.compute_metrics(
        [detections_of((*A, 0.9)), detections_of((*B, 0.9), label=2)], [ground_truth(A), ground_truth()], ["cat", "dog"]
    )
    assert "ap_dog" not in values
    assert values["ap_cat"] == values["map"] == values["map_50"] == values["voc_ap50_11_point"] == pytest.approx(1)


def test_measures_are_floats_and_name_no_empty_size() -> None:
    values = detection.compute_metrics([detections_of((*A, 0.9))], [ground_truth(A)], ["cat"])
    assert all(type(value) is float for value in values.values())
    assert "map_small" in values
    assert not {"map_medium", "map_large"} & set(values)


@pytest.mark.parametrize("truth", [ground_truth(A), ground_truth()])
def test_nothing_found(truth: Boxes) -> None:
    values = detection.compute_metrics([detections_of()], [truth], ["cat"])
    assert (values["map"], values["map_50"], values["voc_ap50_11_point"]) == (0, 0, 0)


def test_map_is_cocos() -> None:
    """An overlap of 16/20 counts at the seven of ten thresholds from 0.50 to 0.80, and at no other."""
    values = detection.compute_metrics([detections_of((0, 0, 20, 16.1, 0.9))], [ground_truth(A)], ["cat"])
    assert values["map"] == pytest.approx(0.7)
    assert values["map_50"] == values["map_75"] == values["voc_ap50_11_point"] == pytest.approx(1)


# --- Batches ----------------------------------------------------------------------------------------------------------


def example(index: int = 0) -> tuple[Tensor, Boxes]:
    left, top, right, bottom = 10 + index, 5, 30, 25
    image = torch.from_numpy(np.array(patch((left, top, right, bottom)))).permute(2, 0, 1)
    target = {
        "boxes": torch.tensor([[left, top, right, bottom], [41, 31, 59, 39]]).float(),
        "labels": torch.tensor([1, 2]),
        "difficult": torch.tensor([False, True]),
    }
    return image, target


@pytest.mark.parametrize("seed", range(40))
def test_boxes_stay_on_their_objects(seed: int) -> None:
    torch.manual_seed(seed)
    image, target = transforms.augment(*example(), (80, 200), (0.4, 1.6))
    assert image.shape == (3, 80, 120), "the shape stays"
    assert image.dtype == torch.uint8
    assert type(image) is type(target["boxes"]) is Tensor
    assert len(target["boxes"]) == len(target["labels"]) <= 1, "what is difficult is not trained on"
    for box in target["boxes"].tolist():
        assert box == pytest.approx(bright(image), abs=2.1)


def test_augmentation_varies_and_drops_what_is_cut_off() -> None:
    torch.manual_seed(0)
    boxes = [transforms.augment(*example(), (80, 200), (0.3, 1.0))[1]["boxes"] for _ in range(60)]
    assert 5 < sum(len(box) == 0 for box in boxes) < 55
    assert len({tuple(box[0].round().tolist()) for box in boxes if len(box)}) > 20


def test_no_zoom_leaves_the_image() -> None:
    torch.manual_seed(0)
    images = [transforms.augment(*example(), (40, 60), (1.0, 1.0))[0] for _ in range(8)]
    original = example()[0]
    assert any(torch.equal(image, original) for image in images)
    assert all(torch.equal(p, original) or torch.equal(p, original.flip(2)) for p in images)


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        ((240, 320), (320, 427)),
        ((320, 240), (427, 320)),
        ((100, 500), (128, 640)),
        ((500, 3), (640, 4)),
        ((9, 9), (320, 320)),
    ],
)
def test_images_are_scaled_as_the_detector_would(shape: tuple[int, int], fits: tuple[int, int]) -> None:
    assert transforms.scaled_size(*shape, (320, 640)) == fits
    transform = get_task(TASKS[0]).model(get_task(TASKS[0]).sample_recipe(), INFO).transform
    transform.min_size, transform.max_size = (320,), 640
    assert transform([torch.zeros(3, *fits)])[0].image_sizes == [fits], "so it need not scale again"


@pytest.fixture
def shapes(tmp_path: Path) -> voc.DetectionSplit:
    """Twelve wide pictures and eight high ones."""
    folder = tree(tmp_path / "mine", {f"a{number:02}": xml(object_xml()) for number in range(12)})
    tree(folder, {f"b{number}": xml(object_xml(), size=(40, 60)) for number in range(8)}, patch(size=(40, 60)))
    data = own(folder)
    return voc.DetectionSplit(
        torch.arange(20), torch.stack([torch.arange(20), torch.arange(1, 21)], 1), data.train.source
    )  # type: ignore[attr-defined]


def drawn(split: voc.DetectionSplit, **changes: Any) -> list[transforms.Batch]:
    epoch = EpochShard(**({"seed": 3, "number": 1} | {k: v for k, v in changes.items() if k != "workers"}))
    return list(transforms.batches(split, 4, epoch, (40, 60), (0.5, 1.2), changes.get("workers", 0)))


def same(first: list[transforms.Batch], second: list[transforms.Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a, b) and all(torch.equal(x[name], y[name]) for name in ("boxes", "labels"))
        for (first_images, first_targets), (second_images, second_targets) in zip(first, second, strict=True)
        for a, b, x, y in zip(first_images, second_images, first_targets, second_targets, strict=True)
    )


def test_batches_depend_on_seed_and_epoch_alone(shapes: voc.DetectionSplit) -> None:
    torch.manual_seed(0)
    whole = drawn(shapes)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    assert same(whole, drawn(shapes))
    assert torch.equal(state, torch.random.get_rng_state()), "the loop's own draws are left alone"
    assert same(whole[2:], drawn(shapes, start=2)), "a resumed run"
    assert same(whole, drawn(shapes, workers=1)), "whoever reads"
    assert not same(whole, drawn(shapes, number=2))
    assert not same(whole, drawn(shapes, seed=4))


def test_a_batch_is_of_one_shape_and_an_epoch_shows_all(shapes: voc.DetectionSplit) -> None:
    batches = drawn(shapes)
    assert [len({image.shape for image in images}) for images, _ in batches] == [1] * 5
    assert sum(image.shape == (3, 60, 40) for images, _ in batches for image in images) == 8


def test_processes_share_a_batch(shapes: voc.DetectionSplit) -> None:
    batches, parts = drawn(shapes), [drawn(shapes, rank=rank, world=2) for rank in range(2)]
    for (images, _), (first, _), (second, _) in zip(batches, *parts, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(images[::2], first, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(images[1::2], second, strict=True))


# --- Trained ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return voc.load(parse_source("sample", str(tmp_path_factory.mktemp("sample"))))


@pytest.mark.parametrize("task_id", TASKS)
def test_measures_do_not_depend_on_the_order(task_id: str, sample: Data) -> None:
    task = get_task(task_id)
    torch.manual_seed(0)
    model: Any = task.model(task.sample_recipe(), sample.info).eval()
    (model.roi_heads if "faster" in task_id else model).score_thresh = 0.0  # random weights are sure of nothing
    few = sample.validation[:9]
    with torch.no_grad():
        first, truth = detection.detect_split(model, few)
        second, turned = detection.detect_split(model, few[torch.arange(8, -1, -1)])
    assert all(len(found["boxes"]) for found in first)
    for one, other, target, same in zip(first, second[::-1], truth, turned[::-1], strict=True):
        assert torch.equal(target["boxes"], same["boxes"])
        assert torch.allclose(one["scores"], other["scores"], atol=1e-5)


@pytest.mark.parametrize("task_id", TASKS)
def test_half_precision(task_id: str, sample: Data) -> None:
    """Boxes and scores of two types would not go together."""
    task = get_task(task_id)
    recipe, few = task.sample_recipe(), sample.validation[:4]
    torch.manual_seed(0)
    model: Any = task.model(recipe, sample.info)
    (model.roi_heads if "faster" in task_id else model).score_thresh = 0.0  # random weights are sure of nothing
    targets_seen: list[Any] = []
    model.transform.register_forward_pre_hook(lambda _, inputs: targets_seen.extend(inputs[1] or []))
    fabric = Fabric(accelerator="cpu", precision="bf16-mixed")
    losses = task.training_loss(
        fabric.setup(model.train()), next(iter(task.batches(sample.train, recipe, EpochShard(0, 0)))), recipe
    )
    assert all(target["boxes"].dtype == torch.float32 for target in targets_seen)
    assert any((target["boxes"] != target["boxes"].bfloat16().float()).any() for target in targets_seen)
    with torch.no_grad(), fabric.autocast():
        (detections, *_), _ = detection.detect_split(model.eval(), few)
        convolution = next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d))
        kinds: list[torch.dtype] = []
        convolution.register_forward_hook(lambda module, inputs, output: kinds.append(output.dtype))
        (raw,) = model([to_float(few.example(0)[0])])
    assert kinds == [torch.bfloat16], "what takes the time is done in half precision"
    assert raw["boxes"].dtype == raw["scores"].dtype == torch.float32, "and what must not be rounded to pixels is not"
    assert (raw["boxes"] != raw["boxes"].bfloat16()).any()
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    assert len(detections["scores"]) > 0
    assert detections["boxes"].dtype == detections["scores"].dtype == torch.float32


def test_scenes_stay_where_workers_can_read_them(sample: Data) -> None:
    """Workers are forked, and a forked process cannot use a GPU."""
    moved = sample.to("meta")
    assert isinstance(moved.train, voc.DetectionSplit)
    assert moved.train.example(0)[0].device == moved.train.shapes().device == torch.device("cpu")


@pytest.mark.parametrize("norm", ["batch", "frozen"])
def test_retinanet_with_weights_of_coco_trains(norm: str, sample: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights with a variance of nearly zero have an epsilon of none, which batch norm refuses where it learns."""
    task: Any = get_task("voc-retinanet")
    monkeypatch.setattr(task, "start_detector", lambda *args: None)  # the weights themselves are of no importance here
    recipe = replace(task.recipe(), weights="coco", norm=norm, head_norm="none", min_size=64, max_size=96, batch_size=2)
    model = task.model(recipe, sample.info, sample.train)
    losses = task.training_loss(model.train(), next(iter(task.batches(sample.train, recipe, EpochShard(0, 0)))), recipe)
    assert losses["loss"].isfinite()
    assert {m.eps for m in model.modules() if hasattr(m, "running_var")} == {1e-5 if norm == "batch" else 0.0}
    with pytest.raises(ValueError, match="--head-norm must be none with --weights coco"):
        replace(recipe, head_norm="group")


def test_learns_to_detect_drawn_objects(sample: Data, decathlon: Command) -> None:
    """Half of the sample's recipe; tests/soak/test_sample_recipes.py trains all of it, and of the other task."""
    task = get_task("voc-faster-rcnn")
    torch.manual_seed(0)
    with torch.no_grad():
        untrained = task.evaluate(
            task.model(task.sample_recipe(), sample.info).eval(), sample, "validation", task.sample_recipe()
        )
    done = decathlon("train", "voc-faster-rcnn", "--data", "sample", "--epochs", "3", "--out", "run")
    assert done.status == 0, done.err
    trained = run_folder.read_lines(Path("run/metrics.jsonl"))[-1]["validation"]
    assert untrained["map_50"] < 0.02
    assert trained["map_50"] > 0.15, "three epochs gave 0.65"
    assert trained["map"] > 5 * untrained["map"]


@pytest.mark.parametrize("size", [(31, 200), (1200, 900), (8, 8)])
@pytest.mark.parametrize("task_id", TASKS)
def test_predicts_images_of_any_size(task_id: str, size: tuple[int, int], sample: Data) -> None:
    task = get_task(task_id)
    torch.manual_seed(0)
    model: Any = task.model(task.sample_recipe(), sample.info).eval()
    (model.roi_heads if "faster" in task_id else model).score_thresh = 0.0  # random weights are sure of nothing
    Image.new("RGB", size, "gray").save("grey.png")
    (prediction,) = detection.predict(model, ["grey.png"], 0.0, sample.info, 1, 500)
    assert isinstance(prediction, Detections)
    assert prediction.to_dict()["objects"]
    assert prediction.to_dict()["size"] == list(size)
    for detected in prediction.to_dict()["objects"]:
        assert detected["class"] in sample.info.classes
        assert 0 <= detected["box"][0] <= detected["box"][2] <= size[0]
        assert 0 <= detected["box"][1] <= detected["box"][3] <= size[1]
    (path,) = prediction.save(Path(), "grey")
    with Image.open(path) as image:
        assert image.size == size
    (certain,) = detection.predict(model, ["grey.png"], 1.0, sample.info, 1, 500)
    assert isinstance(certain, Detections)
    assert (certain.to_dict()["label"], certain.to_dict()["objects"]) == ("nothing found", [])


def test_saving_overwrites_nothing(sample: Data) -> None:
    model = get_task(TASKS[0]).model(get_task(TASKS[0]).sample_recipe(), sample.info).eval()
    for folder in ("one", "two"):
        Path(folder).mkdir()
        Image.new("RGB", (60, 50), "gray").save(f"{folder}/same.png")
    predictions_ = detection.predict(
        model, ["one/same.png", "two/same.png", "three/same.png"], 0.5, sample.info, 2, 500
    )
    assert isinstance(predictions_[2], FileNotFoundError)
    paths = [p.save(Path(), "same") for p in predictions_ if isinstance(p, Detections)]
    assert [str(path) for saved in paths for path in saved] == ["same-boxes.png", "same-2-boxes.png"]


def test_an_object_is_shown_with_its_most_confident_label() -> None:
    output = detections_of((*A, 0.6), (0, 0, 20, 19, 0.9), (*B, 0.7), (*C, 0.3)) | {
        "labels": torch.tensor([1, 2, 3, 4])
    }
    assert detection.select_detections(output, 0.5)["labels"].tolist() == [2, 3]
    assert detection.select_detections(detections_of(), 0.5)["boxes"].shape == (0, 4)


def test_objects_are_counted_by_label() -> None:
    assert predictions.count_labels(["boat", "cat", "cat"]) == "2 cat, 1 boat"


def test_own_data_train_a_detector_of_their_classes(tmp_path: Path, decathlon: Command) -> None:
    folder = tree(tmp_path / "mine", many(a=xml(), b=xml(object_xml("dog"))))
    flags = ["--backbone", "small", "--min-size", "40", "--max-size", "60", "--anchors", "8", "16"]
    done = decathlon("train", TASKS[0], "--data", folder, "--epochs", "1", "--batch-size", "4", *flags, "--out", "run")
    assert done.status == 0, done.err
    assert "its backbone is not MobileNetV3-Large" in done.err
    answer = decathlon("predict", TASKS[0], folder / "JPEGImages" / "a.png", "--run", "run")
    assert answer.status == 0, answer.err


def test_a_plot_of_nothing_says_so(tmp_path: Path) -> None:
    nothing = np.zeros(0), np.zeros(0)
    detection_plots.precision_recall({"cat": nothing}, tmp_path / "one.png")
    detection_plots.precision_recall({"cat": (np.ones(1), np.ones(1))}, tmp_path / "two.png")
    middles = [
        np.asarray(Image.open(tmp_path / name).convert("L"))[170:260, 200:420] for name in ("one.png", "two.png")
    ]
    assert (middles[0] < 100).any()
    assert not (middles[1] < 100).any()


def test_large_images_are_made_smaller_as_in_training() -> None:
    """The detector itself scales without antialiasing; the boxes are those of the image as it was given."""
    seen = []

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
            seen.extend(tuple(image.shape[1:]) for image in images)
            boxes = [torch.tensor([[0.0, 0.0, image.shape[2], image.shape[1]]]) for image in images]
            return [{"boxes": box, "labels": torch.tensor([1]), "scores": torch.tensor([0.9])} for box in boxes]

    inputs = [np.zeros((800, 1200, 3), np.uint8), np.zeros((40, 60, 3), np.uint8)]
    found = detection.predict(Whole(), inputs, 0.5, DataInfo(["cat"]), 2, 500)
    assert seen == [(333, 500), (40, 60)]
    assert [prediction.boxes.tolist() for prediction in found] == [[[0, 0, 1200, 800]], [[0, 0, 60, 40]]]
    assert found[0].image.shape == (800, 1200, 3)
