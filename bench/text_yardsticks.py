"""Baselines for the networks on IMDB: linear models on counts of words and word pairs.

Run: DECATHLON_DATA=DIR python bench/text_yardsticks.py. Strengths are chosen on validation; test is read once.
"""

from __future__ import annotations

import json
import time

import numpy as np
import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from decathlon.data import imdb
from decathlon.data.base import Split, parse_source
from decathlon.data.divide import hold_out_blocks


def ratios(counts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Naive-Bayes log-count ratios of binary counts (Wang and Manning 2012, section 2.1)."""
    positive, negative = (np.asarray(counts[labels == side].sum(0))[0] + 1 for side in (1, 0))
    return np.log((positive / positive.sum()) / (negative / negative.sum()))


def fitted(counts: np.ndarray, labels: np.ndarray, strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=200, solver="liblinear", dual=True).fit(counts, labels)


def main() -> None:
    texts = imdb.load(parse_source())
    labels, test_labels = np.array(texts.train_labels), np.array(texts.test_labels)
    indices = Split(torch.arange(len(labels)), torch.from_numpy(labels))
    train, validation = (part.inputs.numpy() for part in hold_out_blocks(indices))  # as the networks are validated
    rows = ("logistic regression on words", 1), ("naive-Bayes ratios of 1- and 2-grams", 2)
    for name, longest in (*rows, ("naive-Bayes ratios of 1- to 3-grams", 3)):
        start = time.perf_counter()
        count = CountVectorizer(ngram_range=(1, longest), binary=True, token_pattern=r"[\w']+|[!?]", min_df=2)
        counts = count.fit_transform(texts.train).astype(np.float32).tocsr()
        scale = ratios(counts[train], labels[train]) if longest > 1 else np.ones(counts.shape[1])
        scaled = counts.multiply(scale[None]).tocsr()
        tried = {
            strength: fitted(scaled[train], labels[train], strength).score(scaled[validation], labels[validation])
            for strength in (0.01, 0.1, 0.3, 1.0)
        }
        best = max(tried, key=lambda strength: tried[strength])
        tested = count.transform(texts.test).astype(np.float32).multiply(scale[None]).tocsr()
        row = {
            "model": name,
            "data": texts.name,
            "strength": best,
            "validation": round(tried[best], 4),
            "test": round(fitted(scaled[train], labels[train], best).score(tested, test_labels), 4),
            "seconds": round(time.perf_counter() - start, 1),
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
