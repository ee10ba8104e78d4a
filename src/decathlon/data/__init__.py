"""What every data set looks like to the rest: where it comes from, its three splits, and its batches."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from decathlon.terminal import shown


@dataclass(frozen=True)
class Source:
    """Where data is to come from.

    Attributes:
        kind: `official`, `sample` (made by the package on the spot), or `own`.
        path: The user's own data, for `own`.
        folder: The data folder: official data is looked for here, and downloaded to here.
        download: Whether missing official data may be fetched.
    """

    kind: Literal["official", "sample", "own"]
    path: Path | None
    folder: Path
    download: bool = True


def source(data: str = "official", data_dir: str | None = None, download: bool = True) -> Source:
    """Read `--data` and `--data-dir`.

    Raises:
        FileNotFoundError: `data` is neither `official` nor `sample` nor a path that exists.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(data_dir or os.environ.get("DECATHLON_DATA") or cache / "decathlon").expanduser()
    if data == "official" or data == "sample":
        return Source("official" if data == "official" else "sample", None, folder, download)
    path = Path(data).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"--data {data}: no such path; give official, sample, or the path of your own data")
    return Source("own", path, folder, download)


S = TypeVar("S", bound="Split")


@dataclass(frozen=True)
class Split:
    """Examples held in memory as tensors that share their first dimension; a task may add fields of its own."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self: S, index: Any) -> S:
        return replace(self, inputs=self.inputs[index], targets=self.targets[index])

    def to(self, device: torch.device | str) -> Split:
        """The same examples on this device."""
        return replace(self, inputs=self.inputs.to(device), targets=self.targets.to(device))


@dataclass(frozen=True)
class Sized(Split):
    """Images, and the side in pixels at which they are to be seen: smaller ones first cost less."""

    side: int


@dataclass(frozen=True)
class Data:
    """A data set: its three splits, and what prediction must know of it.

    Attributes:
        name: The copy, as results name it: `mnist`, `mnist-sample`, `own:folder`.
        train: What is learned from.
        validation: Part of the training split, held out: everything is chosen on it.
        test: Read once, at the end, by the final weights.
        meta: Plain JSON data that building a network and predicting need, `classes` for one.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    meta: dict[str, Any]

    @property
    def sizes(self) -> dict[str, int]:
        """Examples of each split."""
        return {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)}

    def to(self, device: torch.device | str) -> Data:
        """The same data on this device."""
        train, validation, test = (split.to(device) for split in (self.train, self.validation, self.test))
        return replace(self, train=train, validation=validation, test=test)


@dataclass(frozen=True)
class Epoch:
    """Which part of which pass over the training data this process must feed.

    Attributes:
        seed: The run's seed.
        number: The epoch, from 0.
        start: Batches of it that are done already (a resumed run).
        rank: This process among `world` processes, each of which takes its share of every batch.
    """

    seed: int
    number: int
    start: int = 0
    rank: int = 0
    world: int = 1

    def generator(self) -> torch.Generator:
        """Random numbers that depend on seed and epoch alone: the same order in every process and after a resume."""
        return torch.Generator().manual_seed(stream(self.seed, self.number))


def stream(*numbers: int) -> int:
    """One seed out of several numbers; different numbers give unrelated random streams."""
    value = 0x9E3779B97F4A7C15
    for number in numbers:  # splitmix64, a step a number
        value = (value + number + 0x9E3779B97F4A7C15) % 2**64
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
        value ^= value >> 31
    return value % 2**63


def steps_per_epoch(split: Any, batch_size: int) -> int:
    """Whole batches in a split; a split smaller than a batch is one batch."""
    return max(1, len(split) // batch_size)


def shuffled(split: Split, batch_size: int, epoch: Epoch) -> Iterator[Split]:
    """The batches of an epoch over a split in memory, this process's share of each."""
    order = torch.randperm(len(split), generator=epoch.generator())
    for number in range(epoch.start, steps_per_epoch(split, batch_size)):
        chunk = order[number * batch_size : (number + 1) * batch_size]
        yield split[chunk[epoch.rank :: epoch.world].to(split.targets.device)]


def hold_out(split: S, part: int = 12, by_class: bool = False) -> tuple[S, S]:
    """Divide a training split into training and validation (one in `part`, and with `by_class` one in `part` of each).

    The draw is fixed, not the run's seed's: all runs that are divided like this are compared on the same examples.
    """
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    if by_class:
        order = order[in_turn(split.targets[order])]
    count = max(1, len(split) // part)
    return split[order[count:]], split[order[:count]]


def in_turn(labels: Tensor) -> Tensor:
    """An order, int64 (N,), of the labels, int64 (N,), of whose every beginning each class has its share.

    The number k of n of its class comes at k / n of the way, so a class with few examples is late.
    """
    place = torch.zeros(len(labels), dtype=torch.float64)
    for each in labels.unique():
        mine = labels == each
        place[mine] = (torch.arange(int(mine.sum())) + 0.5).double() / mine.sum()
    return place.argsort(stable=True)


def divided(sides: dict[str, S], place: Path, small: int = 0, by_class: bool = False) -> tuple[S, S, S]:
    """Training, validation and test of the sides that pictures come in: `train`, and `val`, `test`, both or neither.

    Where there is no test, it is `val`, or a tenth of the training side; then validation is held out of training.

    Args:
        sides: The examples of each side.
        place: Where they come from, for the error.
        small: Of fewer training examples than these a sixth is held out for validation, else a twelfth.
        by_class: Whether the same share of each class is held out, as nearly as can be.

    Raises:
        ValueError: There are too few.
    """
    parts = dict(sides)
    if "test" not in parts and "val" in parts:
        parts["test"] = parts.pop("val")
    train = parts["train"]
    train, test = (train, parts["test"]) if "test" in parts else hold_out(train, 10, by_class)
    if len(train) < 2:
        count = sum(map(len, sides.values()))
        raise ValueError(f"{place} holds too few pictures to train on and to measure with: {count}")
    if "val" in parts:
        return train, parts["val"], test
    return *hold_out(train, 6 if len(train) < small else 12, by_class), test


def hold_out_runs(split: Split, part: int = 12, runs: int = 240) -> tuple[Split, Split]:
    """Divide a training split whose neighbours belong together: whole runs of neighbours are held out (one in `part`).

    Reviews of one film and one label stand side by side in IMDB, and the test split is of other films. Held out one by
    one, reviews would be judged by a network that has read such neighbours. Those of the other label lie elsewhere.
    """
    length = max(1, len(split) // runs)
    held = torch.arange(len(split)) // length % part == part // 2
    return (split[~held], split[held]) if held.any() else hold_out(split, part)


def say(message: str) -> None:
    """Tell the user something on the side (standard error), out of the way of results."""
    print(shown(message), file=sys.stderr, flush=True)
