"""The tables "By hand" on the tasks' pages: their arithmetic holds, and so do their numbers for the networks."""

from __future__ import annotations

import re

import pytest
import torch
from by_hand import number, read_rows
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from decathlon.runs import bundled
from decathlon.runs.load import load_run

INPUTS = {
    "mnist-mlp": torch.zeros(1, 1, 28, 28),
    "mnist-cnn": torch.zeros(1, 1, 28, 28),
    "mnist-autoencoder": torch.zeros(1, 1, 28, 28),
    "cifar10-cnn": torch.zeros(1, 3, 32, 32),
    "cifar10-skip": torch.zeros(1, 3, 32, 32),
    "imdb-textcnn": torch.full((1, 400), 5),
    "imdb-roberta": torch.zeros(1, 256),
    "pets-unet": torch.zeros(1, 3, 96, 96),
}
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear, nn.Embedding)


def call_order(model: nn.Module, example: Tensor) -> list[tuple[nn.Module, str]]:
    """The layers with weights in the order of their use, and the shape of their output without the batch."""
    used = list[tuple[nn.Module, str]]()

    def record(layer: nn.Module, _: object, output: Tensor) -> None:
        shape = output.transpose(1, 2).shape[1:] if isinstance(layer, nn.Embedding) else output.shape[1:]
        used.append((layer, "×".join(map(str, shape))))

    for layer in model.modules():
        if isinstance(layer, LAYERS):
            layer.register_forward_hook(record)
    with torch.no_grad():
        model(example)
    return used


@pytest.mark.parametrize("task_id", INPUTS)
def test_parameters_shapes_and_multiplications(task_id: str) -> None:
    model = load_run(bundled.WEIGHTS / task_id).model.eval()
    layers = iter(call_order(model, INPUTS[task_id]))
    rows, (_, _, parameters, multiplications, _) = read_rows(task_id)
    for label, output, count, _, _ in rows:
        if re.match(r"\d+ batch norms", label):
            norms = [m for m in model.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
            assert label == f"{len(norms)} batch norms"
            assert number(count) == sum(p.numel() for norm in norms for p in norm.parameters())
        elif number(count):
            used = [next(layers) for _ in range(label.count("→"))]
            assert output == used[-1][1], label
            assert number(count) == sum(p.numel() for layer, _ in used for p in layer.parameters()), label
    assert next(layers, None) is None, "a layer is not in the table"
    total = sum(number(count) for _, _, count, _, _ in rows)
    assert parameters == f"**{total:,}**"
    assert total == sum(p.numel() for p in model.parameters())
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        model(INPUTS[task_id])
    products = sum(number(count) for _, _, _, count, _ in rows)
    assert multiplications == f"**{products:,}**"
    assert products == flops.get_total_flops() // 2


@pytest.mark.parametrize("task_id", ["mnist-cnn", "mnist-autoencoder", "cifar10-cnn", "cifar10-skip"])
def test_receptive_fields(task_id: str) -> None:
    """By kernel sizes and strides along the longest path (Araujo, Norris and Sim 2019)."""
    field = step = 1
    for label, _, _, _, given in read_rows(task_id)[0]:
        if kernel := re.match(r"(?:conv|max pooling) (\d)×\d(?:, stride (\d))?", label):
            field += (int(kernel[1]) - 1) * step
            step *= int(kernel[1] if label.startswith("max") else kernel[2] or 1)
            assert given == str(field), label
        else:
            assert given == "–", label


def test_the_receptive_field_of_the_bottleneck() -> None:
    """Seen by the gradient of one position of it: with constant weights nothing cancels out."""
    model = load_run(bundled.WEIGHTS / "pets-unet").model.eval()
    for p in model.parameters():
        nn.init.constant_(p, 0.01)
    maps: Tensor = torch.rand(1, 3, 320, 320, requires_grad=True)
    image = maps
    for block in model.encoder:  # type: ignore[union-attr]
        maps = nn.functional.avg_pool2d(block(maps), 2)  # the gradient of max pooling reaches one of four
    model.bottleneck(maps)[0, 0, 10, 10].backward()  # type: ignore[operator]
    assert image.grad is not None
    seen = image.grad.abs().sum((0, 1)).nonzero()
    (row,) = [row for row in read_rows("pets-unet")[0] if row[0].startswith("bottleneck")]
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [int(row[4])] * 2
