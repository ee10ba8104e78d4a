"""Texts as token ids, as RoBERTa reads them: a tokenizer, rows for pre-training, and initial token embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")  # ids from 0, the first four as in RoBERTa
BOS, PAD, EOS, UNK, MASK = range(5)
EMBEDDING_STD = 0.05  # standard deviation of the values of an initial embedding


def train_tokenizer(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """Byte-level byte-pair encoding (Radford et al. 2019, section 2.2) in lower case, learned from these texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", EOS), ("<s>", BOS))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The token ids of each text, without start and end; a text that spells a special token does not become one."""
    tokenizer.encode_special_tokens = True
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


def word_tables(tokenizer: Tokenizer) -> dict[str, np.ndarray]:
    """What each token says of the words of a text: three arrays bool (vocabulary,).

    Returns:
        `starts`: it begins a word or a punctuation mark; `ends`: it ends with a letter or a digit, so that the next
        token may go on with the word; `is_word`: it holds a letter or a digit.
    """
    size = tokenizer.get_vocab_size()
    starts, ends, is_word = np.ones(size, bool), np.zeros(size, bool), np.zeros(size, bool)

    def is_letter(character: str) -> bool:
        return character.isalnum() or character == "\ufffd"  # part of a character's bytes

    for token_id in range(len(SPECIAL_TOKENS), size):
        text = tokenizer.decode([token_id]).strip(" ")
        starts[token_id] = (tokenizer.id_to_token(token_id) or "").startswith("Ġ") or not (text and is_letter(text[0]))
        ends[token_id] = bool(text) and is_letter(text[-1])
        is_word[token_id] = any(map(is_letter, text)) or text == "/"  # of marks like 7/10
    return {"starts": starts, "ends": ends, "is_word": is_word}


def cut_rows(reviews: Sequence[Sequence[int]], row_length: int) -> np.ndarray:
    """Rows of token ids, uint16 (N, row_length), each from one review with start and end around; rests are dropped."""
    width = row_length - 2
    rows = [
        [BOS, *review[first : first + width], EOS]
        for review in reviews
        for first in range(0, len(review) - width + 1, width)
    ]
    if len(rows) < 2:
        raise ValueError(f"these texts give {len(rows)} rows of {row_length} tokens, less than two")
    return np.array(rows, np.uint16)


def lsa_embeddings(reviews: Sequence[Sequence[int]], vocab_size: int, hidden_size: int) -> np.ndarray:
    """Token embeddings by latent semantic analysis (Deerwester et al. 1990): tokens of like reviews are alike.

    Counts are damped by their logarithm and weighted by inverse document frequency, reviews normalised. Each embedding
    is brought to mean 0 and deviation `EMBEDDING_STD`, since RoBERTa's first norm removes its length anyway.

    Returns:
        float32 (vocab_size, hidden_size); where the texts give fewer directions, the rest is small noise.
    """
    from scipy.sparse import csr_matrix, diags
    from sklearn.decomposition import TruncatedSVD

    ends = np.cumsum([0] + [len(review) for review in reviews])
    flat = np.concatenate([np.array(review, np.int64) for review in reviews])
    counts = csr_matrix((np.ones(len(flat), np.float32), flat, ends), shape=(len(reviews), vocab_size))
    counts.sum_duplicates()
    rarity = np.log((len(reviews) + 1) / (np.bincount(counts.indices, minlength=vocab_size) + 1))
    counts.data = np.log1p(counts.data)
    weighted = counts @ diags(rarity.astype(np.float32))
    lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(1))[:, 0])
    weighted = diags((1 / np.maximum(lengths, 1e-6)).astype(np.float32)) @ weighted
    svd = TruncatedSVD(min(hidden_size, min(weighted.shape) - 1), n_iter=4, random_state=0).fit(weighted)
    embeddings = np.random.default_rng(0).normal(0, 1e-3, (vocab_size, hidden_size)).astype(np.float32)
    embeddings[:, : len(svd.components_)] += svd.components_.T * np.sqrt(svd.singular_values_)
    embeddings -= embeddings.mean(1, keepdims=True)
    return EMBEDDING_STD * embeddings / np.maximum(embeddings.std(1, keepdims=True), 1e-9)
