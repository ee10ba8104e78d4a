"""The architecture that each card promises, counted layer by layer; and the counting itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from decathlon.data.base import DataInfo
from decathlon.evaluation.architecture import operations
from decathlon.models.autoencoder import Autoencoder
from decathlon.models.cnn import CNN
from decathlon.models.convnet import ConvNet
from decathlon.models.mlp import MLP
from decathlon.models.skipnet import SkipNet
from decathlon.models.textcnn import TextCNN
from decathlon.tasks.base import get_task

INFO = DataInfo([str(n) for n in range(10)], n_labelled=50)


def kinds(model: nn.Module) -> Counter[str]:
    return Counter(type(m).__name__ for m in model.modules() if not list(m.children()) and m is not model)


def test_mlp_is_two_fully_connected_layers() -> None:
    assert kinds(MLP()) == {"Linear": 2}
    assert operations(MLP(), torch.zeros(2, 1, 28, 28))[1] == {"fully connected": 2, "ReLU": 1}


def test_cnn_is_convolution_pooling_and_fully_connected() -> None:
    assert kinds(CNN()).keys() == {"Conv2d", "Linear", "MaxPool2d"}
    counts = operations(CNN(), torch.zeros(2, 1, 28, 28))[1]
    assert counts.keys() == {"convolution", "fully connected", "max pooling", "ReLU"}


def test_autoencoder_code_is_small() -> None:
    images, codes = Autoencoder()(torch.zeros(3, 1, 28, 28))
    assert images.shape == (3, 1, 28, 28)
    assert codes.shape[0] == 3
    assert codes.shape[1] <= 128


def test_convnet_is_six_convolutions_and_three_fully_connected_layers() -> None:
    layers = kinds(ConvNet())
    assert (layers["Conv2d"], layers["Linear"]) == (6, 3)
    assert layers.keys() == {"Conv2d", "Linear", "BatchNorm2d", "BatchNorm1d", "MaxPool2d", "ReLU"}
    counts = operations(ConvNet(), torch.zeros(2, 3, 32, 32))[1]
    shared = {"batch norm": 7, "max pooling": 4, "ReLU": 8}
    assert counts == {"convolution": 6, "fully connected": 3, **shared}


def test_skipnet_adds_skip_connections() -> None:
    counts = operations(SkipNet(), torch.zeros(2, 3, 32, 32))[1]
    shared = {"batch norm": 7, "max pooling": 4, "ReLU": 8, "dropout": 1}
    assert counts == {"convolution": 8, "fully connected": 1, "addition": 2, **shared}
    block = SkipNet().middle[-1].eval()
    maps = torch.randn(2, 128, 7, 7)
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(block(maps), maps), "with weights of zero a block passes on what it is given"


@pytest.mark.parametrize("side", [24, 32, 48])
def test_networks_for_cifar10_take_other_sizes(side: int) -> None:
    for network in (ConvNet(num_classes=7), SkipNet(num_classes=7)):
        assert network(torch.zeros(2, 3, side, side)).shape == (2, 7)


class Sham(nn.Module):
    """All that cifar10-skip promises, but for a connection that skips anything."""

    def __init__(self, convolutions: int) -> None:
        super().__init__()
        row = [nn.Conv2d(3, 3, 3, padding=1) for _ in range(convolutions)]
        self.body = nn.Sequential(*row, nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(8), nn.Dropout(0.1))
        self.output, self.bias = nn.Linear(48, 10), nn.Parameter(torch.zeros(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        maps = self.body(images + 0.0) + self.bias
        return self.output(torch.cat([maps], 1).flatten(1))


class Functional(nn.Module):
    """Computes with bare functions, so that a count of modules would see nothing but parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(4, 1, 3, 3))
        self.matrix = nn.Parameter(torch.randn(10, 4))

    def forward(self, images: Tensor) -> Tensor:
        maps = F.conv2d(images, self.kernel).tanh().amax((2, 3))
        return maps @ self.matrix.T


def test_functional_calls_are_counted() -> None:
    _, counts = operations(Functional(), torch.zeros(2, 1, 28, 28))
    assert counts == {"convolution": 1, "fully connected": 1, "tanh": 1, "maximum": 1}
    assert get_task("mnist-mlp").check_architecture(Functional(), INFO)
    assert get_task("mnist-cnn").check_architecture(Functional(), INFO)


