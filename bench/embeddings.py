"""Ablations of imdb-roberta: pooling, layers, standardising, length. Accuracy on validation; test is never read.

Run: DECATHLON_DATA=DIR python bench/embeddings.py [ENCODER]. Variants of the recipe that use its own embeddings are
measured on all training reviews; other poolings and lengths on a quarter, where differences below two points are noise.
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

from decathlon.data import embeddings, imdb
from decathlon.data.base import DataInfo, EpochShard, Split, parse_source, shuffled_batches, steps_per_epoch
from decathlon.data.divide import hold_out_blocks
from decathlon.data.transforms import tokens
from decathlon.tasks import imdb_roberta as task
from decathlon.training.optim import make_optimizers, set_lr

EVERY = 4
SEEDS = 3
LENGTHS = (64, 128, 256, 512)


def poolings(encoder: embeddings.Encoder, texts: list[str]) -> dict[str, Tensor]:
    """Each layer's output pooled in three ways: `mean`, `first`, `max`, each float32 (N, layers + 1, hidden)."""
    network: Any = encoder.network
    rows = [embeddings.truncate(row, encoder) for row in tokens.encode(encoder.tokenizer, texts)]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    pooled: dict[str, list[Tensor]] = {"mean": [], "first": [], "max": []}
    for batch in track(list(embeddings.batch_by_length(order, rows)), "embedding"):
        token_ids = embeddings.pad_rows([rows[i] for i in batch], encoder)  # (N, L)
        real = token_ids != encoder.pad_id
        with torch.no_grad():
            states = network(token_ids, attention_mask=real.long(), output_hidden_states=True).hidden_states
        states = torch.stack(states, 1)  # (N, layers + 1, L, hidden)
        mask = real[:, None, :, None]
        pooled["mean"].append((states * mask).sum(2) / mask.sum(2))
        pooled["first"].append(states[:, :, 0])
        pooled["max"].append(states.masked_fill(~mask, -1e9).amax(2))
    inverse = torch.tensor(order).argsort()
    return {name: torch.cat(parts)[inverse] for name, parts in pooled.items()}


def accuracy(vectors: Tensor, labels: Tensor, recipe: task.Recipe) -> dict[str, float]:
    """Validation accuracy of the recipe's MLP after its last epoch: mean and deviation over seeds."""
    train, validation = hold_out_blocks(Split(vectors, labels))
    info = DataInfo(["neg", "pos"], embedding_dim=vectors.shape[1])
    by_seed = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        model = task.model(recipe, info, train).train()
        optimizers = make_optimizers(model, recipe.optimizer)
        steps = steps_per_epoch(train, recipe.batch_size)
        for epoch in range(recipe.epochs):
            for number, batch in enumerate(shuffled_batches(train, recipe.batch_size, EpochShard(seed, epoch))):
                set_lr(optimizers, recipe.optimizer, (epoch * steps + number) / (recipe.epochs * steps))
                F.cross_entropy(model(batch.inputs), batch.targets).backward()
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
        with torch.no_grad():
            correct = model.eval()(validation.inputs).argmax(1) == validation.targets
        by_seed.append(correct.double().mean())
    accuracies = torch.stack(by_seed)
    return {"validation": round(accuracies.mean().item(), 4), "deviation": round(accuracies.std().item(), 4)}


def main() -> None:
    source, recipe = parse_source(), task.recipe()
    texts = imdb.load(source)
    name = sys.argv[1] if len(sys.argv) > 1 else recipe.encoder
    last = embeddings.load_encoder(name, recipe.max_length, (), recipe.pooling).layers[0]
    layers = tuple(sorted({0, last // 2, last}))
    encoder = embeddings.load_encoder(name, recipe.max_length, layers, recipe.pooling)
    labels = torch.tensor(texts.train_labels)

    def report(what: str, inputs: Tensor, recipe: task.Recipe = recipe) -> None:
        row: dict[str, Any] = {"encoder": encoder.name, "what": what, "embedding_dim": inputs.shape[1]}
        row["reviews"] = len(inputs)
        targets = labels if len(inputs) == len(labels) else labels[::EVERY]
        print(json.dumps(row | accuracy(inputs, targets, recipe)), flush=True)

    all_embeddings, _ = embeddings.embed_cached(
        encoder, texts.train, source.folder, (texts.key, "train"), "train reviews"
    )
    parts = dict(zip(layers, all_embeddings.chunk(len(layers), 1), strict=True))
    for chosen in ((last,), layers[1:], layers, *((layer,) for layer in layers[:-1])):
        report(f"mean of layers {chosen}", torch.cat([parts[layer] for layer in chosen], 1))
    report("the recipe without standardising", parts[last], replace(recipe, standardise=False))
    report("the recipe with one layer of 64", parts[last], replace(recipe, hidden=(64,)))
    report("the recipe with two layers of 256", parts[last], replace(recipe, hidden=(256, 256)))
    report("the recipe without dropout", parts[last], replace(recipe, dropout=0.0))
    report("the recipe, 30 epochs", parts[last], replace(recipe, epochs=30))

    subset = texts.train[::EVERY]
    pooled = poolings(encoder, subset)
    for pooling, states in pooled.items():
        report(f"{pooling} of the last layer", states[:, last])
    report("mean of all layers", pooled["mean"].flatten(1))  # (N, layers + 1, hidden) -> (N, values)
    report("mean and max of all layers", torch.cat([pooled["mean"].flatten(1), pooled["max"].flatten(1)], 1))
    short = replace(encoder, layers=(last,))
    for length in LENGTHS:
        report(
            f"at most {length} tokens",
            embeddings.embed(replace(short, max_length=min(length, short.max_length)), subset),
        )


if __name__ == "__main__":
    main()
