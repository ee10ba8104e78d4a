"""Soft labels for texts without a label, by linear models that were trained on the labelled ones (self-training).

Two teachers: logistic regression on naive-Bayes log-count ratios of n-grams (Wang and Manning 2012, ACL), and logistic
regression on the embeddings of a frozen encoder.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from decathlon.data.base import WEIGHTS
from decathlon.data.imdb import Texts
from decathlon.data.io import cache
from decathlon.data.transforms.words import split as split_words
from decathlon.messages import say

VERSION = "2"  # part of a cache's key: raise it when the teachers change
Indices = tuple[np.ndarray, np.ndarray]  # indices of training and validation texts

NGRAMS = "ngrams"  # name of the teacher that counts n-grams
MAX_TOKENS = 512  # of a text that an encoder reads, as `imdb-roberta` has it: embeddings are shared with it
MAX_NGRAM = 3  # n-grams of 1 to 3 words
HASH_BUCKETS = 1 << 24  # features of the n-grams, which are hashed: no table of millions of them is kept
MIN_TEXTS = 2  # an n-gram of fewer training texts is ignored
SMOOTHING = 1.0  # added to each count of the naive-Bayes ratios
C_NGRAMS = 0.3  # inverse strengths of regularisation of the two logistic regressions; chosen on validation
C_EMBEDDINGS = 0.1


def absolute_name(name: str) -> str:
    """The name of a teacher; of a folder, its absolute path, since a run may be resumed from elsewhere."""
    ships = name == NGRAMS or (WEIGHTS / name).is_dir()
    return str(Path(name).resolve()) if not ships and Path(name).is_dir() else name


@dataclass(frozen=True)
class Teacher:
    """What a linear model says of texts that it was not trained on.

    Attributes:
        name: For messages and the summary.
        validation: Logits float32 (N, num_classes) of the validation texts.
        unlabelled: Logits float32 (N, num_classes) of the texts without a label.
    """

    name: str
    validation: np.ndarray
    unlabelled: np.ndarray


def ngram_teacher(parts: Sequence[Sequence[list[str]]], labels: np.ndarray, num_classes: int) -> Teacher:
    """Logistic regression on naive-Bayes ratios of 1- to 3-grams.

    Args:
        parts: The words of each text to train on, of each validation text, and of each text without a label.
        labels: Class ids (N,) of the first.
        num_classes: Number of classes.
    """
    from sklearn.feature_extraction.text import HashingVectorizer

    options: dict[str, Any] = {"binary": True, "alternate_sign": False, "norm": None, "dtype": np.float32}
    hashing = HashingVectorizer(analyzer=ngrams, n_features=HASH_BUCKETS, **options)
    train, *others = (hashing.transform(texts) for texts in parts)
    frequent = np.asarray(train.sum(0))[0] >= MIN_TEXTS
    logits = [np.empty((features.shape[0], num_classes), np.float32) for features in others]
    for label in range(num_classes):
        inside, outside = (SMOOTHING + np.asarray(train[rows].sum(0))[0] for rows in (labels == label, labels != label))
        ratios = (np.log(inside / inside.sum()) - np.log(outside / outside.sum())).astype(np.float32) * frequent
        model = logistic_regression(train.multiply(ratios).tocsr(), labels == label, C_NGRAMS)
        for out, features in zip(logits, others, strict=True):
            out[:, label] = features @ (ratios * model.coef_[0]) + model.intercept_[0]
        if num_classes == 2:  # the other class has the same model with its sign changed
            for out in logits:
                out[:, 1] = -out[:, 0]
            break
    return Teacher(NGRAMS, *logits)


def ngrams(words: list[str]) -> list[str]:
    """All n-grams of a text's words."""
    return [" ".join(words[i : i + n]) for n in range(1, MAX_NGRAM + 1) for i in range(len(words) - n + 1)]


def embedding_teacher(name: str, parts: Sequence[np.ndarray], labels: np.ndarray, num_classes: int) -> Teacher:
    """Logistic regression on embeddings float32 (N, embedding_dim), each value brought to mean 0 and deviation 1.

    Args:
        name: Of the encoder.
        parts: Embeddings of the texts to train on, of the validation texts, and of the texts without a label.
        labels: Class ids (N,) of the first.
        num_classes: Number of classes.
    """
    mean, deviation = parts[0].mean(0), parts[0].std(0).clip(1e-6)
    train, *others = ((embeddings - mean) / deviation for embeddings in parts)
    logits = [np.empty((len(part), num_classes), np.float32) for part in others]
    for label in range(num_classes):
        model = logistic_regression(train, labels == label, C_EMBEDDINGS)
        for out, features in zip(logits, others, strict=True):
            out[:, label] = model.decision_function(features)
    return Teacher(name, *logits)


def logistic_regression(features: Any, labels: np.ndarray, strength: float) -> Any:
    """Fit one class against the others: features (N, D), labels bool (N,)."""
    from sklearn.linear_model import LogisticRegression

    sparse = not isinstance(features, np.ndarray)
    options: dict[str, Any] = {"solver": "liblinear", "dual": True, "random_state": 0} if sparse else {}
    return LogisticRegression(C=strength, max_iter=300, **options).fit(features, labels)