@pytest.mark.parametrize(
    ("task", "network", "reason"),
    [
        ("mnist-mlp", nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), "1 fully connected"),
        (
            "mnist-mlp",
            nn.Sequential(nn.Flatten(), nn.Linear(784, 9), nn.ReLU(), nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 10)),
            "3 fully",
        ),
        ("mnist-mlp", nn.Sequential(nn.Flatten(), nn.Linear(784, 9), nn.Sigmoid(), nn.Linear(9, 10)), "sigmoid"),
        ("mnist-mlp", nn.Sequential(nn.Flatten(), nn.Linear(784, 9), nn.Linear(9, 10)), "no ReLU"),
        ("mnist-cnn", MLP(), "no convolution"),
        ("mnist-cnn", nn.Sequential(CNN(), nn.Dropout(0.5)), "dropout"),
        ("mnist-cnn", nn.Sequential(nn.BatchNorm2d(1), CNN()), "batch norm"),
        ("mnist-autoencoder", Autoencoder(latent_dim=129), "latent dimension is 129"),
        ("cifar10-cnn", SkipNet(), "8 convolution"),
        ("cifar10-cnn", SkipNet(), "addition"),
        ("cifar10-cnn", nn.Sequential(ConvNet(), nn.Linear(10, 10)), "4 fully connected"),
        ("cifar10-skip", ConvNet(), "no skip connection"),
        ("cifar10-skip", SkipNet(dropout=0.0), "no dropout"),
        ("cifar10-skip", Sham(2), "no skip connection"),
        ("cifar10-skip", Sham(1), "1 convolution, and nothing to skip"),
    ],
)
def test_violations_are_named(task: str, network: nn.Module, reason: str) -> None:
    violations = get_task(task).check_architecture(network, INFO)
    assert any(reason in line for line in violations), violations


class WrittenOut(nn.Module):
    """An MLP of matrix products and additions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Parameter(torch.randn(784, 9)), nn.Parameter(torch.randn(9, 10))
        self.bias = nn.Parameter(torch.zeros(9))

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1) @ self.first + self.bias).relu() @ self.last


def test_layers_may_be_written_out() -> None:
    assert get_task("mnist-mlp").check_architecture(WrittenOut(), INFO) == []


def test_more_labels_are_another_task() -> None:
    task: Any = get_task("mnist-autoencoder")
    for labels, violations in ((1000, []), (55_000, ["it learns from 55,000 labels, not 1,000"])):
        info = replace(INFO, n_labelled=labels)
        assert task.check_architecture(task.model(task.recipe(), info), info) == violations


def test_dropout_is_allowed_in_the_mlp() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 9), nn.ReLU(), nn.Dropout(0.5), nn.Linear(9, 10))
    assert get_task("mnist-mlp").check_architecture(network, INFO) == []


def test_global_max_pooling_by_a_module_is_max_pooling() -> None:
    layers = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 10)
    assert get_task("mnist-cnn").check_architecture(nn.Sequential(*layers), INFO) == []


class PooledTextCNN(nn.Module):
    """As most tutorials write it: max_pool1d over all words."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors = nn.Embedding(12, 8)
        self.convolutions = nn.ModuleList(nn.Conv1d(8, 4, size) for size in (2, 3))
        self.output = nn.Linear(8, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        vectors = self.vectors(tokens).transpose(1, 2)
        maps = [convolution(vectors).relu() for convolution in self.convolutions]
        return self.output(torch.cat([F.max_pool1d(values, values.shape[2]).squeeze(2) for values in maps], 1))


def test_maximum_over_time_may_be_written_as_pooling() -> None:
    info = DataInfo(["neg", "pos"], vocabulary=[str(number) for number in range(10)])
    assert get_task("imdb-textcnn").check_architecture(PooledTextCNN(), info) == []


def test_counting_leaves_the_network_as_it_was() -> None:
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784), nn.Linear(784, 10)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    operations(network, torch.ones(2, 1, 28, 28))
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_logits_of_a_text_do_not_depend_on_its_batch() -> None:
    """Of n-grams that reach into the padding none may take part in the maximum."""
    torch.manual_seed(0)
    network = TextCNN(50, 8, (1, 2, 3), 16).eval()
    alone = torch.randint(1, 50, (1, 5))
    beside = torch.cat([torch.nn.functional.pad(alone, (0, 20)), torch.randint(1, 50, (1, 25))])
    with torch.no_grad():
        assert torch.allclose(network(alone)[0], network(beside)[0], atol=1e-6)
