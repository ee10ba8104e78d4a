"""What is for training, validation and test: the same images ever since, or results could not be compared."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from decathlon.data.base import Split
from decathlon.data.divide import Contents, split_three_ways

# Sides, below how many a sixth is held out, and SHA-256 of the numbers of the images in each part.
KNOWN = [
    ({"train": 100}, 0, "fe5f8f4d90a1 94961336dfd5 0d0088b737ef"),
    ({"train": 100}, 1000, "9c8f230460c5 a94418018c74 0d0088b737ef"),
    ({"train": 100, "val": 20}, 0, "7bf1727cab45 6fa92c25cfb9 111e895be982"),
    ({"train": 50, "val": 9, "test": 30}, 1000, "c202d9cfc785 e4a1a89465bb fb4ef0b426e5"),
    ({"train": 2000, "test": 500}, 0, "eee1aacaad33 05652b056fa7 3b023031a2fe"),  # cifar10-sample
    ({"train": 50000, "test": 10000}, 0, "899279a63905 7e26893fd934 ce9d2f664b42"),  # cifar10-jpeg
    ({"train": 132, "test": 48}, 0, "96ae6280590b e5563bd46bda 73147a5c7e95"),  # pets-sample
    ({"train": 340, "test": 225}, 0, "e4b024553297 a8516a21b248 5fc63c2db789"),  # pets-565
    ({"train": 192, "test": 48}, 1000, "00ff76cec3ea 14422b2e7c21 9812b23935d2"),  # voc-sample
    ({"train": 3091, "test": 646}, 1000, "a6d8b7df1292 4f33fe6d0571 b1a0f70ebbcf"),  # voc-3737
]


@pytest.mark.parametrize(("sides", "small", "hashes"), KNOWN)
def test_the_parts_stay_what_they_were(sides: dict[str, int], small: int, hashes: str) -> None:
    numbers = torch.arange(sum(sides.values()))
    whole, parts, start = Split(numbers, numbers), dict[str, Split](), 0
    for side, count in sides.items():
        parts[side], start = whole[start : start + count], start + count
    splits = split_three_ways(parts, Path("mine"), small)
    assert [hashlib.sha256(part.targets.numpy().tobytes()).hexdigest()[:12] for part in splits] == hashes.split()
    assert torch.equal(torch.cat([part.targets for part in splits]).sort().values, numbers), "each image in one part"


@pytest.mark.parametrize("counts", [(30, 30), (70, 20, 10), (200, 2), (3,) * 40, (1, 500), (12, 0, 12)])
def test_own_classes_are_held_out_alike(counts: tuple[int, ...]) -> None:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    whole = Split(torch.arange(len(labels)), labels)
    train, validation, test = split_three_ways({"train": whole}, Path("mine"), by_class=True)
    assert len(test) == max(1, len(labels) // 10)
    assert torch.equal(torch.cat([train.inputs, validation.inputs, test.inputs]).sort().values, whole.inputs)
    for part, share in ((test, 1 / 10), (validation, 9 / 10 / 12)):
        for label, count in enumerate(counts):
            assert abs(int((part.targets == label).sum()) - share * count) <= 1, "as near as whole images allow"
    assert all((train.targets == label).any() for label, count in enumerate(counts) if count), "none is unlearned"


def test_too_few_are_reported() -> None:
    numbers = torch.arange(2)
    with pytest.raises(ValueError, match="mine holds too few images to train on and to measure with: 2"):
        split_three_ways({"train": Split(numbers, numbers)}, Path("mine"))


@pytest.mark.parametrize("by_class", [False, True])
def test_own_examples_stay_in_their_splits_whatever_their_order(by_class: bool) -> None:
    """Else `evaluate` would test on what was trained on, where files were renamed or rows sorted in between."""

    def parts(order: torch.Tensor) -> list[list[int]]:
        split = Split(order, order % 3)
        contents = Contents([f"content {number}" for number in order.tolist()], [str(n) for n in range(len(order))])
        sides = split_three_ways({"train": split}, Path("mine"), by_class=by_class, contents={"train": contents})
        return [part.inputs.tolist() for part in sides]

    first = parts(torch.arange(120))
    assert [len(part) for part in first] == [99, 9, 12]
    assert parts(torch.randperm(120, generator=torch.Generator().manual_seed(1))) == first
    assert len(set(parts(torch.arange(130))[2]) & set(first[0])) <= 1  # with some more, nearly so


def test_copies_stay_in_their_splits_whatever_their_order() -> None:
    """Of contradictory copies, too, and where there are too few different examples."""

    def parts(labels: list[tuple[str, int]]) -> list[list[tuple[str, int]]]:
        split = Split(torch.arange(len(labels)), torch.tensor([label for _, label in labels]))
        contents = {"train": Contents([text for text, _ in labels], [text for text, _ in labels])}
        sides = split_three_ways({"train": split}, Path("mine"), by_class=True, contents=contents)
        return [sorted(labels[i] for i in part.inputs.tolist()) for part in sides]

    contradictory = [(f"text {number // 2}", number % 2) for number in range(60)]
    assert parts(contradictory[::-1]) == parts(contradictory)
    few = [(f"text {number % 2}", number % 2) for number in range(60)]
    assert [len(part) for part in parts(few)] == [50, 4, 6]
