"""Test-time augmentation of the CIFAR-10 tasks: accuracy of the weights that ship on the validation split, by kind.

Run: python bench/tta.py [--out docs/tasks/comparisons/tta.json]. The test split is not read.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import get_args

import torch

import decathlon
from decathlon.data import cifar10
from decathlon.data.base import parse_source
from decathlon.evaluation import classification

ROOT = Path(__file__).parents[1]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/tasks/comparisons/tta.json")
    options = parser.parse_args()
    data = cifar10.load(parse_source("official", None, download=False))
    rows = []
    for task in ("cifar10-cnn", "cifar10-skip"):
        network = decathlon.load(task).network
        views = {"none": network} | {
            kind: classification.TTA(network, kind) for kind in get_args(classification.TTAKind)
        }
        accuracy = {kind: classification.evaluate(model, data.validation)["accuracy"] for kind, model in views.items()}
        rows.append(json.dumps({"task": task, "data": data.name, "split": "validation"} | accuracy))
        print(rows[-1], flush=True)
    options.out.write_text("[\n" + ",\n".join(rows) + "\n]\n")


if __name__ == "__main__":
    main()
