"""`roberta-mlm`: pre-train a small RoBERTa on film reviews, without any label, for `imdb-roberta`.

Network   RoBERTa: 6 layers of 256, 4 heads, 8,192 tokens, 512 positions (Liu et al. 2019, arXiv:1907.11692)
Data      the training and unlabelled reviews of IMDB, not its test split; validation as in imdb-roberta
Time      433 million tokens: 3 minutes on an NVIDIA H200 (by a script); days on two CPU cores (--resume continues)
Command   decathlon train roberta-mlm
Result    an encoder in RUN/encoder, for `decathlon train imdb-roberta --encoder RUN/encoder`
More      docs/tasks/imdb-roberta.md
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from decathlon.data import imdb
from decathlon.data.base import Data, DataInfo, EpochShard, Source, Split
from decathlon.data.io import cache
from decathlon.data.transforms import ngrams, tokens
from decathlon.data.transforms.windows import Reviews, Windows, draw_windows
from decathlon.errors import require
from decathlon.evaluation import plots
from decathlon.messages import say
from decathlon.models.roberta import RobertaForPretraining
from decathlon.tasks.base import Spec
from decathlon.tasks.recipe import Optimizer
from decathlon.tasks.recipe import Recipe as BaseRecipe

SPEC = Spec(id="roberta-mlm", dataset="imdb", network="RoBERTa", metric="accuracy")
PLOTTED_WORDS = ("good", "bad", "boring", "not", "film", "actor", "music", "funny", "horror", "plot", "1950", "she")
CACHE_VERSION = "3"

# --- Recipe -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """The hyperparameters of `roberta-mlm`."""

    objective: Literal["mlm", "pair", "ngram", "score"] = "score"
    """Beside masked tokens: none (mlm), a contrastive loss (pair), n-grams (ngram), these and pseudo-labels (score)."""
    vocab_size: int = 8192
    """Vocabulary size."""
    hidden_size: int = 256
    """Embedding dimension."""
    layers: int = 6
    """Transformer layers."""
    attention_heads: int = 4
    """Attention heads of a layer."""
    max_positions: int = 512
    """Maximum length of the encoder's input, tokens."""
    row_length: int = 128
    """Tokens in most rows; others have 0.5, 2 or 4 times as many, long ones more often in the second half."""
    mask_probability: float = 0.2
    """Fraction of the tokens to predict, in whole words: of these 80 % are masked, 10 % replaced, 10 % unchanged."""
    embedding_init: Literal["lsa", "noise"] = "lsa"
    """Initial token embeddings: latent semantic analysis of the same reviews, or noise."""
    max_ngrams: int = 32768
    """Uni-, bi- and trigrams of words to predict (objectives ngram and score)."""
    ngrams_per_row: int = 96
    """N-grams sampled for each row."""
    document_weight: float = 1.0
    """Weight of the loss on the document embedding."""
    epochs: int = 19
    batch_size: int = 512
    ema: float = 0.998
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer(lr=1e-3, weight_decay=1e-2, warmup=0.04, max_grad_norm=1.0)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require("--mask-probability", 0 < self.mask_probability < 1, "above 0 and below 1")
        require("--layers", self.layers <= 100, "at most 100")
        require("--attention-heads", self.hidden_size % self.attention_heads == 0, "a divisor of --hidden-size")
        require("--row-length", 8 <= self.row_length <= self.max_positions, "from 8 to --max-positions")
        require("--vocab-size", 300 <= self.vocab_size <= 65_000, "from 300 to 65,000")
        require("--batch-size", self.batch_size >= 4, "at least 4")


def recipe() -> Recipe:
    """The recipe of `roberta-mini`."""
    return Recipe()


def sample_recipe() -> Recipe:
    """The recipe for the sample: a small vocabulary, a narrow network, short rows, a higher learning rate."""
    short = replace(recipe(), max_positions=64, row_length=16, max_ngrams=500, ngrams_per_row=16)
    short = replace(short, vocab_size=500, hidden_size=64, layers=2, epochs=6, batch_size=64, ema=0.0)
    return replace(short, optimizer=replace(short.optimizer, lr=4e-3))


# --- Data -------------------------------------------------------------------------------------------------------------


