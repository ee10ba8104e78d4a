"""Texts as rows of token ids, a token a word: splitting, the vocabulary, and word2vec trained on the texts."""

from __future__ import annotations

import re
import time
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from decathlon.messages import say

T = TypeVar("T")

# Combining marks, such as the vowels of Hindi: re does not count them among a word's characters.
MARKS = "".join(chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code)).startswith("M"))
LETTERS = rf"[^\W_]+(?:[{MARKS}]+[^\W_]*)*"
WORD = re.compile(rf"{LETTERS}(?:'(?=[^\W\d_]){LETTERS})?|[!?]")  # letters and digits of any script
PAD, UNKNOWN = 0, 1  # the padding id, and the id of words that are not in the vocabulary
MAX_WORD_CHARS = 64  # of a word in the vocabulary: NumPy stores all words as wide as the longest
MAX_TEXT_CHARS = 100_000  # longer texts lose their middle


def split(text: str) -> list[str]:
    """Lower-case words, with ! and ? as words of their own; of a huge text its beginning and end."""
    if len(text) > MAX_TEXT_CHARS:
        text = f"{text[: MAX_TEXT_CHARS // 2]} {text[-MAX_TEXT_CHARS // 2 :]}"
    return WORD.findall(text.lower())


def tokenize(
    texts: dict[str, list[str]], train: list[int], size: int, min_count: int, length: int, dim: int, epochs: int
) -> dict[str, np.ndarray]:
    """Token ids of the texts, a vocabulary and word2vec, both made of the training and the unlabelled texts alone.

    Args:
        texts: Those of `train`, `test` and `unlabelled`.
        train: Indices of the `train` texts that are not held out.
        size: Maximum size of the vocabulary.
        min_count: Minimum count of a word in the vocabulary.
        length: Maximum length of a text, in words.
        dim: Embedding dimension.
        epochs: Of word2vec.

    Returns:
        Token ids int32 (N, length) by the names of `texts`, `words`, the `vectors` of `train_word2vec`, and `seconds`.
    """
    say("splitting the reviews into words and training word2vec (once; cached)")
    start = time.perf_counter()
    parts = {name: [split(text) for text in texts[name]] for name in ("train", "test", "unlabelled")}
    read = [*(parts["train"][index] for index in train), *parts["unlabelled"]]
    vocabulary = build_vocabulary(read, size, min_count)
    vectors = train_word2vec(read, vocabulary, dim, epochs)
    rows = {name: encode(part, vocabulary, length) for name, part in parts.items()}
    check_unknown(rows["train"])
    return {"words": np.array(vocabulary), "vectors": vectors, "seconds": np.array(time.perf_counter() - start), **rows}


def build_vocabulary(texts: Iterable[Sequence[str]], size: int, min_count: int) -> list[str]:
    """The most frequent words, at most `size`, that occur at least `min_count` times.

    Raises:
        ValueError: There is none.
    """
    counts: Counter[str] = Counter()
    for words in texts:
        counts.update(word for word in words if len(word) <= MAX_WORD_CHARS)
    vocabulary = [word for word, count in counts.most_common(size) if count >= min_count]
    if not vocabulary:
        raise ValueError(
            f"no word of the texts occurs {min_count} times (--min-count); words are separated by spaces or punctuation"
        )
    return vocabulary


def encode(texts: Iterable[Sequence[str]], vocabulary: Sequence[str], length: int) -> np.ndarray:
    """Token ids, int32 (N, length): head and tail of longer texts, padding after shorter ones."""
    ids = {word: number for number, word in enumerate(vocabulary, start=UNKNOWN + 1)}
    rows = []
    for text in texts:
        words = head_and_tail(text, length)
        row = np.zeros(length, np.int32)
        row[: len(words)] = [ids.get(word, UNKNOWN) for word in words]
        rows.append(row)
    return np.stack(rows) if rows else np.zeros((0, length), np.int32)


def check_unknown(token_ids: np.ndarray) -> None:
    """Say so where most words of texts, token ids (N, length), are not in the vocabulary."""
    unknown, count = int((token_ids == UNKNOWN).sum()), int((token_ids != PAD).sum())
    if unknown > count / 2:
        say(
            f"{100 * unknown / count:.0f} % of the words are rarer than --min-count and are read as one unknown word; "
            "texts whose words are not separated by spaces cannot be read word by word"
        )


# What `imdb.clean_text` does, in words.
CLEANING = (
    "HTML's entities and line breaks resolved, typographic quotes made plain, letters composed (NFC), single blanks"
)


def onnx_facts(length: int, min_length: int) -> dict[str, Any]:
    """How a text becomes a row of token ids, for the metadata of an exported network.

    Args:
        length: Maximum length of a text, in words.
        min_length: Minimum length of a row.
    """
    return {
        "preprocessing": f"{CLEANING}; lower case; words are runs of letters, combining marks and digits, with at "
        f"most one ' before a letter inside, and the characters ! and ?; of more than {length} words the first "
        f"{length // 2} and the last {length - length // 2}; ids count from 2 in the order of info.vocabulary, 1 is an "
        f"unknown word, 0 pads rows to the length of the longest text of the batch, at least {min_length}",
        "postprocessing": "softmax over the logits; the most probable label; attributions: contributions of the words "
        "to the logit of each label",
        "input": {"length": length, "min_length": min_length, "unknown": UNKNOWN, "pad": PAD},
    }


def head_and_tail(tokens: Sequence[T], length: int) -> list[T]:
    """The first and last tokens of a text that is longer than `length`: reviews state their sentiment at their ends."""
    if len(tokens) <= length:
        return list(tokens)
    head = length // 2
    return [*tokens[:head], *tokens[len(tokens) - (length - head) :]]


def train_word2vec(texts: list[list[str]], vocabulary: Sequence[str], size: int, epochs: int) -> np.ndarray:
    """Word embeddings by word2vec, trained on these texts: continuous bag of words, with negative sampling.

    (Mikolov et al. 2013, arXiv:1301.3781 and arXiv:1310.4546)

    It runs in one thread and with a fixed hash, so that the same texts give the same embeddings.

    Args:
        texts: Their words.
        vocabulary: The words that get an embedding.
        size: Embedding dimension.
        epochs: Passes over the texts; with 0 the embeddings are random.

    Returns:
        float32 (len(vocabulary) + 2, size), scaled to a mean square of 1/size; 0 for padding, noise for unknown words.
    """
    table = np.random.default_rng(0).normal(0, 0.1, (len(vocabulary) + 2, size)).astype(np.float32)
    if epochs:
        from gensim.models import Word2Vec

        known = set(vocabulary)
        sentences = [[word for word in text if word in known] for text in texts]
        options = {"window": 5, "negative": 5, "min_count": 1, "sample": 1e-4, "workers": 1, "seed": 0}
        trained = Word2Vec(sentences, vector_size=size, epochs=epochs, hashfxn=_hash, **options)
        for number, word in enumerate(vocabulary, start=UNKNOWN + 1):
            if word in trained.wv:
                table[number] = trained.wv[word]
    table[PAD] = 0
    return table / max(1e-6, float(np.sqrt(np.square(table).mean() * size)))


def _hash(text: str) -> int:
    return zlib.crc32(text.encode())
