"""`pretrain imdb-roberta`: a small RoBERTa learns to fill in hidden pieces of film reviews, without any label.

Network   RoBERTa: 4 layers of 256, 4 heads, 8,192 pieces, 512 positions (Liu et al. 2019, arXiv:1907.11692)
Data      the training and the unlabelled reviews of IMDB, never the test reviews; 2 % of the rows are held out
Command   decathlon pretrain imdb-roberta
Leaves    a run folder whose `encoder` goes into `decathlon train imdb-roberta --encoder RUN/encoder`
More      docs/tasks/imdb-roberta.md
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from decathlon import plots
from decathlon.data import Data, Epoch, Source, Split, cache, imdb, pieces, say, shuffled
from decathlon.models.roberta import MaskedLM
from decathlon.recipe import Card, Optimizer, require
from decathlon.recipe import Recipe as BaseRecipe

CARD = Card(id="imdb-roberta-pretraining", dataset="imdb", network="RoBERTa", metric="accuracy")
WORDS = ("good", "bad", "boring", "not", "film", "actor", "music", "funny", "horror", "plot", "1950", "she")

# --- Recipe -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """How the encoder of `imdb-roberta` is pre-trained."""

    vocabulary: int = 8192
    """Pieces of words."""
    hidden: int = 256
    """Values in a piece's vector."""
    layers: int = 4
    """Transformer layers."""
    heads: int = 4
    """Attention heads of a layer."""
    positions: int = 512
    """Pieces of a text that the encoder can take."""
    row: int = 128
    """Pieces in a row of training. The first has a drawn position, so that later ones are learned, too."""
    part: float = 0.5
    """Share of all rows that is read, the first of a drawn order; 1 takes twice the time."""
    masked: float = 0.3
    """Share of the pieces to guess: of those 80 % are hidden, 10 % another piece, 10 % left."""
    start: Literal["topics", "noise"] = "topics"
    """What the piece vectors start from: latent semantic analysis of the same reviews, or noise."""
    epochs: int = 1
    batch_size: int = 32
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(lr=1e-3, weight_decay=1e-2, warmup=0.05, clip=1.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        require("--masked", 0 < self.masked < 1, "above 0 and below 1")
        require("--part", 0 < self.part <= 1, "above 0, at most 1")
        require("--layers", self.layers <= 100, "at most 100")
        require("--heads", self.hidden % self.heads == 0, "a divisor of --hidden")
        require("--row", self.row <= self.positions, "at most --positions")
        require("--vocabulary", 300 <= self.vocabulary <= 65_000, "from 300 to 65,000")


def recipe() -> Recipe:
    """The recipe of `roberta-mini`."""
    return Recipe()


def sample_recipe() -> Recipe:
    """The recipe for the sample: few pieces, a narrow network, a higher rate."""
    small = replace(recipe(), part=1.0, vocabulary=500, hidden=64, layers=2, positions=64, row=32, epochs=4)
    return replace(small, optimizer=replace(small.optimizer, lr=4e-3))


# --- Data -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows(Split):
    """Pieces int32 (N, row), twice: what is read and what is to be guessed; and start vectors (vocabulary, hidden)."""

    vectors: Tensor


def load(source: Source, recipe: Recipe) -> Data:
    """Rows of pieces; choosing the pieces and their start vectors is done once and cached."""
    texts = imdb.load(source)
    name = cache.key(texts.key, recipe.vocabulary, recipe.hidden, recipe.row, recipe.start, "1")
    found = cache.arrays(source.folder / "cache" / f"imdb-pieces-{name}.npz", lambda: make_rows(texts, recipe))
    rows, vectors = torch.from_numpy(found["rows"].astype(np.int32)), torch.from_numpy(found["vectors"])
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    count = max(1, len(rows) // 100)
    learned = max(1, round(recipe.part * (len(rows) - 2 * count)))
    parts = (order[2 * count :][:learned], order[:count], order[count : 2 * count])
    train, validation, test = (Rows(rows[part], rows[part], vectors) for part in parts)
    return Data(texts.name, train, validation, test, {"tokenizer": str(found["tokenizer"])})


def make_rows(texts: imdb.Texts, recipe: Recipe) -> dict[str, np.ndarray]:
    """Choose the pieces, split the reviews into them, make the start vectors: all without the test reviews."""
    say("choosing pieces and splitting the reviews into them (once; cached)")
    reviews = [*texts.train, *texts.unlabelled]
    tokenizer = pieces.choose(reviews, recipe.vocabulary)
    split = pieces.numbers(tokenizer, reviews)
    if recipe.start == "topics":
        vectors = pieces.topics(split, recipe.vocabulary, recipe.hidden)
    else:
        vectors = np.zeros((0, recipe.hidden), np.float32)
    return {
        "rows": pieces.packed(split, recipe.row),
        "vectors": vectors,
        "tokenizer": np.array(tokenizer.to_str()),
    }


def batches(split: Split, recipe: Recipe, epoch: Epoch) -> Iterable[Split]:
    """Shuffled batches from memory."""
    return shuffled(split, recipe.batch_size, epoch)


# --- Model ------------------------------------------------------------------------------------------------------------


def model(
    recipe: Recipe, meta: dict[str, Any], train: Split | None = None, network: nn.Module | None = None
) -> nn.Module:
    """Pieces (N, row), first positions (N,), chosen places bool (N, row), M in all -> scores (M, vocabulary)."""
    assert network is None, "the command refuses --model"
    made = MaskedLM(recipe.vocabulary, recipe.hidden, recipe.layers, recipe.heads, recipe.positions)
    if isinstance(train, Rows):
        counts = torch.bincount(train.targets[:100_000].flatten(), minlength=recipe.vocabulary) + 1.0
        made.bias.data.copy_((counts / counts.sum()).log())  # the first guess is how frequent each piece is
        if len(train.vectors):
            made.encoder.embeddings.word_embeddings.weight.data.copy_(train.vectors)
    return made


def rules(model: nn.Module, meta: dict[str, Any]) -> list[str]:
    """None: the file makes the network itself."""
    return []


# --- Step -------------------------------------------------------------------------------------------------------------


def step(model: nn.Module, batch: Split, recipe: Recipe) -> dict[str, Tensor]:
    """Cross-entropy of the guesses."""
    scores, wanted = guess(model, batch, recipe, None)
    return {"loss": F.cross_entropy(scores, wanted)}


def guess(model: nn.Module, batch: Split, recipe: Recipe, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Hide pieces (Devlin et al. 2019, section 3.1) and guess them: scores (M, vocabulary), and what is right (M,)."""
    target, device = batch.targets.long(), batch.targets.device
    draw, kind = (torch.rand(target.shape, generator=generator).to(device) for _ in range(2))
    other = torch.randint(len(pieces.SPECIAL), recipe.vocabulary, target.shape, generator=generator).to(device)
    first = torch.randint(recipe.positions - target.shape[1] + 1, target.shape[:1], generator=generator).to(device)
    chosen = draw < recipe.masked
    shown = target.masked_fill(chosen & (kind < 0.8), pieces.MASK)
    shown = torch.where(chosen & (kind >= 0.9), other, shown)
    return model(shown, first, chosen).float(), target[chosen]


# --- Evaluate ---------------------------------------------------------------------------------------------------------


def evaluate(model: nn.Module, data: Data, split: str, recipe: Recipe) -> dict[str, float]:
    """Accuracy and cross-entropy of guessing pieces that are hidden by a fixed draw, so that epochs can be compared."""
    rows, generator = getattr(data, split), torch.Generator().manual_seed(0)
    loss = right = count = 0.0
    for start in range(0, len(rows), 64):
        scores, wanted = guess(model, rows[start : start + 64], recipe, generator)
        loss += F.cross_entropy(scores, wanted, reduction="sum").item()
        right += (scores.argmax(1) == wanted).sum().item()
        count += len(wanted)
    return {"accuracy": right / count, "loss": loss / count}


# --- Show -------------------------------------------------------------------------------------------------------------


def show(model: nn.Module, data: Data, recipe: Recipe, folder: Path) -> None:
    """neighbours.png: for some words, whole pieces, which others have the most similar vectors."""
    tokenizer = Tokenizer.from_str(data.meta["tokenizer"])
    assert isinstance(model, MaskedLM)
    table = F.normalize(model.encoder.embeddings.word_embeddings.weight.float(), dim=1)  # (vocabulary, hidden)
    lines = []
    for word in WORDS:
        number = tokenizer.token_to_id(f"Ġ{word}")
        if number is not None:
            near = (tokenizer.decode([i]).strip() for i in (table @ table[number]).topk(20).indices[1:].tolist())
            lines.append((word, ", ".join([piece for piece in near if piece.isalnum()][:8])))
    plots.lines(lines, "pieces and their nearest neighbours", folder / "neighbours.png")