def load(source: Source, recipe: Recipe) -> Data:
    """Token ids and n-grams of the reviews, and rows of the held-out reviews; computed once and cached.

    The reviews that `imdb-roberta` holds out for validation are held out here, too: half of their rows are the
    validation split, half the test split. Labels are used for this alone.
    """
    texts = imdb.load(source)
    key = cache.make_key(
        *(CACHE_VERSION, texts.key, source.kind == "own", recipe.vocab_size, recipe.hidden_size),
        *(recipe.row_length, recipe.embedding_init, recipe.max_ngrams),
    )
    indices = held_out_indices(texts, source)
    path = source.folder / "cache" / f"imdb-tokens-{key}.npz"
    arrays = cache.load_or_make(path, lambda: prepare(texts, recipe, indices))
    train = Reviews.from_arrays(arrays, recipe.row_length)
    rows = torch.from_numpy(arrays["rows"].astype(np.int64))
    validation, test = (Split(rows[part::2], rows[part::2]) for part in (0, 1))
    return Data(texts.name, train, validation, test, DataInfo(tokenizer=str(arrays["tokenizer"])))


def held_out_indices(texts: imdb.Texts, source: Source) -> list[int]:
    """Indices of the training reviews that `imdb-roberta` holds out for validation."""
    split = Split(torch.arange(len(texts.train)), torch.tensor(texts.train_labels))
    return imdb.divide_training(texts, split, source)[1].inputs.tolist()


def prepare(texts: imdb.Texts, recipe: Recipe, held_out: list[int]) -> dict[str, np.ndarray]:
    """Train the tokenizer, encode the reviews, find their n-grams, compute the initial embeddings."""
    say("training the tokenizer and encoding the reviews (once; cached)")
    excluded = set(held_out)
    reviews = [text for index, text in enumerate(texts.train) if index not in excluded] + texts.unlabelled
    tokenizer = tokens.train_tokenizer(reviews, recipe.vocab_size)
    encoded = tokens.encode(tokenizer, reviews)
    rows = tokens.cut_rows(tokens.encode(tokenizer, [texts.train[i] for i in held_out]), recipe.row_length)
    embeddings = np.zeros((0, recipe.hidden_size), np.float32)
    if recipe.embedding_init == "lsa":
        embeddings = tokens.lsa_embeddings(encoded, recipe.vocab_size, recipe.hidden_size)
    offsets = np.cumsum([0, *map(len, encoded)])
    flat = np.concatenate([np.array(review, np.int64) for review in encoded])
    table = ngrams.find_ngrams(torch.from_numpy(flat), torch.from_numpy(offsets), tokenizer, recipe.max_ngrams)
    return {
        **{"tokens": flat.astype(np.uint16), "offsets": offsets, "rows": rows, "embeddings": embeddings},
        **{"tokenizer": np.array(tokenizer.to_str()), **tokens.word_tables(tokenizer), **ngrams.to_arrays(table)},
    }


def batches(split: Split, recipe: Recipe, epoch: EpochShard) -> Iterable[Split]:
    """Windows of reviews, sampled in proportion to the reviews' lengths; those of a batch have the same length."""
    reviews, late = cast(Reviews, split), 2 * epoch.number >= recipe.epochs
    options: dict[str, Any] = {"pairs": recipe.objective == "pair"}
    if recipe.objective in ("ngram", "score"):
        polarity = reviews.ngrams.polarity if recipe.objective == "score" else 1
        options |= {"weights": reviews.ngrams.keep * polarity, "draws": recipe.ngrams_per_row}
    return draw_windows(reviews, epoch, recipe.batch_size, recipe.max_positions, late, **options)


# --- Model ------------------------------------------------------------------------------------------------------------


def model(recipe: Recipe, info: DataInfo, train: Split | None = None, network: nn.Module | None = None) -> nn.Module:
    """Token ids (N, L), and masked, bool (N, L) -> `PretrainingOutput`."""
    assert network is None, "the command refuses --model"
    network = RobertaForPretraining(
        *(recipe.vocab_size, recipe.hidden_size, recipe.layers, recipe.attention_heads, recipe.max_positions),
        n_ngrams=recipe.max_ngrams if recipe.objective in ("ngram", "score") else 0,
        sentiment_head=recipe.objective == "score",
    )
    if isinstance(train, Reviews):
        token_counts = torch.bincount(train.inputs.long(), minlength=recipe.vocab_size)
        network.initialise(token_counts, (train.ngrams.counts * train.ngrams.keep).cpu(), train.embeddings)
    return network


