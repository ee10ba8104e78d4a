"""Mistakes in a user's own network are said before training, in every task."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import Answer, Command
from torch import nn

from decathlon.training import own_network

NETWORKS = """
import torch
import torch.nn.functional as F
from torch import nn

def mlp(*end): return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 10), *end)
def plain(): return mlp()
def softmax(): return mlp(nn.Softmax(1))
def log_softmax(): return mlp(nn.LogSoftmax(1))
def sigmoid(): return mlp(nn.Sigmoid())
def relu(): return mlp(nn.ReLU())
def lazy(): return nn.Sequential(nn.Flatten(), nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(10))
def double(): return mlp().double()
def frozen(): return mlp().requires_grad_(False)
def half_frozen():
    network = mlp()
    network[1].requires_grad_(False)
    return network

class Squeeze(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(784, 10)
    def forward(self, x):
        return self.a(x.flatten(1)).squeeze()

class Fixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(784, 10)
    def forward(self, x):
        return self.a(x.view(2, -1))

class Colour(nn.Module):
    def __init__(self, end=False):
        super().__init__()
        self.a, self.o, self.end = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 10), end
    def forward(self, x):
        y = self.o(F.relu(self.a(x)).mean((2, 3)))
        return y.softmax(1) if self.end else y
def colour_softmax(): return Colour(True)

class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.out = nn.Embedding(40_000, 8), nn.Linear(8, 2)
    def forward(self, tokens):
        return self.out(self.words(tokens).amax(1)).softmax(1)

class Dropped(nn.Sequential):
    def forward(self, x):
        return F.dropout(super().forward(x), 0.5)
def dropped(): return Dropped(nn.Flatten(), nn.Linear(784, 10))

class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.n, self.o = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, track_running_stats=False), nn.Linear(8, 10)
    def forward(self, x):
        return self.o(F.relu(self.n(self.a(x))).mean((2, 3)))

