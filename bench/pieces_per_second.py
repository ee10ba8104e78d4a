"""How many pieces a second roberta-mini reads: in pre-training, and when it embeds reviews.

Run: make bench, or python bench/pieces_per_second.py. It needs no data but the sample, repeated.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in decathlon.__main__

import itertools
import json
import statistics
import time
from collections.abc import Callable

import torch

from decathlon import encoder
from decathlon.data import Epoch, Split, pieces, source
from decathlon.optim import make_optimizers
from decathlon.pretraining import imdb_roberta as pretraining

STEPS, WARMUP = 12, 3


def median_seconds(work: Callable[[], object]) -> float:
    times = []
    for number in range(STEPS + WARMUP):
        start = time.perf_counter()
        work()
        if number >= WARMUP:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def pretrain(half: bool) -> float:
    """Pieces a second in pre-training by the recipe, with or without bfloat16."""
    recipe = pretraining.recipe()
    split = pretraining.load(source("sample"), pretraining.sample_recipe()).train  # rows of 32: four make one of 128
    count = len(split) // 4
    rows = split.inputs[: 4 * count].view(count, 128)  # (N, 32) -> (N / 4, 128)
    made = pretraining.model(recipe, {}).train()
    optimizers = make_optimizers(made, recipe.optimizer)
    epochs = (pretraining.batches(Split(rows, rows), recipe, Epoch(0, number)) for number in itertools.count())
    batches = itertools.chain.from_iterable(epochs)

    def step() -> None:
        batch = next(batches)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = pretraining.step(made, batch, recipe)["loss"]
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    return recipe.batch_size * recipe.row / median_seconds(step)


def embed() -> float:
    """Pieces a second when reviews of about 300 pieces are embedded."""
    found = encoder.find(encoder.MINI, 512, (0, 4), "mean")
    texts = ["The plot was not bad and the music was really moving . " * 22] * 64
    count = sum(len(encoder.cut(row, found)) for row in pieces.numbers(found.tokenizer, texts))
    return count / median_seconds(lambda: encoder.vectors(found, texts))


def main() -> None:
    rows = [("pre-training", pretrain(False)), ("pre-training, bfloat16", pretrain(True)), ("embedding", embed())]
    for what, speed in rows:
        row = {"what": what, "pieces_per_second": round(speed), "threads": torch.get_num_threads()}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
