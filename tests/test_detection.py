"""What the two detectors share: measures, batches, pretrained weights, rules and predictions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Command
from lightning_fabric import Fabric
from PIL import Image
from test_voc import bright, many, own, patch, thing, tree, xml
from torch import Tensor

from decathlon import boxes, detection, plots, run
from decathlon.augment import to_float
from decathlon.data import Data, Epoch, source, voc
from decathlon.recipe import get_task

TASKS = ("voc-faster-rcnn", "voc-retinanet")
META = {"classes": list(voc.CLASSES), "sample": False}
Things = dict[str, Tensor]


def there(*places: tuple[float, float, float, float], hard: int = 0, label: int = 1) -> Things:
    """What is in a picture; of these the last `hard` are difficult."""
    crowd = torch.tensor([0] * (len(places) - hard) + [1] * hard)
    return {
        "boxes": torch.tensor(places).float().view(-1, 4),
        "labels": torch.full((len(places),), label),
        "iscrowd": crowd,
    }


def seen(*places: tuple[float, ...], label: int = 1) -> Things:
    """Detections: boxes, and as a fifth number the score."""
    table = torch.tensor(places).float().view(-1, 5)
    return {"boxes": table[:, :4], "scores": table[:, 4], "labels": torch.full((len(places),), label)}


# --- Measures ---------------------------------------------------------------------------------------------------------

A, B, C = (0, 0, 20, 20), (40, 40, 70, 70), (100, 0, 140, 40)


def test_eleven_points_by_hand() -> None:
    """Two things; found, wrong, found: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1.

    So the best precision is 1 at the six recalls from 0 to 0.5, and 2/3 at the five from 0.6 to 1.
    """
    curve = detection.precision_recall([seen((*A, 0.9), (*C, 0.8), (*B, 0.7))], [there(A, B)], 1)
    assert curve is not None
    assert curve[0].tolist() == pytest.approx([1, 1 / 2, 2 / 3])
    assert curve[1].tolist() == pytest.approx([0.5, 0.5, 1])
    assert detection.eleven_points(*curve) == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


def test_the_surest_come_first_over_all_pictures() -> None:
    curve = detection.precision_recall([seen((*C, 0.5)), seen((*A, 0.9))], [there(B), there(A)], 1)
    assert curve is not None
    assert curve[0].tolist() == [1, 0.5]


def test_a_second_detection_of_a_thing_is_wrong() -> None:
    curve = detection.precision_recall([seen((*A, 0.9), (*A, 0.8))], [there(A)], 1)
    assert curve is not None
    assert curve[0].tolist() == [1, 0.5]


def test_too_little_overlap_is_wrong() -> None:
    curve = detection.precision_recall([seen((0, 0, 20, 9.9, 0.9))], [there(A)], 1)
    assert curve is not None
    assert curve[0].tolist() == [0]


def test_what_is_difficult_does_not_count() -> None:
    detections, truths = [seen((*A, 0.9), (*B, 0.8))], [there(A, B, hard=1)]
    curve = detection.precision_recall(detections, truths, 1)
    assert curve is not None
    assert (curve[0].tolist(), curve[1].tolist()) == ([1], [1])
    for found in (detections, [seen((*A, 0.9))]):
        assert detection.measured(found, truths, ["cat"])["map"] == pytest.approx(1)


def test_a_class_that_is_not_there() -> None:
    assert detection.precision_recall([seen((*A, 0.9), label=2)], [there(A)], 2) is None
    values = detection.measured([seen((*A, 0.9)), seen((*B, 0.9), label=2)], [there(A), there()], ["cat", "dog"])
    assert "ap_dog" not in values
    assert values["ap_cat"] == values["map"] == values["map_50"] == values["voc_ap50_11_point"] == pytest.approx(1)


def test_measures_are_floats_and_name_no_empty_size() -> None:
    values = detection.measured([seen((*A, 0.9))], [there(A)], ["cat"])
    assert all(type(value) is float for value in values.values())
    assert "map_small" in values
    assert not {"map_medium", "map_large"} & set(values)


@pytest.mark.parametrize("truth", [there(A), there()])
def test_nothing_found(truth: Things) -> None:
    values = detection.measured([seen()], [truth], ["cat"])
    assert (values["map"], values["map_50"], values["voc_ap50_11_point"]) == (0, 0, 0)


def test_map_is_cocos() -> None:
    """An overlap of 16/20 counts at the seven of ten thresholds from 0.50 to 0.80, and at no other."""
    values = detection.measured([seen((0, 0, 20, 16.1, 0.9))], [there(A)], ["cat"])
    assert values["map"] == pytest.approx(0.7)
    assert values["map_50"] == values["map_75"] == values["voc_ap50_11_point"] == pytest.approx(1)


# --- Batches ----------------------------------------------------------------------------------------------------------


def example(place: int = 0) -> tuple[Tensor, Things]:
    left, top, right, bottom = 10 + place, 5, 30, 25
    picture = torch.from_numpy(np.array(patch((left, top, right, bottom)))).permute(2, 0, 1)
    target = {
        "boxes": torch.tensor([[left, top, right, bottom], [41, 31, 59, 39]]).float(),
        "labels": torch.tensor([1, 2]),
        "difficult": torch.tensor([False, True]),
    }
    return picture, target


@pytest.mark.parametrize("seed", range(40))
def test_boxes_stay_on_their_things(seed: int) -> None:
    torch.manual_seed(seed)
    picture, target = boxes.augmented(*example(), (80, 200), (0.4, 1.6))
    assert picture.shape == (3, 80, 120), "the shape stays"
    assert picture.dtype == torch.uint8
    assert type(picture) is type(target["boxes"]) is Tensor
    assert len(target["boxes"]) == len(target["labels"]) <= 1, "what is difficult is not trained on"
    for box in target["boxes"].tolist():
        assert box == pytest.approx(bright(picture), abs=2.1)


def test_augmentation_varies_and_drops_what_is_cut_off() -> None:
    torch.manual_seed(0)
    found = [boxes.augmented(*example(), (80, 200), (0.3, 1.0))[1]["boxes"] for _ in range(60)]
    assert 5 < sum(len(box) == 0 for box in found) < 55
    assert len({tuple(box[0].round().tolist()) for box in found if len(box)}) > 20


def test_no_zoom_leaves_the_picture() -> None:
    torch.manual_seed(0)
    pictures = [boxes.augmented(*example(), (40, 60), (1.0, 1.0))[0] for _ in range(8)]
    original = example()[0]
    assert any(torch.equal(picture, original) for picture in pictures)
    assert all(torch.equal(p, original) or torch.equal(p, original.flip(2)) for p in pictures)


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
def test_pictures_are_scaled_as_the_detector_would(shape: tuple[int, int], fits: tuple[int, int]) -> None:
    assert boxes.fitting(*shape, (320, 640)) == fits
    transform = get_task(TASKS[0]).model(get_task(TASKS[0]).sample_recipe(), META).transform
    transform.min_size, transform.max_size = (320,), 640
    assert transform([torch.zeros(3, *fits)])[0].image_sizes == [fits], "so it need not scale again"


@pytest.fixture
def shapes(tmp_path: Path) -> voc.Scenes:
    """Twelve wide pictures and eight high ones."""
    place = tree(tmp_path / "mine", {f"a{number:02}": xml(thing()) for number in range(12)})
    tree(place, {f"b{number}": xml(thing(), size=(40, 60)) for number in range(8)}, patch(size=(40, 60)))
    data = own(place)
    return voc.Scenes(torch.arange(20), torch.stack([torch.arange(20), torch.arange(1, 21)], 1), data.train.source)  # type: ignore[attr-defined]


def drawn(split: voc.Scenes, **changes: Any) -> list[boxes.Batch]:
    epoch = Epoch(**({"seed": 3, "number": 1} | {k: v for k, v in changes.items() if k != "workers"}))
    return list(boxes.batches(split, 4, epoch, (40, 60), (0.5, 1.2), changes.get("workers", 0)))


def same(one: list[boxes.Batch], other: list[boxes.Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b) and all(torch.equal(x[name], y[name]) for name in ("boxes", "labels"))
        for (left, ours), (right, theirs) in zip(one, other, strict=True)
        for a, b, x, y in zip(left, right, ours, theirs, strict=True)
    )


def test_batches_depend_on_seed_and_epoch_alone(shapes: voc.Scenes) -> None:
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


def test_a_batch_is_of_one_shape_and_an_epoch_shows_all(shapes: voc.Scenes) -> None:
    whole = drawn(shapes)
    assert [len({picture.shape for picture in pictures}) for pictures, _ in whole] == [1] * 5
    assert sum(picture.shape == (3, 60, 40) for pictures, _ in whole for picture in pictures) == 8


def test_processes_share_a_batch(shapes: voc.Scenes) -> None:
    whole, parts = drawn(shapes), [drawn(shapes, rank=rank, world=2) for rank in range(2)]
    for (pictures, _), (one, _), (other, _) in zip(whole, *parts, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(pictures[::2], one, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(pictures[1::2], other, strict=True))


# --- Trained ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return voc.load(source("sample", str(tmp_path_factory.mktemp("sample"))))


@pytest.mark.parametrize("task_id", TASKS)
def test_measures_do_not_depend_on_the_order(task_id: str, sample: Data) -> None:
    task = get_task(task_id)
    torch.manual_seed(0)
    model = task.model(task.sample_recipe(), sample.meta).eval()
    few = replace(sample, validation=sample.validation[:9])
    turned = replace(sample, validation=sample.validation[:9][torch.arange(8, -1, -1)])
    with torch.no_grad():
        one, other = (task.evaluate(model, data, "validation", task.sample_recipe()) for data in (few, turned))
    assert one["map"] == pytest.approx(other["map"], abs=1e-3)


@pytest.mark.parametrize("task_id", TASKS)
def test_half_precision(task_id: str, sample: Data) -> None:
    """Boxes and scores of two types would not go together."""
    task = get_task(task_id)
    recipe, few = task.sample_recipe(), sample.validation[:4]
    torch.manual_seed(0)
    model: Any = task.model(recipe, sample.meta)
    (model.roi_heads if "faster" in task_id else model).score_thresh = 0.0  # random weights are sure of nothing
    seen: list[Any] = []
    model.transform.register_forward_pre_hook(lambda _, given: seen.extend(given[1] or []))
    fabric = Fabric(accelerator="cpu", precision="bf16-mixed")
    losses = task.step(fabric.setup(model.train()), next(iter(task.batches(sample.train, recipe, Epoch(0, 0)))), recipe)
    assert all(target["boxes"].dtype == torch.float32 for target in seen)
    assert any((target["boxes"] != target["boxes"].bfloat16().float()).any() for target in seen)
    with torch.no_grad(), fabric.autocast():
        (found, *_), _ = detection.found(model.eval(), few)
        convolution = next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d))
        kinds: list[torch.dtype] = []
        convolution.register_forward_hook(lambda module, given, output: kinds.append(output.dtype))
        (raw,) = model([to_float(few.example(0)[0])])
    assert kinds == [torch.bfloat16], "what takes the time is done in half precision"
    assert raw["boxes"].dtype == raw["scores"].dtype == torch.float32, "and what must not be rounded to pixels is not"
    assert (raw["boxes"] != raw["boxes"].bfloat16()).any()
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    assert len(found["scores"]) > 0
    assert found["boxes"].dtype == found["scores"].dtype == torch.float32


def test_scenes_stay_where_workers_can_read_them(sample: Data) -> None:
    """Workers are forked, and a forked process cannot use a GPU."""
    moved = sample.to("meta")
    assert isinstance(moved.train, voc.Scenes)
    assert moved.train.example(0)[0].device == moved.train.shapes().device == torch.device("cpu")


@pytest.mark.parametrize("norm", ["batch", "frozen"])
def test_retinanet_with_weights_of_coco_trains(norm: str, sample: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights with a variance of nearly zero have an epsilon of none, which batch norm refuses where it learns."""
    task: Any = get_task("voc-retinanet")
    monkeypatch.setattr(task, "pretrain", lambda *args: None)  # the weights themselves are of no importance here
    recipe = replace(task.recipe(), weights="coco", norm=norm, head_norm="none", min_size=64, max_size=96, batch_size=2)
    model = task.model(recipe, sample.meta, sample.train)
    losses = task.step(model.train(), next(iter(task.batches(sample.train, recipe, Epoch(0, 0)))), recipe)
    assert losses["loss"].isfinite()
    assert {m.eps for m in model.modules() if hasattr(m, "running_var")} == {1e-5 if norm == "batch" else 0.0}
    with pytest.raises(ValueError, match="--head-norm must be none with --weights coco"):
        replace(recipe, head_norm="group")


