"""The public API: every kind of input, typed predictions, training and loading, and what goes wrong."""

from __future__ import annotations

import doctest
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from resuming import interrupt_after

import decathlon
from decathlon import api
from decathlon.errors import UsageError
from decathlon.evaluation.predictions import Detections
from decathlon.tasks.base import get_task
from decathlon.training.loop import Interrupted


def digit_one() -> np.ndarray:
    """A digit as MNIST has it: a vertical bar."""
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 13:15] = 255
    return image


def scene() -> np.ndarray:
    """An image of no particular content."""
    return np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)


def test_names() -> None:
    assert len(decathlon.tasks()) == 10
    assert set(decathlon.__all__) <= set(dir(decathlon))
    assert all(getattr(decathlon, name) for name in decathlon.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        decathlon.nothing  # noqa: B018


def test_tasks_is_a_package_and_a_function() -> None:
    from decathlon.tasks import mnist_mlp

    assert decathlon.tasks() == api.tasks()
    assert mnist_mlp.SPEC.id == decathlon.tasks()[0]


def test_all_kinds_of_images_give_the_same() -> None:
    model = decathlon.load("mnist-cnn")
    Image.fromarray(digit_one()).save("one.png")
    pixels = torch.from_numpy(digit_one())
    inputs = [
        *(
            "one.png",
            Path("one.png"),
            Image.fromarray(digit_one()),
            digit_one(),
            np.repeat(digit_one()[..., None], 3, 2),
        ),
        *(pixels[None], pixels[None].float() / 255, pixels[None].repeat(3, 1, 1)),
    ]
    predictions = model.predict(inputs, batch_size=3)
    assert [type(prediction) for prediction in predictions] == [decathlon.Classification] * len(inputs)
    for prediction in predictions:
        assert isinstance(prediction, decathlon.Classification)
        assert prediction.label == "1"
        assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert prediction.probabilities == pytest.approx(predictions[0].to_dict()["probabilities"], abs=1e-6)
    assert [prediction.input for prediction in predictions[:3]] == ["one.png", "one.png", "input 2"]


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_batches_do_not_matter(batch_size: int) -> None:
    model = decathlon.load("cifar10-skip")
    images = [scene(), scene()[::-1].copy(), scene()[:, ::-1].copy()]
    labels = [prediction.to_dict() for prediction in model.predict(images, batch_size=batch_size)]
    apart = [model.predict([image])[0].to_dict() for image in images]
    for together, alone in zip(labels, apart, strict=True):
        assert together["probabilities"] == pytest.approx(alone["probabilities"], abs=1e-5)


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        ("mnist-mlp", decathlon.Classification),
        ("mnist-autoencoder", decathlon.Classification),
        ("cifar10-cnn", decathlon.Classification),
        ("pets-unet", decathlon.Segmentation),
        ("voc-faster-rcnn", decathlon.Detections),
        ("voc-retinanet", decathlon.Detections),
    ],
)
def test_image_tasks(task: str, kind: type) -> None:
    image = digit_one() if task.startswith("mnist") else scene()
    (prediction,) = decathlon.load(task).predict([image])
    assert type(prediction) is kind
    assert json.loads(json.dumps(prediction.to_dict()))["input"] == "input 0"
    prediction.plot().savefig("plot.png")
    if isinstance(prediction, decathlon.Segmentation):
        assert prediction.mask.shape == scene().shape[:2]
        assert len(prediction.save(Path(), "scene")) == 3
        assert len(list(Path().glob("scene-*.png"))) == 3
    assert sorted(path.name for path in Path().iterdir() if not path.name.startswith("scene-")) == ["plot.png"]


@pytest.mark.parametrize("task", ["imdb-textcnn", "imdb-roberta"])
def test_text_tasks(task: str) -> None:
    texts = ["A wonderful film, moving and funny.", "Dull, boring, and far too long. A waste of time."]
    predictions = decathlon.load(task).predict(texts)
    assert [type(prediction) for prediction in predictions] == [decathlon.TextClassification] * 2
    assert [prediction.to_dict()["label"] for prediction in predictions] == ["pos", "neg"]
    predictions[0].plot().savefig("plot.png")


