"""The small parts: distortion, average, schedule, random streams, reading a picture of a digit."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Command
from hypothesis import given, settings
from hypothesis import strategies as st
from openers import read_digit
from PIL import Image
from torch import nn
from torch.nn.utils import parametrizations

from decathlon.data.base import EpochShard, Split, derive_seed, shuffled_batches
from decathlon.data.divide import hold_out
from decathlon.data.transforms.augment import cutout, random_translate, to_float, warp
from decathlon.errors import UsageError
from decathlon.evaluation import architecture
from decathlon.evaluation import classification as image_classification
from decathlon.evaluation.metrics import classification, confusion_matrix, most_confident_mistakes
from decathlon.models.whitening import whiten
from decathlon.tasks.base import get_task
from decathlon.tasks.recipe import Optimizer, from_dict
from decathlon.training.optim import (
    VECTOR_LR_SCALE,
    Muon,
    divide_parameters,
    make_optimizers,
    orthogonal,
    set_lr,
    update_ema,
)
from decathlon.training.stages import falls_behind
from decathlon.training.trials import ReferenceTrial


def test_warp_of_nothing_changes_nothing() -> None:
    images = torch.randint(0, 256, (8, 1, 28, 28), dtype=torch.uint8)
    assert torch.allclose(warp(images, 4), images / 255, atol=1e-5)


def test_warp_shifts_by_pixels_and_groups_share() -> None:
    images = torch.zeros(6, 1, 28, 28)
    images[:, :, 14, 14] = 1
    torch.manual_seed(0)
    moved = warp(images, 3, shift=4.0)
    positions = [divmod(int(image.argmax()), 28) for image in moved[:, 0]]
    assert positions[0] == positions[1]
    assert positions[2] == positions[3]
    assert len(set(positions)) > 1
    assert all(abs(y - 14) <= 4 and abs(x - 14) <= 4 for y, x in positions)


def test_warp_rotates_by_degrees() -> None:
    bar = torch.zeros(1, 1, 28, 28)
    bar[:, :, 13:15, 4:24] = 1
    for seed in range(5):
        torch.manual_seed(seed)
        turned = warp(bar, 1, rotation=30.0)[0, 0]
        y, x = (turned > 0.5).nonzero().float().T
        slope = torch.atan2(((x - 13.5) * (y - 13.5)).sum(), (x - 13.5).square().sum()).rad2deg().abs()
        torch.manual_seed(seed)
        drawn = (torch.rand(6, 1)[0, 0] * 2 - 1).abs() * 30
        assert abs(slope - drawn) < 3


def test_warp_of_an_uneven_batch() -> None:
    assert warp(torch.zeros(7, 1, 28, 28, dtype=torch.uint8), 4, rotation=5.0, elastic=1.0).shape == (7, 1, 28, 28)


def test_warp_takes_colours() -> None:
    images = torch.rand(6, 3, 20, 28)
    torch.manual_seed(0)
    together = warp(images, 3, rotation=10.0, elastic=1.0)
    torch.manual_seed(0)
    green = warp(images[:, 1:2], 3, rotation=10.0, elastic=1.0)
    assert together.shape == images.shape
    assert torch.allclose(together[:, 1:2], green)


def test_one_cycle_climbs_and_falls() -> None:
    options = Optimizer(lr=2.0, warmup=0.25)
    (optimizer,) = make_optimizers(nn.Linear(2, 2), options)
    rates = []
    for step in range(101):
        set_lr([optimizer], options, step / 100)
        rates.append(optimizer.param_groups[0]["lr"])
    assert max(rates) == pytest.approx(2.0)
    assert rates.index(max(rates)) == 25
    assert rates[100] == pytest.approx(0.0, abs=1e-9)
    assert rates[0] < 0.1


def test_only_matrices_decay() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    (optimizer,) = make_optimizers(network, Optimizer(weight_decay=0.1))
    assert [(len(g["params"]), g["weight_decay"]) for g in optimizer.param_groups] == [(2, 0.1), (4, 0.0)]


def test_sparse_embeddings_get_a_lazy_optimizer() -> None:
    network = nn.Sequential(nn.Embedding(1000, 4, sparse=True), nn.Linear(4, 2))
    dense, lazy = make_optimizers(network, Optimizer())
    assert isinstance(lazy, torch.optim.SparseAdam)
    assert sum(len(group["params"]) for group in dense.param_groups) == 2
    before = network[0].weight.detach().clone()
    network(torch.tensor([3, 7])).sum().backward()
    assert network[0].weight.grad.is_sparse
    lazy.step()
    changed = (network[0].weight != before).any(1).nonzero()[:, 0].tolist()
    assert changed == [3, 7]


def test_muon_leaves_small_steps_to_adam() -> None:
    network = nn.Sequential(nn.Embedding(1000, 4, sparse=True), nn.Linear(4, 2))
    muon, dense, lazy = make_optimizers(network, Optimizer("muon", lr=0.1))
    set_lr([muon, dense, lazy], Optimizer("muon", lr=0.1, warmup=0.5), 0.5)
    assert muon.param_groups[0]["lr"] == pytest.approx(0.1)
    assert [o.param_groups[0]["lr"] for o in (dense, lazy)] == pytest.approx([0.1 * VECTOR_LR_SCALE] * 2)


def test_average_of_a_shared_weight_moves_once_a_step() -> None:
    def zeros() -> nn.Module:
        block = nn.Linear(3, 3)
        nn.init.zeros_(block.weight)
        return nn.Sequential(block, block)

    average, network = zeros(), zeros()
    nn.init.ones_(network[0].weight)
    update_ema(average, network, 0.9, 1000)
    assert torch.allclose(average[1].weight, torch.full((3, 3), 0.1))


def test_average_keeps_infinite_constants() -> None:
    network = nn.Linear(3, 3)
    network.register_buffer("mask", torch.full((3, 3), float("-inf")).triu(1))
    average = copy.deepcopy(network)
    update_ema(average, network, 0.9, 1000)
    assert torch.equal(average.mask, network.mask)


def test_average_follows_weights_and_statistics() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    average = copy.deepcopy(network)
    with torch.no_grad():
        for value in network.state_dict().values():
            value.copy_(torch.ones_like(value))
    for step in range(1, 3000):
        update_ema(average, network, 0.99, step)
    for value in average.state_dict().values():
        assert torch.allclose(value.float(), torch.ones_like(value).float(), atol=1e-4)


@given(
    first=st.lists(st.integers(0, 2**40), min_size=1, max_size=3), second=st.lists(st.integers(0, 2**40), max_size=3)
)
def test_streams_differ(first: list[int], second: list[int]) -> None:
    assert 0 <= derive_seed(*first) < 2**63
    assert (derive_seed(*first) == derive_seed(*second)) == (first == second)


@settings(max_examples=50)
@given(
    count=st.integers(1, 60),
    batch=st.integers(1, 20),
    world=st.integers(1, 4),
    start=st.integers(0, 3),
    epoch=st.integers(0, 5),
)
def test_processes_share_every_batch(count: int, batch: int, world: int, start: int, epoch: int) -> None:
    split = Split(torch.arange(count)[:, None], torch.arange(count))
    whole = [b.targets.tolist() for b in shuffled_batches(split, batch, EpochShard(7, epoch, 0, 0, 1))]
    shares = [
        [b.targets.tolist() for b in shuffled_batches(split, batch, EpochShard(7, epoch, start, r, world))]
        for r in range(world)
    ]
    for number, expected in enumerate(whole[start:]):
        assert sorted(n for share in shares for n in share[number]) == sorted(expected)
    drawn = [n for targets in whole for n in targets]
    assert len(set(drawn)) == len(drawn)


def test_hold_out_is_a_division() -> None:
    split = Split(torch.arange(100)[:, None], torch.arange(100))
    train, validation = hold_out(split)
    assert (len(train), len(validation)) == (92, 8)
    assert sorted([*train.targets.tolist(), *validation.targets.tolist()]) == list(range(100))
    assert hold_out(split)[1].targets.tolist() == validation.targets.tolist()


def test_metrics_by_hand() -> None:
    logits = torch.tensor([[5.0, 0, 0], [0, 5, 0], [0, 9, 0], [0, 0, 1]])
    split = Split(torch.zeros(4, 1), torch.tensor([0, 1, 2, 0]))
    assert classification(logits, split.targets)["accuracy"] == 0.5
    assert confusion_matrix(logits, split.targets).tolist() == [[1, 0, 1], [0, 1, 0], [0, 1, 0]]
    mistakes = most_confident_mistakes(logits, split, 5)
    assert [(index, predicted) for index, predicted, _ in mistakes] == [(2, 1), (3, 2)]


def test_recipes_refuse_nonsense() -> None:
    default = get_task("mnist-mlp").recipe()
    with pytest.raises(ValueError, match="did you mean 'epochs'"):
        from_dict(default, {"epoch": 3})
    with pytest.raises(ValueError, match=r"optimizer\.lr"):
        from_dict(default, {"optimizer": {"lr": "high"}})
    with pytest.raises(ValueError, match="object"):
        from_dict(default, {"optimizer": 3})
    with pytest.raises(UsageError, match="--epochs"):
        from_dict(default, {"epochs": 0})


def stroke(mode: str, ground: object, ink: object, size: tuple[int, int] = (400, 300)) -> Image.Image:
    image = Image.new(mode, size, ground)  # type: ignore[arg-type]
    image.paste(ink, (190, 60, 215, 240))  # type: ignore[call-overload]
    return image


PICTURES = {
    "paper": stroke("L", 240, 10),
    "chalk": stroke("L", 5, 250),
    "colour": stroke("RGB", (250, 240, 200), (20, 30, 160)),
    "transparent": stroke("RGBA", (0, 0, 0, 0), (0, 0, 0, 255)),
    "white on transparent": stroke("RGBA", (0, 0, 0, 0), (255, 255, 255, 255)),
    "palette": stroke("RGB", (250, 250, 250), (0, 0, 0)).quantize(4),
    "one bit": stroke("1", 1, 0),
    "16 bits": Image.fromarray(np.where(np.asarray(stroke("L", 1, 0)), 60_000, 900).astype(np.uint16)),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_any_image_becomes_a_digit(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    PICTURES[kind].save(path)
    image, notes = read_digit(str(path))
    assert image.shape == (1, 28, 28)
    pixels = image[0].float()
    assert pixels[0].max() == 0, "the ground is dark"
    assert pixels[8:20, 13:15].mean() > 200, "the stroke is bright and in the middle"
    assert 15 <= (pixels.max(1).values > 100).sum() <= 20
    inverted = kind in ("paper", "colour", "transparent", "palette", "one bit", "16 bits")
    assert any("inverted" in note for note in notes) == inverted


def test_a_28_by_28_image_is_taken_as_it_is(tmp_path: Path) -> None:
    pixels = np.zeros((28, 28), np.uint8)
    pixels[3:9, 2:5] = 200
    for name, values in (("dark", pixels), ("bright", 255 - pixels)):
        Image.fromarray(values).save(tmp_path / f"{name}.png")
        assert np.array_equal(read_digit(str(tmp_path / f"{name}.png"))[0][0].numpy(), pixels)


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "blank", "missing", "folder"])
def test_a_bad_image_is_reported(damage: str, tmp_path: Path, decathlon: Command) -> None:
    path = tmp_path / "picture.png"
    noise = np.random.default_rng(0).integers(0, 255, (90, 90)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    content = {"empty": b"", "text": b"no picture", "cut": path.read_bytes()[:2000]}
    if damage in content:
        path.write_bytes(content[damage])
    elif damage == "blank":
        Image.new("L", (50, 50), 200).save(path)
    else:
        path.unlink()
        if damage == "folder":
            path.mkdir()
    answer = decathlon("predict", "mnist-mlp", path)
    assert answer.status == 1
    assert str(path) in answer.error
    assert answer.out == ""


def test_a_huge_image_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    Image.new("1", (8000, 8000)).save(path)
    with pytest.raises(ValueError, match="8000×8000"):
        read_digit(str(path))


def test_wrong_shapes_are_reported_in_one_sentence() -> None:
    example = torch.zeros(2, 1, 28, 28)
    with pytest.raises(ValueError, match=r"returns shape \(2, 5\) .* must return \(2, 10\)"):
        architecture.expect_shape(torch.zeros(2, 5), (2, 10), example)
    with pytest.raises(ValueError, match="returns a list"):
        architecture.expect_shape([1], (2, 10), example)
    with pytest.raises(ValueError, match="does not take an input"):
        architecture.operations(nn.Linear(3, 3), example)


def test_to_float_scales_bytes_only() -> None:
    assert to_float(torch.tensor([255], dtype=torch.uint8)).item() == 1.0
    assert to_float(torch.tensor([0.3])).item() == pytest.approx(0.3)


def test_muon_steps_are_orthogonal_and_keep_the_length() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    muon, adam = make_optimizers(network, Optimizer("muon", lr=0.1, momentum=0.6))
    set_lr([muon, adam], Optimizer("muon", lr=0.1, warmup=0.5), 0.5)
    assert [group["lr"] for optimizer in (muon, adam) for group in optimizer.param_groups] == [
        0.1,
        0.1 * VECTOR_LR_SCALE,
    ]
    kernel = network[0].weight
    before = kernel.detach().clone()
    kernel.grad = torch.randn_like(kernel)
    muon.step()
    step = (kernel - before).detach()
    assert float(kernel.detach().norm()) == pytest.approx(float(before.norm()), rel=1e-5)
    assert float(step.norm()) == pytest.approx(0.1 * float(before.norm()), rel=0.1)
    values = torch.linalg.svdvals(orthogonal(kernel.grad).flatten(1))
    assert 0.5 < float(values.min()) <= float(values.max()) < 1.5, "all directions about equally long"


def test_muon_can_do_with_zeros() -> None:
    """Weights that begin at 0 grow to what weights usually begin with; a layer without a gradient stays as it is."""
    torch.manual_seed(0)
    zero, still = nn.Parameter(torch.zeros(8, 4)), nn.Parameter(torch.randn(8, 4))
    before, usual = still.detach().clone(), float(nn.Linear(4000, 8).weight.detach().norm())
    optimizer = Muon([zero, still], lr=0.1, momentum=0.0)
    lengths = []
    for _ in range(30):
        zero.grad, still.grad = torch.randn(8, 4).sign() + 3, torch.zeros(8, 4)
        optimizer.step()
        lengths.append(float(zero.detach().norm()))
    assert torch.allclose(still, before)
    assert lengths[0] == pytest.approx(0.1 * lengths[-1], rel=0.05), "the first step is no longer than others"
    assert lengths[:8] == sorted(lengths[:8])
    assert lengths[-1] == pytest.approx(usual, rel=0.1)


@pytest.mark.parametrize("shape", [(8, 3, 3, 3), (4, 9), (9, 4)])
def test_orthogonal_keeps_the_shape_and_the_direction(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    gradient = torch.randn(shape)
    result = orthogonal(gradient)
    assert result.shape == gradient.shape
    assert float((result * gradient).sum()) > 0


def test_whitening_makes_patches_uncorrelated() -> None:
    torch.manual_seed(0)
    images = torch.rand(50, 3, 12, 12).cumsum(3) / 12  # neighbours are alike, as in pictures
    convolution = nn.Conv2d(3, 24, 2)
    whiten(convolution, images)
    answers = convolution(images).detach().transpose(0, 1).flatten(1)[:12]  # (N, 24, H, W) -> (12, N · H · W)
    assert torch.allclose(answers.mean(1), torch.zeros(12), atol=1e-3)
    covariance = torch.cov(answers)
    assert float((covariance - covariance.diag().diag()).abs().max()) < 1e-3
    # What is added to the variances leaves directions that hardly vary below 1.
    assert 0.8 < float(covariance.diag().min()) <= float(covariance.diag().max()) < 1.001
    assert torch.equal(convolution.weight[:12], -convolution.weight[12:])
    assert not convolution.weight.requires_grad
    assert convolution.bias is not None
    assert convolution.bias.requires_grad


def test_shifts_are_whole_pixels_and_mirror_what_comes_in() -> None:
    torch.manual_seed(0)
    images = torch.randint(256, (40, 3, 8, 6), dtype=torch.uint8)
    moved = random_translate(images, 2)
    assert (moved.shape, moved.dtype) == (images.shape, torch.uint8)
    wide = np.pad(images.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), "reflect")
    shifts = set()
    for image, padded in zip(moved.numpy(), wide, strict=True):
        matches = [(y, x) for y in range(5) for x in range(5) if np.array_equal(image, padded[:, y : y + 8, x : x + 6])]
        assert len(matches) == 1
        shifts.add(matches[0])
    assert len(shifts) > 10
    assert torch.equal(random_translate(images, 0), images)


def test_cutout_hides_one_square_of_each_image() -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (200, 3, 12, 16), dtype=torch.uint8)
    hidden = cutout(images, 5)
    for before, after in zip(images, hidden, strict=True):
        rows, columns = (before != after).any(0).nonzero(as_tuple=True)
        top, left = rows.min(), columns.min()
        square = after[:, top : top + 5, left : left + 5]
        assert torch.equal(square, before.float().mean((1, 2)).to(torch.uint8)[:, None, None].expand(3, 5, 5))
        outside = torch.ones(12, 16, dtype=torch.bool)
        outside[top : top + 5, left : left + 5] = False
        assert torch.equal(before[:, outside], after[:, outside])
    corners = (images != hidden).any(1).flatten(1).float().argmax(1)
    assert len(corners.unique()) > 50, "they lie anywhere"
    assert cutout(images, 0) is images


def test_mirrored_views_count_alike() -> None:
    images = torch.rand(5, 3, 4, 4)
    both = image_classification.TTA(lambda batch: batch[:, :, 0, 0], "flip")
    assert torch.allclose(both(images), (images[:, :, 0, 0] + images[:, :, 0, -1]) / 2)


def test_shifted_views_count_half() -> None:
    images = torch.rand(5, 3, 4, 6)
    views = image_classification.TTA(lambda batch: batch[:, :, 1, 2], "flip+shift")
    weights = {(1, 2): 1 / 4, (1, 3): 1 / 4}  # itself, and its flip
    weights |= {(0, 1): 1 / 8, (0, 2): 1 / 8, (2, 3): 1 / 8, (2, 4): 1 / 8}  # moved down and right, up and left
    expected = sum(weight * images[:, :, y, x] for (y, x), weight in weights.items())
    assert torch.allclose(views(images), expected)


def test_a_plot_that_fails_takes_nothing_with_it(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("no paper")

    monkeypatch.setattr(get_task("mnist-mlp"), "plot_validation", fail)
    answer = decathlon("train", "mnist-mlp", "--data", "sample", "--epochs", "1", "--hidden", "16", "--out", "run")
    assert answer.status == 0
    assert "no paper" in answer.err
    assert Path("run/summary.json").exists()
    assert Path("run/report.html").exists()


def test_worse_than_an_untrained_reference_is_behind() -> None:
    """As an encoder that says nothing, where the forest does well on the codes of an untrained one."""
    curve = [{"loss": loss, "value": value} for loss, value in ((0.4, 0.81), (0.2, 0.83))]
    expected = ReferenceTrial("", 0, 0.0, 0, [], 0, 0, 0, 0.80, curve)
    assert falls_behind([{"loss": 0.2, "value": 0.09}], expected)
    assert not falls_behind([{"loss": 0.2, "value": 0.80}], expected)


def test_scales_are_no_matrices() -> None:
    """A LayerScale of shape (C, 1, 1) starts near 0 and must grow; Muon keeps the norm of matrices."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 1, 1), nn.Linear(1, 5))
    network.scale = nn.Parameter(torch.full((4, 1, 1), 1e-6))
    matrices, vectors = divide_parameters(network, list(network.parameters()))
    assert [tuple(p.shape) for p in matrices] == [(4, 3, 3, 3), (1, 4, 1, 1), (5, 1)]
    assert {tuple(p.shape) for p in vectors} == {(4, 1, 1), (4,), (1,), (5,)}
    muon, adam = make_optimizers(network, Optimizer("muon", lr=0.1))
    assert sum(len(group["params"]) for group in muon.param_groups) == 3
    assert sum(len(group["params"]) for group in adam.param_groups) == 4
    adamw, *rest = make_optimizers(network, Optimizer("adamw", lr=0.1, weight_decay=0.1))
    assert not rest
    assert [(len(group["params"]), group["weight_decay"]) for group in adamw.param_groups] == [(3, 0.1), (4, 0.0)]


def test_parametrized_weights_are_matrices_and_left_as_they_are() -> None:
    """Reading the weight of a spectral norm runs a power iteration, so a resumed run would have one more."""
    network = nn.Sequential(parametrizations.spectral_norm(nn.Linear(4, 1)), nn.LSTM(1, 3))
    network.append(parametrizations.weight_norm(nn.Linear(5, 1)))
    before = {name: value.clone() for name, value in network.named_buffers()}
    matrices, _ = divide_parameters(network, list(network.parameters()))
    assert [tuple(p.shape) for p in matrices] == [(1, 4), (12, 1), (12, 3), (1, 5)]
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers())
