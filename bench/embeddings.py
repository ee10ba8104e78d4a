"""What pooling, layers, standardising and length bring to imdb-roberta: accuracy on validation; test is never read.

Run: DECATHLON_DATA=DIR python bench/embeddings.py [ENCODER]. What the recipe's own vectors allow is measured on all
training reviews; other poolings and lengths on every fourth, where only differences of more than two points count.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor

from decathlon import encoder
from decathlon.data import Epoch, Split, hold_out_runs, imdb, pieces, shuffled, source, steps_per_epoch
from decathlon.optim import make_optimizers, set_lr
from decathlon.tasks import imdb_roberta as task

EVERY = 4
SEEDS = 3
LENGTHS = (64, 128, 256, 512)


def poolings(found: encoder.Encoder, texts: list[str]) -> dict[str, Tensor]:
    """Each layer's output pooled in three ways: `mean`, `first`, `max`, each float32 (N, layers + 1, hidden)."""
    network: Any = found.network
    rows = [encoder.cut(row, found) for row in pieces.numbers(found.tokenizer, texts)]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    kept: dict[str, list[Tensor]] = {"mean": [], "first": [], "max": []}
    for chosen in track(list(encoder.batched(order, rows)), "embedding"):
        longest = max(len(rows[i]) for i in chosen)
        pad = network.config.pad_token_id
        numbers = torch.tensor([[*rows[i], *[pad] * (longest - len(rows[i]))] for i in chosen])  # (N, L)
        real = numbers != pad
        with torch.no_grad():
            states = network(numbers, attention_mask=real.long(), output_hidden_states=True).hidden_states
        states = torch.stack(states, 1)  # (N, layers + 1, L, hidden)
        mask = real[:, None, :, None]
        kept["mean"].append((states * mask).sum(2) / mask.sum(2))
        kept["first"].append(states[:, :, 0])
        kept["max"].append(states.masked_fill(~mask, -1e9).amax(2))
    back = torch.tensor(order).argsort()
    return {name: torch.cat(parts)[back] for name, parts in kept.items()}


def accuracy(vectors: Tensor, labels: Tensor, recipe: task.Recipe) -> dict[str, float]:
    """Validation accuracy of the recipe's MLP after its last epoch: mean and deviation over seeds."""
    train, validation = hold_out_runs(Split(vectors, labels))
    meta = {"classes": ["neg", "pos"], "values": vectors.shape[1]}
    reached = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        model = task.model(recipe, meta, train).train()
        optimizers = make_optimizers(model, recipe.optimizer)
        steps = steps_per_epoch(train, recipe.batch_size)
        for epoch in range(recipe.epochs):
            for number, batch in enumerate(shuffled(train, recipe.batch_size, Epoch(seed, epoch))):
                set_lr(optimizers, recipe.optimizer, (epoch * steps + number) / (recipe.epochs * steps))
                F.cross_entropy(model(batch.inputs), batch.targets).backward()
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
        with torch.no_grad():
            right = model.eval()(validation.inputs).argmax(1) == validation.targets
        reached.append(right.double().mean())
    found = torch.stack(reached)
    return {"validation": round(found.mean().item(), 4), "deviation": round(found.std().item(), 4)}


def main() -> None:
    where, recipe = source(), task.recipe()
    loaded = imdb.load(where)
    found = encoder.find(sys.argv[1] if len(sys.argv) > 1 else recipe.encoder, recipe.length, (), recipe.pooling)
    labels = torch.tensor(loaded.train_labels)

    def tell(what: str, vectors: Tensor, recipe: task.Recipe = recipe) -> None:
        row: dict[str, Any] = {"encoder": found.name, "what": what, "values": vectors.shape[1]}
        row["reviews"] = len(vectors)
        truth = labels if len(vectors) == len(labels) else labels[::EVERY]
        print(json.dumps(row | accuracy(vectors, truth, recipe)), flush=True)

    whole = encoder.embedded(found, loaded.train, where.folder, (loaded.key, "train"), "train reviews")
    parts = dict(zip(found.layers, whole.chunk(len(found.layers), 1), strict=True))
    first, middle, last = found.layers
    tell("the recipe", whole)
    for layers in ((first,), (middle,), (last,), (first, last)):
        tell(f"mean of layers {layers}", torch.cat([parts[layer] for layer in layers], 1))
    tell("the recipe without standardising", whole, replace(recipe, standardise=False))
    tell("the recipe with one layer of 64", whole, replace(recipe, hidden=(64,)))
    tell("the recipe with two layers of 256", whole, replace(recipe, hidden=(256, 256)))
    tell("the recipe without dropout", whole, replace(recipe, dropout=0.0))
    tell("the recipe, 30 epochs", whole, replace(recipe, epochs=30))

    few = loaded.train[::EVERY]
    every = poolings(found, few)
    for pooling, states in every.items():
        tell(f"{pooling} of the last layer", states[:, last])
    tell("mean of all layers", every["mean"].flatten(1))  # (N, layers + 1, hidden) -> (N, values)
    tell("mean and max of all layers", torch.cat([every["mean"].flatten(1), every["max"].flatten(1)], 1))
    for length in LENGTHS:
        tell(f"at most {length} pieces", encoder.vectors(replace(found, length=min(length, found.length)), few))


if __name__ == "__main__":
    main()