def test_one_bad_input_of_several() -> None:
    Image.fromarray(digit_one()).save("one.png")
    Path("broken.png").write_bytes(b"no image")
    model = decathlon.load("mnist-mlp")
    with pytest.raises(ValueError, match=r"broken\.png"):
        model.predict(["one.png", "broken.png"])
    good, bad, missing = model.predict_each(["one.png", "broken.png", "missing.png"])
    assert isinstance(good, decathlon.Classification)
    assert "broken.png" in str(bad)
    assert isinstance(missing, FileNotFoundError)


@pytest.mark.parametrize(
    "value",
    [np.zeros((28, 28)), np.zeros((28, 28, 7), np.uint8), torch.zeros(2, 2, 2, 2), 17, None],
    ids=["float array", "seven channels", "four dimensions", "a number", "nothing"],
)
def test_what_is_no_image(value: object) -> None:
    (error,) = decathlon.load("mnist-mlp").predict_each([value])
    assert isinstance(error, ValueError)
    assert "image" in str(error)


def test_a_single_input_needs_a_list() -> None:
    model, digit = decathlon.load("mnist-mlp"), digit_one()
    pixels = torch.from_numpy(digit)
    for single in ("one.png", digit, digit[..., None], pixels, pixels[None], Image.fromarray(digit)):
        with pytest.raises(TypeError, match="list"):
            model.predict(single)
    for several in (digit[None].repeat(2, 0), pixels[None, None].repeat(2, 1, 1, 1), [digit, digit]):
        assert [prediction.label for prediction in model.predict(several)] == ["1", "1"]


def test_train_load_evaluate(tmp_path: Path) -> None:
    run = decathlon.train("mnist-mlp", data="sample", epochs=2, hidden=16, optimizer={"lr": 0.01}, out=tmp_path / "run")
    assert run.value == run.metrics["accuracy"]
    assert [line["epoch"] for line in run.history] == [1, 2]
    assert run.report.exists()
    assert run.summary["overrides"] == {"epochs": 2, "hidden": 16, "optimizer.lr": 0.01}
    model = decathlon.load(run)
    assert model.recipe.epochs == 2
    assert model.classes == [str(digit) for digit in range(10)]
    assert model.evaluate()["accuracy"] == pytest.approx(run.value)
    changed = decathlon.load(run)
    for parameter in changed.network.parameters():
        parameter.data.zero_()
    assert changed.evaluate()["loss"] == pytest.approx(math.log(10))
    changed.export(tmp_path / "zero.onnx")
    (guess,) = decathlon.load(tmp_path / "zero.onnx").predict([digit_one()])
    assert list(guess.to_dict()["probabilities"].values()) == pytest.approx([0.1] * 10)
    assert b'"measured"' not in (content := (tmp_path / "zero.onnx").read_bytes())
    assert f"{run.value}".encode() not in content
    assert changed.network.training is False
    assert decathlon.open_run(run.folder) == run
    exported = tmp_path / "mlp.onnx"
    assert model.export(exported)["files"] == [str(exported)]
    same = decathlon.load(exported)
    assert same.task == "mnist-mlp"
    expected, actual = (loaded.predict([digit_one()])[0].to_dict()["probabilities"] for loaded in (model, same))
    assert actual == pytest.approx(expected, abs=1e-4)
    with pytest.raises(ValueError, match="ONNX file"):
        same.evaluate()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "mnist-mpl"}, "mnist-mlp"),
        ({"task": "mnist-mlp", "epoch": 3}, "epochs"),
        ({"task": "mnist-mlp", "optimizer": {"lrr": 0.1}}, "lr"),
        ({"task": "mnist-mlp", "epochs": "many"}, "epochs"),
        ({"task": "mnist-mlp", "epochs": 0}, "epochs"),
        ({"task": "mnist-mlp", "strategy": "DDP"}, "strategy"),
        ({"task": "mnist-mlp", "until_bar": 1}, "until_bar"),
        ({"task": "mnist-mlp", "resume": ""}, "resume is empty"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        decathlon.train(data="sample", **arguments)  # type: ignore[arg-type]


def test_an_interrupted_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, 5)
        with pytest.raises(Interrupted, match="interrupted at step 5"):
            decathlon.train("mnist-mlp", data="sample", epochs=1, out=tmp_path / "run")
    run = decathlon.train("mnist-mlp", resume=tmp_path / "run")
    assert run.folder == tmp_path / "run"
    assert run.summary["epochs"] == 1


