"""MNIST with 1,000 labels: what a classifier reaches without the autoencoder's training, on the validation images.

Run: python bench/raw_pixels.py [--seeds 0 1 2] [--out docs/tasks/comparisons/mnist-1000-labels.json]. Each seed draws
the labelled images as the recipe does. The test split is not read.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from decathlon.data.base import Data, parse_source
from decathlon.evaluation import forests
from decathlon.tasks import mnist_autoencoder as task

ROOT = Path(__file__).parents[1]


def accuracies(data: Data, seed: int) -> dict[str, float]:
    """Of each classifier, on the validation images."""
    recipe = replace(task.recipe(), seed=seed)
    chosen = task.choose_labelled(data.train, recipe, len(data.info.classes))
    images, labels = data.train.inputs[chosen], data.train.targets[chosen].numpy()
    torch.manual_seed(seed)
    untrained = task.model(recipe, data.info).eval()

    def pixels(inputs: Tensor) -> Any:
        return inputs.flatten(1).numpy() / 255

    def codes(inputs: Tensor) -> Any:
        with torch.no_grad():
            return task.encode(untrained, inputs).numpy()

    forest_of_pixels = forests.fit(pixels(images), labels, recipe.n_trees, seed)
    forest_of_codes = forests.fit(codes(images), labels, recipe.n_trees, seed)
    linear = LogisticRegression(C=0.1, max_iter=1000).fit(pixels(images), labels)
    inputs, targets = data.validation.inputs, data.validation.targets.numpy()
    predicted = {
        "logistic regression of the pixels": linear.predict(pixels(inputs)),
        "forest of the pixels": forest_of_pixels.predict(pixels(inputs)),
        "forest of the codes of an untrained encoder": forest_of_codes.predict(codes(inputs)),
    }
    return {name: round(float((labels == targets).mean()), 5) for name, labels in predicted.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=ROOT / "docs/tasks/comparisons/mnist-1000-labels.json")
    options = parser.parse_args()
    data = task.load(parse_source("official", None, download=False), task.recipe())
    runs = [accuracies(data, seed) for seed in options.seeds]
    rows = []
    for name in runs[0]:
        values = [run[name] for run in runs]
        row = {
            "what": name,
            "data": data.name,
            "split": "validation",
            "accuracy": [round(value, 5) for value in values],
        }
        rows.append(json.dumps(row))
        print(f"{name}: {100 * statistics.mean(values):.2f} %", values)
    options.out.write_text("[\n" + ",\n".join(rows) + "\n]\n")


if __name__ == "__main__":
    main()
