"""What the tasks on IMDB do beyond what every task does."""

from __future__ import annotations

from dataclasses import replace

import torch

from decathlon.data.base import EpochShard
from decathlon.tasks import imdb_textcnn


def test_long_reviews_are_not_left_out() -> None:
    """An epoch leaves out what does not fill a batch: other reviews in each, not always the longest."""
    lengths = torch.arange(99)
    tokens = (torch.arange(100) <= lengths[:, None]).int()  # (99, 100): row i has i + 1 words
    reviews = imdb_textcnn.Reviews(tokens, lengths, torch.empty(0))
    recipe = replace(imdb_textcnn.recipe(), batch_size=50)
    seen = [b.targets for n in range(20) for b in imdb_textcnn.batches(reviews, recipe, EpochShard(0, n))]
    assert len(seen) == 20
    assert sorted(torch.cat(seen).unique().tolist()) == lengths.tolist()


def test_a_batch_has_reviews_of_similar_length() -> None:
    lengths = torch.arange(100)
    tokens = (torch.arange(100) <= lengths[:, None]).int()
    reviews = imdb_textcnn.Reviews(tokens, lengths, torch.empty(0))
    recipe = replace(imdb_textcnn.recipe(), batch_size=10)
    batches = [b.targets for b in imdb_textcnn.batches(reviews, recipe, EpochShard(0, 0))]
    assert sorted(torch.cat(batches).tolist()) == lengths.tolist()
    assert all(batch.max() - batch.min() == 9 for batch in batches)