def combine(teachers: Sequence[Teacher], labels: np.ndarray) -> tuple[np.ndarray, list[str], dict[str, float]]:
    """Logits by the mean of those teachers that together are best on validation.

    The logits of each teacher are divided by their deviation first: logistic regression on many features is too sure.

    Args:
        teachers: At least one.
        labels: Class ids (N,) of the validation texts.

    Returns:
        Logits float32 (N, num_classes) of the texts without a label, of about unit deviation; the names of the teachers
        that were taken; and the validation accuracy of each set of teachers, by their names.
    """
    accuracies: dict[tuple[int, ...], float] = {}
    logits: dict[tuple[int, ...], np.ndarray] = {}
    for size in range(1, len(teachers) + 1):
        for chosen in combinations(range(len(teachers)), size):
            pairs = [normalise(teachers[number]) for number in chosen]
            validation, logits[chosen] = (np.mean(parts, 0) for parts in zip(*pairs, strict=True))
            accuracies[chosen] = float((validation.argmax(1) == labels).mean())
    best = max(accuracies, key=lambda chosen: accuracies[chosen])
    named = {" and ".join(teachers[number].name for number in chosen): value for chosen, value in accuracies.items()}
    return logits[best].astype(np.float32), [teachers[number].name for number in best], named


def normalise(teacher: Teacher) -> tuple[np.ndarray, np.ndarray]:
    """The logits of validation and unlabelled texts, divided by the deviation of the latter."""
    deviation = max(float(teacher.unlabelled.std()), 1e-6)
    return teacher.validation / deviation, teacher.unlabelled / deviation


def label_cached(names: Sequence[str], texts: Texts, split: Indices, folder: Path, key: str) -> dict[str, np.ndarray]:
    """What `label_texts` returns, from the data folder's cache, or made and kept there."""
    from decathlon.data import embeddings

    folders = [None if name == NGRAMS else embeddings.find_encoder(name) for name in names]
    digests = [path and embeddings.encoder_digest(path) for path in folders]
    held_out = hashlib.sha256(split[1].tobytes()).hexdigest()
    path = folder / "cache" / f"imdb-soft-labels-{cache.make_key(VERSION, texts.key, held_out, digests)}.npz"
    return cache.load_or_make(path, lambda: label_texts(names, texts, split, folder, key))


def label_texts(names: Sequence[str], texts: Texts, split: Indices, folder: Path, key: str) -> dict[str, np.ndarray]:
    """Train the teachers on labelled texts and let them label the others.

    Args:
        names: `ngrams`, or an encoder as `embeddings.load_encoder` takes it; at least one.
        texts: Labelled and unlabelled texts.
        split: Indices of `texts.train` to train on, and to choose the teachers by.
        folder: The data folder; embeddings are cached there.
        key: Of the labelled texts, for that cache.

    Returns:
        For the cache: `logits` float32 (N, num_classes) of the unlabelled texts, the names `teachers`, and `seconds`.
    """
    labels, (train, validation), num_classes = np.array(texts.train_labels), split, len(texts.classes)
    teachers, seconds = [], 0.0
    for name in names:
        say(f"training a teacher for {len(texts.unlabelled):,} texts without a label: {name} (once; cached)")
        start = time.perf_counter()
        if name == NGRAMS:
            words = [split_words(text) for text in texts.train]
            parts = [[words[i] for i in indices] for indices in split]
            parts.append([split_words(text) for text in texts.unlabelled])
            teachers.append(ngram_teacher(parts, labels[train], num_classes))
            seconds += time.perf_counter() - start
        else:
            labelled, unlabelled, title, took = embed_texts(name, texts, folder, key)
            start = time.perf_counter()
            embedded = labelled[train], labelled[validation], unlabelled
            teachers.append(embedding_teacher(title, embedded, labels[train], num_classes))
            seconds += took + time.perf_counter() - start
    logits, taken, accuracies = combine(teachers, labels[validation])
    rows = ", ".join(f"{name} {100 * accuracy:.1f} %" for name, accuracy in accuracies.items())
    say(f"accuracy of the teachers on validation: {rows}")
    return {"logits": logits, "teachers": np.array(taken), "seconds": np.array(seconds)}


def embed_texts(name: str, texts: Texts, folder: Path, key: str) -> tuple[np.ndarray, np.ndarray, str, float]:
    """Embeddings of labelled and of unlabelled texts by this encoder, its title, and the seconds they took."""
    import torch

    from decathlon.data import embeddings

    encoder = embeddings.load_encoder(name, MAX_TOKENS, (), "mean")
    if torch.cuda.is_available():
        encoder.network.cuda()
    labelled, seconds = embeddings.embed_cached(encoder, texts.train, folder, (key, "train"), "train reviews")
    keys = texts.key, "unlabelled"
    unlabelled, more = embeddings.embed_cached(encoder, texts.unlabelled, folder, keys, "unlabelled reviews")
    return labelled.numpy(), unlabelled.numpy(), encoder.name, seconds + more
