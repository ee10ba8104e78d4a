"""Words, pairs and triples of words of tokenised reviews, how polar they are, and a pseudo-label of each review.

Polarity begins with 14 seed words (Turney and Littman 2003, doi:10.1145/944012.944013): a review with more of the one
list than of the other is labelled positive or negative, and naive Bayes extends that to all other n-grams and reviews.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from decathlon.data.transforms.tokens import encode, word_tables

POSITIVE_SEEDS = ("excellent", "superb", "wonderful", "great", "amazing", "brilliant", "loved")
NEGATIVE_SEEDS = ("terrible", "awful", "horrible", "worst", "waste", "boring", "poor")
MAX_WORD_TOKENS = 64  # later ones of a longer word count as its last
SMOOTHING = 20  # added to each count of naive Bayes
SURE = 0.25  # standard deviations from the median: nearer reviews count as neither
POLAR = 0.7  # log odds from which an n-gram's weight is 1


@dataclass(frozen=True)
class NGrams:
    """The frequent n-grams of T tokens of N reviews; there are K of them, which occur M times.

    Attributes:
        ids: int32 (M,), in the order of their first tokens.
        pointer: int64 (T + 1,): of token t begin the occurrences pointer[t] to pointer[t + 1].
        counts: int64 (K,).
        keep: float32 (K,), the probability of keeping a frequent n-gram (Mikolov et al. 2013, section 2.3).
        polarity: float32 (K,), from 0 to 1: how strongly it indicates either sentiment.
        pseudo_labels: float32 (N,), the sentiment of each review, from -1 to 1.
    """

    ids: Tensor
    pointer: Tensor
    counts: Tensor
    keep: Tensor
    polarity: Tensor
    pseudo_labels: Tensor


def find_ngrams(tokens: Tensor, offsets: Tensor, tokenizer: Tokenizer, max_ngrams: int) -> NGrams:
    """Find the `max_ngrams` most frequent n-grams of up to three words, their polarity and the reviews' pseudo-labels.

    Args:
        tokens: Token ids of all reviews, one behind another, int64 (T,).
        offsets: Where each review begins, and the end, int64 (N + 1,).
        tokenizer: Which made the tokens.
        max_ngrams: How many are kept.
    """
    tables = {name: torch.from_numpy(table) for name, table in word_tables(tokenizer).items()}
    review = torch.repeat_interleave(torch.arange(len(offsets) - 1), offsets.diff())  # (T,)
    begins = begin_words(tokens, tables["starts"], tables["ends"])
    begins[offsets[:-1][offsets.diff() > 0]] = True
    first = begins.nonzero()[:, 0]  # (W,) the first token of each word
    word = begins.cumsum(0) - 1  # (T,)
    position = (torch.arange(len(tokens)) - first[word]).clamp(max=MAX_WORD_TOKENS - 1)
    # A word's hash is the sum of a random number for each token at its place; an n-gram's mixes those of its words.
    table = torch.randint(-(2**62), 2**62, (MAX_WORD_TOKENS, tokenizer.get_vocab_size()), generator=_generator(1))
    hashes = torch.zeros(len(first), dtype=torch.long).scatter_add_(0, word, table[position, tokens])
    codes, starts = _hash_ngrams(hashes, tables["is_word"][tokens[first]], review[first])
    kinds, inverse = codes.unique(return_inverse=True)
    counts = torch.bincount(inverse)
    top = counts.argsort(descending=True, stable=True)[:max_ngrams]
    rank = torch.full((len(kinds),), -1).scatter_(0, top, torch.arange(len(top)))
    ids, at = rank[inverse], first[starts]
    order = at[ids >= 0].argsort(stable=True)
    ids, at = ids[ids >= 0][order], at[ids >= 0][order]
    pointer = torch.zeros(len(tokens) + 1, dtype=torch.long)
    pointer[1:] = torch.bincount(at, minlength=len(tokens)).cumsum(0)
    keep = (1e-5 * len(first) / counts[top]).sqrt().clamp(max=1).float()
    seeds = torch.zeros(len(top))
    for side, names in ((1.0, POSITIVE_SEEDS), (-1.0, NEGATIVE_SEEDS)):
        for name in names:
            token_ids = torch.tensor(encode(tokenizer, [name])[0][:MAX_WORD_TOKENS])
            code = _hash_ngrams(table[torch.arange(len(token_ids)), token_ids].sum()[None], *_ONE_WORD)[0]
            seeds[rank[(kinds == code) & (rank >= 0)]] = side
    polarity, pseudo_labels = _naive_bayes(ids, review[at], seeds, keep, len(offsets) - 1)
    return NGrams(ids.int(), pointer, counts[top], keep, polarity, pseudo_labels)


_ONE_WORD = (torch.ones(1, dtype=torch.bool), torch.zeros(1, dtype=torch.long))


def begin_words(tokens: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """Which tokens begin a word or a punctuation mark, bool of the shape of `tokens` (…, L), by `word_tables`."""
    begins = starts[tokens]
    begins[..., 0] = True
    begins[..., 1:] |= ~ends[tokens[..., :-1]]
    return begins


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _hash_ngrams(words: Tensor, is_word: Tensor, review: Tensor) -> tuple[Tensor, Tensor]:
    """Hashes of all runs of one to three words within a review, int64 (M,), and their first words, int64 (M,)."""
    codes, starts = [], []
    for n in range(1, min(3, len(words)) + 1):
        count = len(words) - n + 1
        code, valid = torch.zeros(count, dtype=torch.long), torch.ones(count, dtype=torch.bool)
        for k in range(n):
            code = code * 1_000_003 + words[k : count + k] * (2 * k + 3) + n
            valid &= is_word[k : count + k] & (review[k : count + k] == review[:count])
        codes.append(code[valid])
        starts.append(valid.nonzero()[:, 0])
    return torch.cat(codes), torch.cat(starts)


def _naive_bayes(ids: Tensor, review: Tensor, seeds: Tensor, keep: Tensor, n_reviews: int) -> tuple[Tensor, Tensor]:
    """Polarity of the n-grams (K,) and pseudo-labels of the reviews (N,), by naive Bayes.

    It starts from the seeds and is repeated once from its own pseudo-labels (Nigam et al. 2000), so that no n-gram is
    polar only because a seed is in it.
    """

    def sum_by_review(values: Tensor) -> Tensor:
        return torch.zeros(n_reviews).scatter_add_(0, review, values[ids])

    def log_odds(pseudo_labels: Tensor) -> Tensor:
        up, down = (
            torch.bincount(ids, (pseudo_labels[review] * side > 0).float(), len(keep)) + SMOOTHING for side in (1, -1)
        )
        odds = (up / up.sum()).log() - (down / down.sum()).log()
        return odds - odds.median()

    odds = log_odds(sum_by_review(seeds).sign())
    mean = sum_by_review(keep * odds.clamp(-1, 1)) / sum_by_review(keep).clamp(min=1)
    scores = (mean - mean.median()) / mean.std().clamp(min=1e-6)
    odds = log_odds(torch.where(scores.abs() > SURE, scores.sign(), 0))
    return (odds.abs() / POLAR).clamp(max=1) ** 2, scores.clamp(-1, 1)


def to_arrays(ngrams: NGrams) -> dict[str, np.ndarray]:
    """As arrays for the cache."""
    return {f"ngram_{name}": value.numpy() for name, value in vars(ngrams).items()}


def from_arrays(arrays: dict[str, np.ndarray]) -> NGrams:
    """The inverse of `to_arrays`."""
    return NGrams(**{name: torch.from_numpy(arrays[f"ngram_{name}"]) for name in NGrams.__dataclass_fields__})
