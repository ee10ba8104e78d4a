"""What the two tasks on CIFAR-10 do beyond what every task does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from conftest import Command
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import nn

from decathlon.data import cifar10
from decathlon.data.base import DataInfo, EpochShard, Split, parse_source
from decathlon.data.synthetic import shapes
from decathlon.models.skipnet import SkipNet
from decathlon.tasks import cifar10_cnn, cifar10_skip

TASKS = [cifar10_cnn, cifar10_skip]


@pytest.mark.parametrize("task", TASKS)
def test_two_epochs_show_both_sides_of_every_image(task: ModuleType) -> None:
    split = Split(torch.arange(10 * 3 * 4 * 4, dtype=torch.uint8).view(10, 3, 4, 4), torch.arange(10))
    recipe = replace(task.recipe(), batch_size=5)
    seen: dict[int, list[torch.Tensor]] = {number: [] for number in range(10)}
    for number in (0, 1):
        for batch in task.batches(split, recipe, EpochShard(seed=0, number=number)):
            for image, label in zip(batch.inputs, batch.targets.tolist(), strict=True):
                seen[label].append(image)
    for label, (first, second) in seen.items():
        assert torch.equal(first, second.flip(2))
        assert torch.equal(first if label % 2 else second, split.inputs[label])


@pytest.mark.parametrize("task", TASKS)
def test_first_epochs_see_smaller_images(task: ModuleType) -> None:
    split = Split(torch.zeros(6, 3, 32, 32, dtype=torch.uint8), torch.zeros(6, dtype=torch.long))
    recipe = replace(task.recipe(), batch_size=3, epochs=4, low_res_epochs=0.5, low_res_size=24)
    sides = []
    model = task.model(recipe, DataInfo(["a", "b"])).train()
    model.white.register_forward_hook(lambda module, inputs, output: sides.append(inputs[0].shape[2:]))
    for number in range(3):
        task.training_loss(model, next(iter(task.batches(split, recipe, EpochShard(seed=0, number=number)))), recipe)
    assert sides == [(24, 24), (24, 24), (32, 32)]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("epochs", "small"), [(1, 0), (2, 1), (3, 1), (8, 4), (18, 9)])
def test_half_of_the_epochs_see_smaller_images_however_many_there_are(
    task: ModuleType, epochs: int, small: int
) -> None:
    recipe = replace(task.recipe(), epochs=epochs)
    split = Split(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.zeros(2, dtype=torch.long))
    batches = [next(iter(task.batches(split, recipe, EpochShard(0, number)))) for number in range(epochs)]
    assert [batch.side for batch in batches] == small * [24] + (epochs - small) * [32]


@pytest.mark.parametrize("task", TASKS)
def test_a_network_for_one_size_says_how_to_train_it(task: ModuleType) -> None:
    network, train = nn.Sequential(nn.Flatten(), nn.Linear(3072, 2)), Split(torch.zeros(1), torch.zeros(1))
    info = DataInfo(["a", "b"])
    with pytest.raises(ValueError, match=r"\(2, 3, 24, 24\).*; with --low-res-epochs 0 all images are 32×32$"):
        task.model(task.recipe(), info, train, network)
    assert task.model(replace(task.recipe(), low_res_epochs=0.0), info, train, network) is network
    with pytest.raises(ValueError, match=r"\(2, 3, 32, 32\)[^;]*$"):
        task.model(task.recipe(), info, train, nn.Sequential(nn.Flatten(), nn.Linear(784, 2)))


def test_sample_is_too_hard_for_a_linear_model() -> None:
    data = cifar10.load(parse_source("sample"))
    train, test = (part.inputs.flatten(1).numpy() / 255 for part in (data.train, data.test))
    linear = LogisticRegression(C=0.01, max_iter=60)
    with pytest.warns(match="."):  # it has not converged, and is past its best on the test split
        linear.fit(train, data.train.targets)
    assert linear.score(test, data.test.targets) < 0.6


def test_learns_the_sample(decathlon: Command) -> None:
    """tests/soak has the other task."""
    done = decathlon("train", "cifar10-skip", "--data", "sample", "--out", "run", "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["value"] > 0.9


def own_pictures(folder: Path) -> Path:
    draw = np.random.default_rng(0)
    for name, shape in (("cost_$_{", "dog"), ("ship", "ship"), ("truck", "truck")):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            shapes.draw_image(shape, draw).resize((40, 50)).save(folder / name / f"{number}.png")
    return folder


@pytest.mark.parametrize("task_id", ["cifar10-cnn", "cifar10-skip"])
def test_trains_on_a_folder_of_ones_own(task_id: str, tmp_path: Path, decathlon: Command) -> None:
    folder = own_pictures(tmp_path / "mine")
    done = decathlon(
        *("train", task_id, "--data", folder, "--epochs", "1", "--batch-size", "20"),
        *("--channels", "8", "8", "8", "--out", "run", "--json"),
    )
    assert done.status == 0, done.err
    assert json.loads(done.out)["data"] == "own:mine"
    assert "60 of 60 images scaled" in " ".join(done.err.split())
    assert "could not be drawn" not in done.err
    assert "2 steps may be too few to learn much: a smaller --batch-size makes more" in done.err
    plots = {"curves", "confusion", "mistakes", "filters"} | ({"attention"} if task_id == "cifar10-skip" else set())
    assert {path.stem for path in Path("run/plots").iterdir()} == plots
    answer = decathlon("predict", task_id, folder / "ship" / "0.png", "--run", "run", "--json")
    assert set(json.loads(answer.out)[0]["probabilities"]) == {"cost_$_{", "ship", "truck"}


def test_predict_names_an_image_that_is_none(tmp_path: Path, decathlon: Command) -> None:
    folder = own_pictures(tmp_path / "mine")
    decathlon(
        *("train", "cifar10-cnn", "--data", folder, "--epochs", "1", "--batch-size", "20"),
        *("--channels", "8", "8", "8", "--out", "run"),
    )
    Path("no.png").write_text("no picture")
    assert "no.png" in decathlon("predict", "cifar10-cnn", "no.png", "--run", "run").error
    assert "nothere.png" in decathlon("predict", "cifar10-cnn", "nothere.png", "--run", "run").error
    Image.new("RGBA", (300, 20), (9, 9, 9, 0)).save("wide.png")
    answer = decathlon("predict", "cifar10-cnn", "wide.png", "--run", "run")
    assert answer.status == 0
    assert "cropped" in answer.out


def test_heat_map_shows_what_decided() -> None:
    """A network whose class 0 is how red it is somewhere: the heat is where the red is."""
    torch.manual_seed(0)
    model = SkipNet(num_classes=2).eval()
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    heat = cifar10_skip.layer_cam(model, images, torch.tensor([0, 1]))
    assert heat.shape == (2, 32, 32)
    assert 0 <= float(heat.min()) <= float(heat.max()) <= 1

    class Red(SkipNet):
        def maps(self, images: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.avg_pool2d(images[:, :1], 4).expand(-1, 128, -1, -1)

        def classify(self, maps: torch.Tensor) -> torch.Tensor:
            return torch.stack([maps.mean((1, 2, 3)), -maps.mean((1, 2, 3))], 1)

    images[0, 0, 4:12, 20:28] = 255
    (heat,) = cifar10_skip.layer_cam(Red().eval(), images[:1], torch.tensor([0]))
    assert float(heat[4:12, 20:28].mean()) > 0.7
    assert float(heat[20:, :12].max()) < 0.05
    assert cifar10_skip.layer_cam(Red().eval(), images[:1], torch.tensor([1])).max() == 0, "red speaks against it"