def check_architecture(model: nn.Module, info: DataInfo) -> list[str]:
    """No violations: the network is always the task's own."""
    return []


# --- Training loss ----------------------------------------------------------------------------------------------------


def training_loss(model: nn.Module, batch: Split, recipe: Recipe) -> dict[str, Tensor]:
    """Cross-entropy of the masked tokens, and depending on the objective a loss on the document embedding."""
    windows = cast(Windows, batch)
    corrupted, masked = mask_words(windows, recipe, None)
    output = model(corrupted, masked)
    mlm = F.cross_entropy(output.token_logits.float(), windows.targets[masked])
    if recipe.objective == "mlm":
        return {"loss": mlm}
    document = contrast(output.document) if recipe.objective == "pair" else ngram_loss(output.ngram_logits, windows)
    if recipe.objective == "score":
        labels = windows.pseudo_labels  # from -1 to 1: the sign is the class
        document = document + (labels.abs() * F.softplus(-labels.sign() * output.sentiment_logits.float())).mean()
    return {"loss": mlm + recipe.document_weight * document, "mlm": mlm, "document": document}


def mask_words(windows: Windows, recipe: Recipe, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Mask whole words (Devlin et al. 2019, section 3.1): corrupted token ids (N, L), and which to predict (N, L)."""
    target = windows.targets
    device, shape = target.device, target.shape
    options: Any = {"generator": generator, "device": device if generator is None else generator.device}
    draw, kind = (torch.rand(shape, **options).to(device) for _ in range(2))
    random_ids = torch.randint(len(tokens.SPECIAL_TOKENS), recipe.vocab_size, shape, **options).to(device)
    draw = draw.gather(1, windows.words)  # the same draw for all tokens of a word
    masked = (draw < recipe.mask_probability) & (target >= len(tokens.SPECIAL_TOKENS))
    corrupted = target.masked_fill(masked & (kind < 0.8), tokens.MASK)
    return torch.where(masked & (kind >= 0.9), random_ids, corrupted), masked


def ngram_loss(logits: Tensor, windows: Windows) -> Tensor:
    """Weighted cross-entropy of n-grams sampled from the rest of the review; logits (N, n_ngrams)."""
    log_probabilities = logits.float().log_softmax(1).gather(1, windows.ngram_ids)
    return -(windows.ngram_weights * log_probabilities).sum() / windows.ngram_weights.sum().clamp(min=1e-6)


def contrast(document: Tensor, temperature: float = 0.05) -> Tensor:
    """InfoNCE (DeCLUTR, Giorgi et al. 2021, section 3.1): rows i and N + i of `document` (2 N, d) are a pair."""
    first, second = F.normalize(document, dim=1).chunk(2)
    similarity, labels = first @ second.T / temperature, torch.arange(len(first), device=document.device)
    return (F.cross_entropy(similarity, labels) + F.cross_entropy(similarity.T, labels)) / 2


# --- Evaluate ---------------------------------------------------------------------------------------------------------


def evaluate(model: nn.Module, data: Data, split: str, recipe: Recipe) -> dict[str, float]:
    """Accuracy and cross-entropy of masked tokens; the masks are the same in every epoch."""
    rows: Split = getattr(data, split)
    generator, train = torch.Generator().manual_seed(0), cast(Reviews, data.train)
    loss = correct = count = 0.0
    for start in range(0, len(rows), 64):
        windows = train.as_windows(rows.targets[start : start + 64])
        corrupted, masked = mask_words(windows, recipe, generator)
        logits, targets = model(corrupted, masked).token_logits.float(), windows.targets[masked]
        loss += F.cross_entropy(logits, targets, reduction="sum").item()
        correct += (logits.argmax(1) == targets).sum().item()
        count += len(targets)
    return {"accuracy": correct / max(1, count), "loss": loss / max(1, count)}


# --- Plots ------------------------------------------------------------------------------------------------------------


def plot_validation(model: nn.Module, data: Data, recipe: Recipe, folder: Path) -> None:
    """neighbours.png: for some words, the tokens with the most similar embeddings."""
    embeddings = cast(RobertaForPretraining, model).encoder.embeddings.word_embeddings.weight
    plots.nearest_tokens(embeddings, Tokenizer.from_str(data.info.tokenizer), PLOTTED_WORDS, folder / "neighbours.png")
