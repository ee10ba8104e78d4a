"""Tokens per second of roberta-mini, in pre-training and when embedding reviews. It needs no data.

Run: make bench, or python bench/tokens_per_second.py
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in decathlon.__main__

import json
import statistics
import time
from collections.abc import Callable

import torch

from decathlon.data import embeddings
from decathlon.data.base import DataInfo
from decathlon.data.transforms import tokens
from decathlon.data.transforms.windows import Windows
from decathlon.tasks import roberta_mlm
from decathlon.training.optim import make_optimizers

STEPS, WARMUP = 12, 3
ROWS = 32  # fewer than the recipe's, which would take minutes


def median_seconds(work: Callable[[], object]) -> float:
    times = []
    for number in range(STEPS + WARMUP):
        start = time.perf_counter()
        work()
        if number >= WARMUP:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def pretrain(half: bool) -> float:
    """Tokens a second in pre-training by the recipe, with or without bfloat16."""
    recipe = roberta_mlm.recipe()
    rows = torch.randint(len(tokens.SPECIAL_TOKENS), recipe.vocab_size, (ROWS, recipe.row_length))
    words = torch.arange(recipe.row_length).expand(ROWS, -1)
    ngram_ids = torch.randint(recipe.max_ngrams, (ROWS, recipe.ngrams_per_row))
    batch = Windows(rows, rows, words, ngram_ids, torch.ones(ngram_ids.shape), torch.ones(ROWS))
    model = roberta_mlm.model(recipe, DataInfo()).train()
    optimizers = make_optimizers(model, recipe.optimizer)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = roberta_mlm.training_loss(model, batch, recipe)["loss"]
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    return rows.numel() / median_seconds(step)


def embed() -> float:
    """Tokens a second when reviews of about 300 tokens are embedded."""
    encoder = embeddings.load_encoder(embeddings.MINI, 512, (), "mean")
    texts = ["The plot was not bad and the music was really moving . " * 22] * 16
    count = sum(len(embeddings.truncate(row, encoder)) for row in tokens.encode(encoder.tokenizer, texts))
    return count / median_seconds(lambda: embeddings.embed(encoder, texts))


def main() -> None:
    rows = [("pre-training", pretrain(False)), ("pre-training, bfloat16", pretrain(True)), ("embedding", embed())]
    for what, speed in rows:
        row = {"what": what, "tokens_per_second": round(speed), "threads": torch.get_num_threads()}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
