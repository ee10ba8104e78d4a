"""Dividing examples into training, validation and test, so that no example is in two of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from decathlon.data.base import S, Split
from decathlon.messages import pluralize, some, warn


@dataclass(frozen=True)
class Contents:
    """What the examples of a split are, to find copies of one example: of a user's own data only.

    Attributes:
        digests: A hash of the content of each example.
        names: Its file, or what else stands for it in messages.
    """

    digests: Sequence[str]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.digests)

    def select(self, indices: Sequence[int]) -> Contents:
        """Those of some examples."""
        return Contents([self.digests[i] for i in indices], [self.names[i] for i in indices])

    def groups(self) -> Tensor:
        """A number for each example, the same for copies: int64 (N,)."""
        numbers: dict[str, int] = {}
        return torch.tensor([numbers.setdefault(digest, len(numbers)) for digest in self.digests], dtype=torch.int64)


def hold_out(split: S, part: int = 12, by_class: bool = False, contents: Contents | None = None) -> tuple[S, S]:
    """Divide a training split into training and validation (one in `part`, and with `by_class` one in `part` of each).

    The draw is fixed, not the run's seed's: all runs that are divided like this are compared on the same examples.
    With `contents`, copies of one example are held out together or not at all, and the draw depends on the contents
    alone: files that were renamed or rows that were sorted since a training stay in their splits.
    """
    train, held = hold_out_indices(split, part, by_class, contents)
    return split[train], split[held]


def hold_out_indices(
    split: Split, part: int = 12, by_class: bool = False, contents: Contents | None = None
) -> tuple[Tensor, Tensor]:
    """As `hold_out`: the indices, int64, of both parts.

    Where there are too few different examples, so that no training example of a class, or none at all, would be left,
    copies are divided as if they were different, and this is reported.
    """
    chosen = torch.arange(len(split))
    groups = None if contents is None else contents.groups()
    if groups is not None and len(split):
        # One of its copies stands for all of them: the first, of several classes the first of the lowest.
        rank = split.targets * len(split) + chosen if by_class else chosen
        lowest = torch.full((int(groups.max()) + 1,), int(rank.max()) + 1).scatter_reduce(0, groups, rank, "amin")
        chosen = (lowest % len(split)).sort().values
    if contents is None:
        order = chosen[torch.randperm(len(chosen), generator=torch.Generator().manual_seed(0))]
    else:
        order = torch.tensor(sorted(chosen.tolist(), key=lambda i: _draw(contents.digests[i])), dtype=torch.int64)
    if by_class:
        order = order[stratified_order(split.targets[order])]
    count = max(1, len(order) // part)
    train, held = order[count:], order[:count]
    if contents is None or groups is None or len(chosen) == len(split):
        return train, held
    is_copy = torch.ones(len(split), dtype=torch.bool)
    is_copy[chosen] = False
    copies, is_held = is_copy.nonzero()[:, 0], torch.isin(groups, groups[held])
    train, held = torch.cat([train, copies[~is_held[copies]]]), torch.cat([held, copies[is_held[copies]]])
    lost = by_class and len(split.targets[train].unique()) < len(split.targets.unique())
    if not len(train) or lost:
        warn(f"there are only {len(chosen):,} different examples: some are both trained on and measured with")
        counts, numbered = Counter[str](), list[str]()
        for digest in contents.digests:
            counts[digest] += 1
            numbered.append(f"{digest} {counts[digest]}")
        return hold_out_indices(split, part, by_class, Contents(numbered, numbered))
    return train, held


def _draw(digest: str) -> bytes:
    return hashlib.sha256(digest.encode(errors="surrogatepass")).digest()


def stratified_order(labels: Tensor) -> Tensor:
    """An order, int64 (N,), of the labels, int64 (N,), of whose every beginning each class has its share.

    The number k of n of its class comes at k / n of the way, so a class with few examples is late.
    """
    position = torch.zeros(len(labels), dtype=torch.float64)
    for label in labels.unique():
        of_class = labels == label
        position[of_class] = (torch.arange(int(of_class.sum())) + 0.5).double() / of_class.sum()
    return position.argsort(stable=True)


def split_three_ways(
    sides: dict[str, S],
    where: Path,
    small: int = 0,
    by_class: bool = False,
    contents: dict[str, Contents] | None = None,
    noun: str = "images",
) -> tuple[S, S, S]:
    """Training, validation and test of the splits that images come in: `train`, and `val`, `test`, both or neither.

    Where there is no test, it is `val`, or a tenth of the training split; then validation is held out of training.

    Args:
        sides: The examples of each split.
        where: Where they come from, for messages.
        small: Of fewer training examples than these a sixth is held out for validation, else a twelfth.
        by_class: Whether the same share of each class is held out, as nearly as can be.
        contents: Of the examples of each split, where no example may be in two of them.
        noun: What the examples are, for messages.

    Raises:
        ValueError: There are too few.
    """
    parts = dict(sides)
    if contents is not None:
        parts, contents = drop_copies(parts, contents, where, noun)
    if "test" not in parts and "val" in parts:
        if contents is not None:
            warn(f"{where} has no test split: its validation split is used as such, validation is held out of training")
        parts["test"] = parts.pop("val")
    train, known = parts["train"], None if contents is None else contents["train"]
    if "test" in parts:
        test = parts["test"]
    else:
        remaining, held = hold_out_indices(train, 10, by_class, known)
        train, test = train[remaining], train[held]
        known = known and known.select(remaining.tolist())
    if len(train) < 2:
        count = sum(map(len, sides.values()))
        raise ValueError(f"{where} holds too few {noun} to train on and to measure with: {count}")
    if "val" in parts:
        return train, parts["val"], test
    train, validation = hold_out(train, 6 if len(train) < small else 12, by_class, known)
    return train, validation, test


def drop_copies(
    sides: dict[str, S], contents: dict[str, Contents], where: Path, noun: str = "images"
) -> tuple[dict[str, S], dict[str, Contents]]:
    """Remove from `val` what is in `train`, and from `test` what is in either, with a report; a whole split may go."""
    kept_sides, kept_contents, known = dict[str, S](), dict[str, Contents](), set[str]()
    for side in ("train", "val", "test"):
        if side not in sides:
            continue
        rows = contents[side]
        copies = [i for i, digest in enumerate(rows.digests) if digest in known]
        unique = [i for i, digest in enumerate(rows.digests) if digest not in known]
        if copies:
            names = some(rows.names[i] for i in copies)
            others = "train" if side == "val" or "val" not in sides else "train or val"
            end = "" if unique else f"; nothing is left of {side}"
            end += ", so it is held out of train" if not unique and (side == "val" or "val" not in kept_sides) else ""
            warn(
                f"{where}: {len(copies):,} of {len(rows):,} {noun} of {side} are also in {others}, and are left out "
                f"of {side} ({names}){end}"
            )
        known |= set(rows.digests)
        if unique or not len(rows):
            kept_sides[side] = sides[side][torch.tensor(unique, dtype=torch.int64)] if copies else sides[side]
            kept_contents[side] = rows.select(unique) if copies else rows
    train = contents["train"]
    if more := len(train) - len(set(train.digests)):
        first = dict(zip(reversed(train.digests), reversed(train.names), strict=True))
        copied = [name for digest, name in zip(train.digests, train.names, strict=True) if first[digest] != name]
        warn(f"{where}: {more:,} of {len(train):,} {noun} of train are copies of others ({some(copied)}): all are kept")
    return kept_sides, kept_contents


def drop_labelled(unlabelled: list[str], labelled: set[str], where: Path) -> list[str]:
    """The unlabelled texts without those that are labelled, too: these may be in the test split."""
    kept = [text for text in unlabelled if text not in labelled]
    if count := len(unlabelled) - len(kept):
        warn(f"{where}: {count:,} of {len(unlabelled):,} texts are among the labelled ones, and are left out")
    return kept


def warn_contradictions(
    contents: Contents, labels: Sequence[int], classes: Sequence[str], where: Path, noun: str = "images"
) -> None:
    """Say which examples are in several classes."""
    first: dict[str, int] = {}
    pairs = []
    for number, digest in enumerate(contents.digests):
        other = first.setdefault(digest, number)
        if labels[other] != labels[number]:
            names = contents.names[other], contents.names[number]
            pairs.append(f"{names[0]} in {classes[labels[other]]} and {names[1]} in {classes[labels[number]]}")
    if pairs:
        which = pluralize(len(pairs), noun.removesuffix("s")) + (" has" if len(pairs) == 1 else " have")
        warn(f"{where}: {which} the content of one of another class ({some(pairs)})")


def hold_out_blocks(split: S, part: int = 12, runs: int = 240) -> tuple[S, S]:
    """Divide a training split whose neighbours belong together: whole runs of neighbours are held out (one in `part`).

    Reviews of one film and one label stand side by side in IMDB, and the test split is of other films. Held out one by
    one, reviews would be judged by a network that has read such neighbours. Those of the other label lie elsewhere.
    """
    length = max(1, len(split) // runs)
    held = torch.arange(len(split)) // length % part == part // 2
    return (split[~held], split[held]) if held.any() else hold_out(split, part)
