"""Windows of tokenised reviews for pre-training: where they begin, their words, and the rest of the review."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from decathlon.data.base import EpochShard, Split, derive_seed, steps_per_epoch, to_device
from decathlon.data.transforms import ngrams
from decathlon.data.transforms.tokens import BOS, EOS

LENGTHS = (0.5, 1.0, 2.0, 4.0)  # times the row length
PROBABILITIES = {"early": (0.15, 0.6, 0.17, 0.08), "late": (0.1, 0.3, 0.35, 0.25)}
MARGIN = 5  # a review must have a fifth of a window's tokens outside it
MIN_LENGTH = 8


@dataclass(frozen=True)
class Windows(Split):
    """N windows of L tokens; `inputs` and `targets` are their token ids, int64 (N, L), start and end among them.

    Attributes:
        words: The number of each token's word within its row, int64 (N, L).
        ngram_ids: Drawn n-grams of the rest of the review, int64 (N, draws).
        ngram_weights: float32 (N, draws).
        pseudo_labels: Of the sentiment, from -1 to 1, float32 (N,).
    """

    words: Tensor
    ngram_ids: Tensor
    ngram_weights: Tensor
    pseudo_labels: Tensor


@dataclass(frozen=True)
class Reviews(Split):
    """Tokenised reviews, one behind another: `inputs` are token ids int32 (T,), `targets` the offsets int64 (N + 1,).

    Attributes:
        row_length: Tokens of a usual window; the length of the split is in such windows.
        starts: By token, whether it begins a word, bool (vocabulary,).
        ends: By token, whether a word may go on after it, bool (vocabulary,).
        embeddings: Initial token embeddings, float32 (vocabulary, hidden), or (0, hidden) for noise.
        ngrams: The n-grams of the reviews.
    """

    row_length: int
    starts: Tensor
    ends: Tensor
    embeddings: Tensor
    ngrams: ngrams.NGrams

    def __len__(self) -> int:
        return max(1, len(self.inputs) // self.row_length)

    def to(self, device: torch.device | str) -> Reviews:
        """The same reviews on this device."""
        tensors = {
            f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name not in ("row_length", "ngrams")
        }
        moved = {name: value.to(device) for name, value in vars(self.ngrams).items()}
        return replace(self, **tensors, ngrams=ngrams.NGrams(**moved))

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], row_length: int) -> Reviews:
        """From the arrays `tokens`, `offsets`, `starts`, `ends`, `embeddings` and those of `ngrams.to_arrays`."""
        starts, ends, embeddings, offsets = (
            torch.from_numpy(arrays[name]) for name in ("starts", "ends", "embeddings", "offsets")
        )
        tokens = torch.from_numpy(arrays["tokens"].astype(np.int32))
        return cls(tokens, offsets, row_length, starts, ends, embeddings, ngrams.from_arrays(arrays))

    def eligible(self, length: int, pairs: bool) -> Tensor:
        """The reviews that are long enough for a window of this length, or for two of them, int64 (E,)."""
        width = length - 2
        return (self.targets.diff() >= (2 * width if pairs else width + width // MARGIN)).nonzero()[:, 0]

    def as_windows(self, rows: Tensor) -> Windows:
        """Rows of token ids int64 (N, L) with their words, without anything to learn of the rest of the review."""
        words = ngrams.begin_words(rows, self.starts, self.ends).cumsum(1) - 1
        nothing = torch.zeros(len(rows), 0, device=rows.device)
        return Windows(rows, rows, words, nothing.long(), nothing, nothing)


def draw_windows(
    reviews: Reviews,
    epoch: EpochShard,
    batch_size: int,
    max_length: int,
    late: bool,
    pairs: bool = False,
    weights: Tensor | None = None,
    draws: int = 0,
) -> Iterator[Windows]:
    """The batches of an epoch; each batch is drawn from (seed, epoch, number) alone, and has windows of one length.

    Args:
        reviews: To draw from: a review with a probability in proportion to its length.
        epoch: Seed, number and this process's share.
        batch_size: Windows of the usual length; of longer ones there are as many fewer.
        max_length: Tokens that a window may have.
        late: Whether longer windows are more frequent.
        pairs: Draw two windows of each review that do not overlap; one half of a batch holds the first of each pair.
        weights: Of the n-grams, float32 (K,).
        draws: N-grams for each window, of those of the review that begin outside it.

    Raises:
        ValueError: No review is long enough.
    """
    tables, probabilities = [], []
    for factor, probability in zip(LENGTHS, PROBABILITIES["late" if late else "early"], strict=True):
        length = int(reviews.row_length * factor)
        count = int(batch_size / factor) // (2 if pairs else 1)
        eligible = reviews.eligible(length, pairs)
        if MIN_LENGTH <= length <= max_length and len(eligible) and count >= 2 * epoch.world:
            tables.append((length, count, eligible, reviews.targets.diff()[eligible].cumsum(0)))
            probabilities.append(probability)
    if not tables:
        raise ValueError(f"these texts are too short for rows of {reviews.row_length} tokens: choose a --row-length")
    for number in range(epoch.start, steps_per_epoch(reviews, batch_size)):
        generator = torch.Generator().manual_seed(derive_seed(epoch.seed, epoch.number, number))
        choice = int(torch.multinomial(torch.tensor(probabilities), 1, generator=generator))
        length, count, eligible, ends = tables[choice]
        draw, first, second = torch.rand(3, count, dtype=torch.float64, generator=generator)
        ngram_draws = torch.rand(2 if pairs else 1, count, draws, generator=generator)
        mine = slice(epoch.rank, None, epoch.world)
        position = (to_device(draw[mine], ends.device) * ends[-1]).long()
        review = eligible[torch.searchsorted(ends, position, right=True).clamp(max=len(eligible) - 1)]
        begin = _draw_begins(reviews, review, length - 2, first[mine], second[mine] if pairs else None)
        yield _cut(
            reviews, review.repeat(len(begin)), begin.flatten(), length, ngram_draws[:, mine].flatten(0, 1), weights
        )


def _draw_begins(reviews: Reviews, review: Tensor, width: int, first: Tensor, second: Tensor | None) -> Tensor:
    """Where the windows begin among all tokens, int64 (1 or 2, N), by draws from 0 to 1."""
    offset, slack = reviews.targets[review], reviews.targets.diff()[review] - (1 if second is None else 2) * width
    begin = (to_device(first, slack.device) * (slack + 1)).long().minimum(slack)
    if second is None:
        return (offset + begin)[None]
    rest = slack - begin
    return (
        torch.stack([begin, begin + width + (to_device(second, slack.device) * (rest + 1)).long().minimum(rest)])
        + offset
    )


def _cut(
    reviews: Reviews, review: Tensor, begin: Tensor, length: int, draws: Tensor, weights: Tensor | None
) -> Windows:
    """Windows (N,) with their n-grams, by draws from 0 to 1 (N, draws)."""
    width, device, ngram_table = length - 2, begin.device, reviews.ngrams
    body = reviews.inputs[begin[:, None] + torch.arange(width, device=device)].long()
    edge = torch.full((len(begin), 1), BOS, device=device)
    windows = reviews.as_windows(torch.cat([edge, body, edge + (EOS - BOS)], 1))
    windows = replace(windows, pseudo_labels=ngram_table.pseudo_labels[review])
    if weights is None or not draws.shape[1]:
        return windows
    low, high = ngram_table.pointer[reviews.targets[review]], ngram_table.pointer[reviews.targets[review + 1]]
    inner, outer = (
        ngram_table.pointer[begin],
        ngram_table.pointer[begin + width],
    )  # occurrences inside the window: skipped
    outside = (high - low) - (outer - inner)
    drawn = (to_device(draws, device) * outside[:, None]).long().minimum((outside - 1).clamp(min=0)[:, None]) + low[
        :, None
    ]
    drawn = torch.where(drawn >= inner[:, None], drawn + (outer - inner)[:, None], drawn).clamp(
        max=len(ngram_table.ids) - 1
    )
    ids = ngram_table.ids[drawn].long()
    return replace(windows, ngram_ids=ids, ngram_weights=weights[ids] * (outside > 0)[:, None])