@pytest.mark.parametrize("task_id", TASKS)
def test_learns_to_find_drawn_things(task_id: str, sample: Data, decathlon: Command) -> None:
    """Half of the sample's recipe or less: far above what random weights find, which is nothing."""
    task = get_task(task_id)
    torch.manual_seed(0)
    with torch.no_grad():
        untrained = task.evaluate(
            task.model(task.sample_recipe(), sample.meta).eval(), sample, "validation", task.sample_recipe()
        )
    done = decathlon("train", task_id, "--data", "sample", "--epochs", "3", "--out", "run")
    assert done.status == 0, done.err
    trained = run.read_lines(Path("run/metrics.jsonl"))[-1]["validation"]
    assert untrained["map_50"] < 0.02
    assert trained["map_50"] > 0.15, "three epochs gave 0.65 with two stages and 0.33 with one"
    assert trained["map"] > 5 * untrained["map"]


@pytest.mark.parametrize("size", [(31, 200), (1200, 900), (8, 8)])
@pytest.mark.parametrize("task_id", TASKS)
def test_predicts_pictures_of_any_size(task_id: str, size: tuple[int, int], sample: Data) -> None:
    task = get_task(task_id)
    torch.manual_seed(0)
    model = task.model(task.sample_recipe(), sample.meta).eval()
    Image.new("RGB", size, "gray").save("grey.png")
    (answer,) = detection.predict(model, ["grey.png"], 0.0, sample.meta, task_id)
    for one in answer["objects"]:
        assert one["class"] in sample.meta["classes"]
        assert 0 <= one["box"][0] <= one["box"][2] <= size[0]
        assert 0 <= one["box"][1] <= one["box"][3] <= size[1]
    with Image.open(answer["picture"]) as picture:
        assert picture.size == size
    (sure,) = detection.predict(model, ["grey.png"], 1.0, sample.meta, task_id)
    assert (sure["label"], sure["objects"]) == ("nothing found", [])


