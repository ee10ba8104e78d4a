"""IMDB: reviews that occur in several splits, word for word but for case, and their effect on the accuracies.

Run: python bench/imdb_copies.py [--out docs/tasks/comparisons/imdb-copies.json]. It evaluates the weights that ship on
the test reviews that also occur elsewhere, and takes their answers off the published number of correct ones.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

import decathlon
from decathlon.data import imdb
from decathlon.data.base import Split, parse_source
from decathlon.runs import bundled

ROOT = Path(__file__).parents[1]


def copies_in(texts: list[str], others: list[str]) -> list[int]:
    """Which of the texts, by index, occur among the others, case apart."""
    present = {text.casefold() for text in others}
    return [number for number, text in enumerate(texts) if text.casefold() in present]


def without(value: float, count: int, correct: int, removed: int) -> float:
    """The accuracy over `count` texts when `removed` of them, `correct` of which are right, are left out."""
    return (round(value * count) - correct) / (count - removed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/tasks/comparisons/imdb-copies.json")
    options = parser.parse_args()
    source = parse_source("official", None, download=False)
    texts = imdb.load(source)
    numbers = Split(torch.arange(len(texts.train)), torch.tensor(texts.train_labels))
    train, validation = (
        [texts.train[index] for index in part.inputs] for part in imdb.divide_training(texts, numbers, source)
    )
    known = {"train": train, "validation": validation, "unlabelled": texts.unlabelled}
    copies = dict[str, dict[str, int]]()
    for split, reviews in (("test", texts.test), ("validation", validation)):
        copies[split] = {"reviews": len(reviews)}
        copies[split] |= {name: len(copies_in(reviews, others)) for name, others in known.items() if name != split}
    affected = copies_in(texts.test, [*texts.train, *texts.unlabelled])
    accuracy = dict[str, dict[str, float]]()
    for task in ("imdb-textcnn", "imdb-roberta"):
        predictions: list[Any] = decathlon.load(task).predict([texts.test[number] for number in affected])
        labels = [texts.classes[texts.test_labels[number]] for number in affected]
        correct = sum(prediction.label == label for prediction, label in zip(predictions, labels, strict=True))
        published = bundled.card(task)["value"]
        accuracy[task] = {
            "all": published,
            "of_those_with_copies": round(correct / len(affected), 4),
            "of_the_others": round(without(published, len(texts.test), correct, len(affected)), 5),
        }
    result = {"data": texts.name, "copies": copies, "test_reviews_with_copies": len(affected), "accuracy": accuracy}
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