def test_a_folder_that_is_taken_is_refused_before_the_data_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr("decathlon.tasks.mnist_mlp.load", lambda *given: pytest.fail("the data were read"))
    with pytest.raises(UsageError, match="holds a run already"):
        decathlon.train("mnist-mlp", data="sample", out=tmp_path)


def test_files_of_others_in_a_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
    )
    (tmp_path / "model.py").write_text("mine = 1\n")
    options = {"data": "sample", "epochs": 1, "out": tmp_path}
    with pytest.raises(UsageError, match=r"holds another model\.py: choose another --out"):
        decathlon.train("mnist-mlp", model=f"{tmp_path / 'net.py'}:net", **options)  # type: ignore[arg-type]
    (tmp_path / "net.py").replace(tmp_path / "model.py")
    run = decathlon.train("mnist-mlp", model=f"{tmp_path / 'model.py'}:net", **options)  # type: ignore[arg-type]
    assert decathlon.load(run.folder).predict([digit_one()])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "report.html").write_text("mine")
    with pytest.raises(UsageError, match=r"holds another report\.html"):
        decathlon.train("mnist-mlp", data="sample", epochs=1, out=tmp_path / "other")


def test_recipe_fields_may_be_paths_and_numbers_of_numpy(tmp_path: Path) -> None:
    task: Any = get_task("mnist-mlp")
    assert api.build_recipe(task, "sample", "", {"epochs": np.int64(3), "label_smoothing": np.float32(0.5)}).epochs == 3
    detector: Any = get_task("voc-retinanet")
    weights = api.build_recipe(detector, "sample", "", {"weights": tmp_path, "backbone": "timm/resnet18"})
    assert weights.weights == str(tmp_path)  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="numbers, texts and lists"):
        api.build_recipe(task, "sample", "", {"epochs": {1}})


def test_predicting_leaves_a_network_in_training_as_it_was() -> None:
    model = decathlon.load("cifar10-skip")
    expected = model.predict([scene()] * 3)
    model.network.train()
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    answers = model.predict([scene()] * 3)
    assert [answer.probabilities for answer in answers] == [answer.probabilities for answer in expected]
    assert model.network.training
    assert all(torch.equal(value, before[name]) for name, value in model.network.state_dict().items())


def test_detections_are_compared_by_their_values() -> None:
    boxes = np.array([[1.0, 2, 30, 40], [0, 0, 9, 9]])
    image = np.zeros((50, 50, 3), np.uint8)
    kinds: Any = {"input": "x", "notes": (), "labels": ("cat", "dog"), "scores": np.array([0.9, 0.8]), "image": image}
    first = Detections(boxes=boxes, **kinds)
    assert first == Detections(boxes=boxes.copy(), **kinds)
    assert first != Detections(boxes=boxes + 0.01, **kinds)


def test_infinite_constants_of_an_own_network(tmp_path: Path) -> None:
    """The EMA must not average them, and loading must not take them for damage."""
    file = tmp_path / "net.py"
    file.write_text(
        "import torch\nfrom torch import nn\n\n\nclass Net(nn.Sequential):\n    def __init__(self):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))\n"
        '        self.register_buffer("mask", torch.full((10,), float("-inf")))\n\n'
        "    def forward(self, images):\n        return torch.maximum(super().forward(images), self.mask)\n\n\n"
        "def net():\n    return Net()\n"
    )
    run = decathlon.train("mnist-mlp", data="sample", epochs=3, model=f"{file}:net", out=tmp_path / "run")
    assert run.value > 0.6
    assert decathlon.load(run).evaluate()["accuracy"] == pytest.approx(run.value)


