"""What every data set looks like to the rest: where it comes from, its three splits, and its batches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from decathlon.data.read_options import ReadOptions, split_path


@dataclass(frozen=True)
class Source:
    """Where data is to come from.

    Attributes:
        kind: `official`, `sample` (made by the package on the spot), or `own`.
        path: The user's own data, for `own`.
        folder: The data folder: official data is looked for here, and downloaded to here.
        download: Whether missing official data may be fetched.
        for_training: Whether the training examples' labels will be read: only then are soft ones made, for hours.
        options: How own data are written.
    """

    kind: Literal["official", "sample", "own"]
    path: Path | None
    folder: Path
    download: bool = True
    for_training: bool = True
    options: ReadOptions = field(default_factory=ReadOptions)


WEIGHTS = Path(__file__).resolve().parents[1] / "weights"  # that ship with the package: a folder for each task


def cache_folder() -> Path:
    """Where this package keeps files for this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "decathlon"


def parse_source(data: str = "official", data_dir: str | None = None, download: bool = True) -> Source:
    """Read `--data` and `--data-dir`.

    Raises:
        FileNotFoundError: `data` is neither `official` nor `sample` nor a path that exists.
    """
    folder = Path(data_dir or os.environ.get("DECATHLON_DATA") or cache_folder()).expanduser()
    if data == "official" or data == "sample":
        return Source("official" if data == "official" else "sample", None, folder, download)
    path, options = split_path(data)
    return Source("own", path, folder, download, options=options)


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
class ResizedSplit(Split):
    """Images, and the side in pixels at which they are to be seen: smaller ones first cost less."""

    side: int


@dataclass(frozen=True)
class DataInfo:
    """What building a network and predicting must know of the data: kept in config.json and in exported files.

    Attributes:
        classes: Names of the classes, in the order of their labels; a detector's are without the background.
        vocabulary: Words with an embedding of their own, of a text task that splits into words.
        tokenizer: JSON of the tokenizer, of a pre-training.
        encoder: Name and digest of the encoder whose embeddings are classified.
        embedding_dim: Size of these embeddings.
        teachers: Models that labelled training texts without a label.
        n_labelled: Labelled training images, of the autoencoder's forest.
        is_sample: Whether a detector's data are the sample, for which a small backbone is allowed.
    """

    classes: list[str] = field(default_factory=list)
    vocabulary: list[str] = field(default_factory=list)
    tokenizer: str = ""
    encoder: str = ""
    embedding_dim: int = 0
    teachers: list[str] = field(default_factory=list)
    n_labelled: int = 0
    is_sample: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON data: the fields that are set."""
        return {name: value for name, value in asdict(self).items() if value}


@dataclass(frozen=True)
class Data:
    """A data set: its three splits, and what prediction must know of it.

    Attributes:
        name: The copy, as results name it: `mnist`, `mnist-sample`, `own:folder`.
        train: What is learned from.
        validation: Part of the training split, held out: everything is chosen on it.
        test: Read once, at the end, by the final weights.
        info: What building a network and predicting must know of it.
        preparation_seconds: Time of what was learned before the training, now or before: embeddings, teachers.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    info: DataInfo
    preparation_seconds: float = 0.0

    @property
    def sizes(self) -> dict[str, int]:
        """Examples of each split."""
        return {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)}

    def to(self, device: torch.device | str) -> Data:
        """The same data on this device."""
        train, validation, test = (split.to(device) for split in (self.train, self.validation, self.test))
        return replace(self, train=train, validation=validation, test=test)


@dataclass(frozen=True)
class EpochShard:
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
        return torch.Generator().manual_seed(derive_seed(self.seed, self.number))


def derive_seed(*numbers: int) -> int:
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


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on this device; to a GPU it goes from pinned memory, so that the host does not wait for the copy."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def shuffled_batches(split: Split, batch_size: int, epoch: EpochShard) -> Iterator[Split]:
    """The batches of an epoch over a split in memory, this process's share of each."""
    order = to_device(torch.randperm(len(split), generator=epoch.generator()), split.targets.device)
    for number in range(epoch.start, steps_per_epoch(split, batch_size)):
        chunk = order[number * batch_size : (number + 1) * batch_size]
        yield split[chunk[epoch.rank :: epoch.world]]
