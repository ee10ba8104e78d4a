"""The tables "By hand" of the detectors' pages: their arithmetic holds, and so do their numbers for the networks."""

from __future__ import annotations

import math

import torch
from by_hand import number, read_rows
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from decathlon.data.base import DataInfo
from decathlon.tasks.base import get_task

CLASSES = [str(number) for number in range(20)]


def build(task_id: str) -> nn.Module:
    task = get_task(task_id)
    return task.model(task.recipe(), DataInfo(CLASSES)).eval()


def pyramid(model: nn.Module, size: int = 320) -> list[Tensor]:
    with torch.no_grad():
        return list(model.backbone(torch.zeros(1, 3, size, size)).values())  # type: ignore[operator]


def compare(task_id: str, layers: list[nn.Module], flops: int) -> None:
    """The sum of the parameters of `layers` and the multiplications are those of the table."""
    rows, (_, _, parameters, multiplications) = read_rows(task_id)
    total = sum(number(count) for _, _, count, _ in rows)
    products = sum(number(count) for *_, count in rows)
    assert parameters == f"**{total:,}**"
    assert total == sum(p.numel() for layer in layers for p in layer.parameters())
    assert multiplications == f"**{products:,}**"
    assert products == flops // 2


def test_faster_rcnn() -> None:
    model = build("voc-faster-rcnn")
    maps = pyramid(model)
    (positions,) = {number(row[1]) for row in read_rows("voc-faster-rcnn")[0] if "=" in row[1]}
    assert positions == sum(math.prod(level.shape[2:]) for level in maps)
    heads = model.roi_heads
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.rpn.head(maps)  # type: ignore[union-attr, operator]
        heads.box_predictor(heads.box_head(torch.zeros(150, 256, 7, 7)))  # type: ignore[union-attr, operator]
    layers = [model.rpn, heads]
    compare("voc-faster-rcnn", layers, counter.get_total_flops())  # type: ignore[arg-type]


def test_retinanet() -> None:
    model = build("voc-retinanet")
    maps = pyramid(model)
    (positions,) = {number(row[1]) for row in read_rows("voc-retinanet")[0] if "=" in row[1]}
    assert positions == sum(math.prod(level.shape[2:]) for level in maps)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.head(maps)  # type: ignore[operator]
    compare("voc-retinanet", [model.head], counter.get_total_flops())  # type: ignore[list-item]