def test_pictures_of_one_name_do_not_overwrite_each_other(sample: Data) -> None:
    model = get_task(TASKS[0]).model(get_task(TASKS[0]).sample_recipe(), sample.meta).eval()
    for folder in ("one", "two"):
        Path(folder).mkdir()
        Image.new("RGB", (60, 50), "gray").save(f"{folder}/same.png")
    answers = detection.predict(model, ["one/same.png", "two/same.png"], 0.5, sample.meta, "x")
    assert [answer["picture"] for answer in answers] == ["same-x.png", "same-x-2.png"]


def test_a_thing_is_shown_under_its_surest_name() -> None:
    output = seen((*A, 0.6), (0, 0, 20, 19, 0.9), (*B, 0.7), (*C, 0.3)) | {"labels": torch.tensor([1, 2, 3, 4])}
    assert detection.shown(output, 0.5)["labels"].tolist() == [2, 3]
    assert detection.shown(seen(), 0.5)["boxes"].shape == (0, 4)


def test_things_in_words() -> None:
    assert detection.in_words(["boat", "cat", "cat"]) == "2 cat, 1 boat"


def test_own_data_train_a_detector_of_their_classes(tmp_path: Path, decathlon: Command) -> None:
    place = tree(tmp_path / "mine", many(a=xml(), b=xml(thing("dog"))))
    flags = ["--backbone", "small", "--min-size", "40", "--max-size", "60", "--anchors", "8", "16"]
    done = decathlon("train", TASKS[0], "--data", place, "--epochs", "1", "--batch-size", "4", *flags, "--out", "run")
    assert done.status == 0, done.err
    assert "its backbone is not MobileNetV3-Large" in done.err
    answer = decathlon("predict", TASKS[0], place / "JPEGImages" / "a.png", "--run", "run")
    assert answer.status == 0, answer.err


def test_a_plot_of_nothing_says_so(tmp_path: Path) -> None:
    nothing = np.zeros(0), np.zeros(0)
    plots.precision_recall({"cat": nothing}, tmp_path / "one.png")
    plots.precision_recall({"cat": (np.ones(1), np.ones(1))}, tmp_path / "two.png")
    middles = [
        np.asarray(Image.open(tmp_path / name).convert("L"))[170:260, 200:420] for name in ("one.png", "two.png")
    ]
    assert (middles[0] < 100).any()
    assert not (middles[1] < 100).any()
