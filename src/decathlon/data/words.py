"""Texts as rows of word numbers: splitting, the vocabulary, and word vectors trained on the texts themselves."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?|[!?]")
PAD, UNKNOWN = 0, 1  # the numbers of no word at all, and of a word that is not in the vocabulary
LETTERS = 64  # of the longest word that can have a vector: tables of words are as wide as the longest
LONGEST = 100_000  # characters of a text that are read: the rest of a longer one is cut from its middle


def split(text: str) -> list[str]:
    """Lower-case words, with ! and ? as words of their own; of a huge text its first and last part."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} {text[-LONGEST // 2 :]}"
    return WORD.findall(text.lower())


def vocabulary(texts: Iterable[Sequence[str]], size: int, least: int) -> list[str]:
    """The most frequent words, those that occur `least` times or more. Raises ValueError where there is none."""
    counts: Counter[str] = Counter()
    for words in texts:
        counts.update(word for word in words if len(word) <= LETTERS)
    known = [word for word, count in counts.most_common(size) if count >= least]
    if not known:
        raise ValueError(
            f"the texts hold no word that occurs {least} times; words are of the letters a to z and digits"
        )
    return known


def encode(texts: Iterable[Sequence[str]], words: Sequence[str], length: int) -> np.ndarray:
    """Numbers of the words, int32 (N, length): the head and the tail of a longer text, zeros after a shorter one."""
    numbers = {word: number for number, word in enumerate(words, start=UNKNOWN + 1)}
    rows = []
    for text in texts:
        kept = head_and_tail(text, length)
        row = np.zeros(length, np.int32)
        row[: len(kept)] = [numbers.get(word, UNKNOWN) for word in kept]
        rows.append(row)
    return np.stack(rows) if rows else np.zeros((0, length), np.int32)


def facts(length: int, least: int) -> dict[str, Any]:
    """How a text becomes a row of numbers, for the metadata of an exported network.

    Args:
        length: Words of a text that are read.
        least: Numbers that a row must have.
    """
    return {
        "preprocessing": f"lower case; words are what {WORD.pattern} finds; of more than {length} the first and the "
        f"last {length // 2}; numbered from 2 in the order of meta.words, 1 is a word that is not there; 0 fills up "
        f"rows of a batch; a row is as long as the longest text of its batch, or {least}",
        "answer": "softmax over the scores; the likeliest label; words: how much each spoke for each label",
        "input": {"length": length, "least": least, "unknown": UNKNOWN, "pad": PAD},
    }


def head_and_tail(words: Sequence[T], length: int) -> list[T]:
    """The first and the last words (or pieces) of a text that is too long: a review's verdict stands at its ends."""
    if len(words) <= length:
        return list(words)
    head = length // 2
    return [*words[:head], *words[len(words) - (length - head) :]]


def vectors(texts: list[list[str]], words: Sequence[str], size: int, epochs: int) -> np.ndarray:
    """Word2vec trained on these texts: a continuous bag of words, with negative sampling.

    (Mikolov et al. 2013, arXiv:1301.3781 and arXiv:1310.4546)

    One thread and a fixed hash, so that the same texts give the same vectors.

    Returns:
        float32 (words + 2, size), scaled to a mean square of 1/size; zeros for no word, small noise for unknown ones.
    """
    table = np.random.default_rng(0).normal(0, 0.1, (len(words) + 2, size)).astype(np.float32)
    if epochs:
        from gensim.models import Word2Vec

        known = set(words)
        kept = [[word for word in text if word in known] for text in texts]
        options = {"window": 5, "negative": 5, "min_count": 1, "sample": 1e-4, "workers": 1, "seed": 0}
        trained = Word2Vec(kept, vector_size=size, epochs=epochs, hashfxn=_hash, **options)
        for number, word in enumerate(words, start=UNKNOWN + 1):
            if word in trained.wv:
                table[number] = trained.wv[word]
    table[PAD] = 0
    return table / max(1e-6, float(np.sqrt(np.square(table).mean() * size)))


def _hash(text: str) -> int:
    return zlib.crc32(text.encode())