def test_what_is_in_no_state_dict_is_loaded_as_it_was(tmp_path: Path) -> None:
    """A tensor that is neither parameter nor buffer is drawn with the seed of the training."""
    file = tmp_path / "net.py"
    file.write_text(
        "import torch\nfrom torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.projection = torch.randn(784, 32) / 5\n"
        "        self.output = nn.Linear(32, 10)\n\n    def forward(self, images):\n"
        "        return self.output((images.flatten(1) @ self.projection).relu())\n\n\ndef net():\n    return Net()\n"
    )
    run = decathlon.train(
        "mnist-mlp", data="sample", epochs=5, model=f"{file}:net", out=tmp_path / "run", optimizer={"lr": 0.02}
    )
    assert run.value > 0.5
    assert decathlon.load(run).evaluate()["accuracy"] == pytest.approx(run.value)


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pets-unet"):
        decathlon.load("pets-umet")
    with pytest.raises(FileNotFoundError, match="no run folder"):
        decathlon.load(tmp_path)


def test_docstring_examples() -> None:
    assert doctest.testmod(api, verbose=False).failed == 0
    assert doctest.testmod(api).attempted > 5


def test_resumed_run_keeps_its_options() -> None:
    for options in ({"epochs": 3}, {"recipe": "fast"}, {"data": "sample"}, {"out": "elsewhere"}, {"until_bar": True}):
        with pytest.raises(UsageError, match=f"{next(iter(options))} cannot be set with resume"):
            decathlon.train("mnist-mlp", resume="runs/mnist-mlp/first", **options)  # type: ignore[arg-type]


def test_data_as_train_reads_them(tmp_path: Path) -> None:
    table = tmp_path / "tickets.csv"
    table.write_text("review,mood\n" + "".join(f"words {n} and more,{'good' if n % 2 else 'bad'}\n" for n in range(60)))
    data = decathlon.load_data("imdb-textcnn", data=table, text_column="review", label_column="mood", data_dir=tmp_path)
    assert data.info.classes == ["bad", "good"]
    with pytest.raises(UsageError, match="recipe of its own"):
        decathlon.load_data("mnist-mlp", data="sample", recipe="best")


def test_work_is_done_once_for_many_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call of `predict` would fit the forest, and read and hash the encoder, again."""
    from decathlon.data import embeddings
    from decathlon.evaluation import forests

    for task, name, cached in (
        ("mnist-autoencoder", digit_one(), forests._fit),
        ("imdb-roberta", "A moving film .", embeddings._load_encoder),
    ):
        model = decathlon.load(task)
        first = model.predict([name])[0].to_dict()
        misses = cached.cache_info().misses
        assert model.predict([name])[0].to_dict() == first
        assert cached.cache_info().misses == misses


STROKES = {
    "2": [(0.2, 0.3), (0.5, 0.1), (0.8, 0.3), (0.2, 0.9), (0.8, 0.9)],
    "4": [(0.6, 0.9), (0.6, 0.1), (0.15, 0.65), (0.85, 0.65)],
    "7": [(0.2, 0.1), (0.8, 0.1), (0.4, 0.9)],
}


@pytest.mark.parametrize(("side", "width"), [(280, 24), (1000, 6), (3000, 8)])
def test_thin_digits_on_large_images(side: int, width: int) -> None:
    """Averaged down to 20 pixels a thin stroke nearly vanishes, and a nearly black image looks like a 1."""
    model = decathlon.load("mnist-cnn")
    for label, points in STROKES.items():
        paper = Image.new("L", (side, side), 255)
        ImageDraw.Draw(paper).line([(x * side, y * side) for x, y in points], fill=0, width=width, joint="curve")
        assert model.predict([paper])[0].to_dict()["label"] == label
    dots = np.zeros((2000, 2000), np.uint8)
    dots[[5, 900, 1990], [1990, 20, 1000]] = 255
    with pytest.raises(ValueError, match=r"shows no digit"):
        model.predict([dots])


@pytest.mark.parametrize("task", ["imdb-textcnn", "imdb-roberta"])
def test_texts_must_be_strings(task: str) -> None:
    model = decathlon.load(task)
    for value in (123, None, Path("x.txt")):
        with pytest.raises(ValueError, match="a text must be a string, not"):
            model.predict([value])
    good, bad = model.predict_each(["A moving film .", None])
    assert not isinstance(good, Exception)
    assert isinstance(bad, ValueError)