class Code(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(784, 16), nn.Linear(16, 784)
    def forward(self, x):
        code = self.a(x.flatten(1))
        return self.b(code).view(x.shape), code + torch.randn_like(code)

class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.out = nn.Embedding(40_000, 8), nn.Linear(8, 2)
        nn.init.uniform_(self.out.bias, 0.4, 0.6)
        nn.init.zeros_(self.out.weight)
    def forward(self, tokens):
        return self.out(self.words(tokens)).amax(1)
def colour_relu_in_place(): return nn.Sequential(Colour(), nn.ReLU(inplace=True))

def mask_sigmoid(): return nn.Sequential(nn.Conv2d(3, 1, 3, padding=1), nn.Sigmoid())
def head_softmax(): return nn.Sequential(nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, 2), nn.Softmax(1))
"""


def plan(decathlon: Command, task: str, name: str) -> Answer:
    Path("net.py").write_text(NETWORKS)
    return decathlon("train", task, "--data", "sample", "--epochs", "1", "--model", f"net.py:{name}", "--dry-run")


@pytest.mark.parametrize(
    ("task", "name", "end"),
    [
        ("mnist-mlp", "softmax", "softmax"),
        ("mnist-mlp", "sigmoid", "sigmoid"),
        ("mnist-mlp", "relu", "ReLU"),
        ("mnist-cnn", "softmax", "softmax"),
        ("cifar10-skip", "colour_softmax", "softmax"),
        ("cifar10-skip", "colour_relu_in_place", "ReLU"),
        ("imdb-textcnn", "Text", "softmax"),
        ("imdb-roberta", "head_softmax", "softmax"),
        ("pets-unet", "mask_sigmoid", "sigmoid"),
    ],
)
def test_probabilities_at_the_end_are_reported(task: str, name: str, end: str, decathlon: Command) -> None:
    answer = plan(decathlon, task, name)
    assert answer.status == 0, answer.err
    assert f"it ends in a {end}, but {task} takes its outputs as logits" in answer.err


def test_outputs_that_are_random_in_evaluation_are_reported(decathlon: Command) -> None:
    assert "F.dropout needs training=self.training" in plan(decathlon, "mnist-mlp", "dropped").err
    assert "draw no random numbers" in plan(decathlon, "mnist-autoencoder", "Code").err  # its codes, not its images


def test_outputs_that_depend_on_the_batch_are_reported(decathlon: Command) -> None:
    assert "depends on the others in the batch: batch norm needs" in plan(decathlon, "cifar10-skip", "Normed").err


def test_a_maximum_of_logits_is_no_sigmoid(decathlon: Command) -> None:
    assert "it ends in" not in plan(decathlon, "imdb-textcnn", "Positions").err


@pytest.mark.parametrize("name", ["plain", "log_softmax"])
def test_good_networks_are_passed(name: str, decathlon: Command) -> None:
    answer = plan(decathlon, "mnist-mlp", name)
    assert answer.status == 0, answer.err
    assert "may be wrong" not in answer.err


def test_frozen_parameters_are_reported(decathlon: Command) -> None:
    answer = plan(decathlon, "mnist-mlp", "half_frozen")
    assert "12,560 of its 12,730 parameters are frozen and will not be trained (1.weight, 1.bias)" in answer.err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lazy", "lazy layers (1, 3), whose sizes are not known yet: run it on one example"),
        ("double", "a network in float64, but the data are float32: return it.float()"),
        ("frozen", "parameters are all frozen"),
        ("Squeeze", "returns (10,) for a batch of one example: the batch dimension is lost"),
        ("Fixed", "fails on a batch of one example"),
    ],
)
def test_networks_that_cannot_work_are_refused(name: str, words: str, decathlon: Command) -> None:
    answer = plan(decathlon, "mnist-mlp", name)
    assert answer.status == 1
    assert words in answer.error


@pytest.mark.parametrize(
    ("output", "end"),
    [
        (torch.randn(8, 3), ""),
        (torch.randn(8, 3).softmax(1), "softmax"),
        (torch.randn(8, 1, 4, 4).sigmoid(), "sigmoid"),
        (torch.randn(8, 3).log_softmax(1), ""),
        (torch.zeros(8, 3), ""),
    ],
)
def test_outputs_are_recognised_by_their_values(output: torch.Tensor, end: str) -> None:
    """As for the heads of detectors, whose last operation is not known."""
    remarks = own_network.describe_end(output, None, "voc-retinanet")
    assert [f"ends in a {end}" in remark for remark in remarks] == [True] * bool(end)


def test_small_logits_of_a_last_layer_are_no_probabilities() -> None:
    """Those of an untrained network may all lie between 0 and 1 by chance."""
    output = torch.rand(8, 1, 4, 4)
    assert own_network.describe_end(output, ["convolution", "exp", "add", "div"], "pets-unet")
    assert own_network.describe_end(output, ["exp", "convolution"], "pets-unet") == []
    assert own_network.describe_end(output, ["convolution", "upsample_bilinear2d"], "pets-unet") == []
    assert own_network.describe_end(output, ["convolution", "mul"], "pets-unet") == []


def test_a_constant_layer_is_no_softmax() -> None:
    assert own_network.describe_end(torch.full((8, 10), 0.1), ["relu", "addmm"], "mnist-mlp") == []


def test_a_mean_of_softmaxes_is_one() -> None:
    output = torch.randn(3, 8, 10).softmax(2).mean(0)
    assert (
        "ends in a softmax" in own_network.describe_end(output, ["linear", "_softmax", "stack", "mean"], "mnist-mlp")[0]
    )


def test_what_is_not_trained_may_be_in_lists() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.utils.parametrizations.weight_norm(nn.LSTM(4, 4), "weight_hh_l0")
            self.activations = {"relu": [nn.ReLU()]}
            self._teacher = [nn.Linear(4, 4).requires_grad_(False)]
            self.loop: list[object] = [self.lstm]
            self.loop.append(self.loop)
            self._again = [nn.Sequential(self.lstm, nn.ReLU())]  # of layers that are registered

    network = Net()
    assert own_network.describe_unregistered(network) == ""
    network._teacher[0].requires_grad_(True)
    assert "_teacher is a Python list: the 1 layer in it" in own_network.describe_unregistered(network)
