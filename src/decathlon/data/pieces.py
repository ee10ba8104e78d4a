"""Texts as pieces of words, as RoBERTa reads them. Pieces are chosen, and their start vectors made, from the texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")  # numbered from 0, the first four as in RoBERTa
START, PAD, END, UNKNOWN, MASK = range(5)
SPREAD = 0.05  # deviation of the values in a start vector


def choose(texts: Sequence[str], size: int) -> Tokenizer:
    """Byte-level byte-pair encoding (Radford et al. 2019, section 2.2) in lower case, learned from these texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", END), ("<s>", START))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, min_frequency=2, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def numbers(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The pieces of each text, without start and end; a text that spells a special piece does not become one."""
    tokenizer.encode_special_tokens = True
    return [found.ids for found in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


def packed(reviews: Sequence[Sequence[int]], row: int) -> np.ndarray:
    """All reviews, in a fixed drawn order, one behind another with start and end: uint16 (N, row), nothing padded."""
    order = np.random.default_rng(0).permutation(len(reviews))
    flat = np.concatenate([np.array([START, *reviews[i], END], np.uint16) for i in order])
    count = len(flat) // row
    if not count:
        raise ValueError(f"these texts have {len(flat)} pieces, less than one row of {row}")
    return flat[: count * row].reshape(count, row)  # (N · row,) -> (N, row)


def topics(reviews: Sequence[Sequence[int]], vocabulary: int, size: int) -> np.ndarray:
    """A vector a piece by latent semantic analysis (Deerwester et al. 1990): pieces of like reviews are alike.

    Counts are damped by their logarithm and weighted by rarity, reviews brought to one length. Each vector is brought
    to mean 0 and deviation `SPREAD`: RoBERTa's first norm takes its length away on the way in.

    Returns:
        float32 (vocabulary, size); where the texts give fewer directions than `size`, the rest is small noise.
    """
    from scipy.sparse import csr_matrix, diags
    from sklearn.decomposition import TruncatedSVD

    ends = np.cumsum([0] + [len(review) for review in reviews])
    flat = np.concatenate([np.array(review, np.int64) for review in reviews])
    counts = csr_matrix((np.ones(len(flat), np.float32), flat, ends), shape=(len(reviews), vocabulary))
    counts.sum_duplicates()
    rarity = np.log((len(reviews) + 1) / (np.bincount(counts.indices, minlength=vocabulary) + 1))
    counts.data = np.log1p(counts.data)
    weighted = counts @ diags(rarity.astype(np.float32))
    lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(1))[:, 0])
    weighted = diags((1 / np.maximum(lengths, 1e-6)).astype(np.float32)) @ weighted
    found = TruncatedSVD(min(size, min(weighted.shape) - 1), n_iter=4, random_state=0).fit(weighted)
    vectors = np.random.default_rng(0).normal(0, 1e-3, (vocabulary, size)).astype(np.float32)
    vectors[:, : len(found.components_)] += found.components_.T * np.sqrt(found.singular_values_)
    vectors -= vectors.mean(1, keepdims=True)
    return SPREAD * vectors / np.maximum(vectors.std(1, keepdims=True), 1e-9)
