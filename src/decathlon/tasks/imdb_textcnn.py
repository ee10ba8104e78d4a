"""`imdb-textcnn`: is a film review positive? Convolutions over word vectors.

Network   word vectors -> convolutions 1, 2 and 3 words wide -> max over time -> fully connected (Kim 2014)
Expected  89.85 ± 0.06 % on the test split of imdb-49992 (3 seeds)
Time      143 s of training on two cores of an AMD EPYC; validation passes the bar, 87 %, after 29 s
Command   decathlon train imdb-textcnn
More      docs/tasks/imdb-textcnn.md
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from decathlon import classify, metrics, plots
from decathlon.data import Data, Epoch, Source, Split, cache, hold_out, imdb, say, steps_per_epoch, words
from decathlon.models.textcnn import TextCNN, Told, cut
from decathlon.portable import Graph, Session
from decathlon.recipe import Card, Optimizer, require
from decathlon.recipe import Recipe as BaseRecipe
from decathlon.rules import at_least_one, exactly, expect_shape, operations

CARD = Card(
    id="imdb-textcnn",
    dataset="imdb",
    network="TextCNN: convolutions over word vectors, max over time, fully connected",
    bar=0.87,
)

# --- Recipe -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """How `imdb-textcnn` is trained."""

    may_be_zero = ("seed", "vector_epochs")

    vocabulary: int = 30_000
    """Most words that have a vector of their own."""
    least: int = 5
    """Times a word must occur to have one."""
    length: int = 400
    """Words of a review that are read: half from its head, half from its tail."""
    vector: int = 128
    """Values in a word vector."""
    vector_epochs: int = 8
    """Passes of word2vec over the training and unlabelled reviews; 0 starts from noise."""
    widths: tuple[int, ...] = (1, 2, 3)
    """Words that a filter sees at once."""
    filters: int = 150
    """Filters of each width."""
    dropout: float = 0.5
    """Share of the filters' answers that is dropped."""
    word_dropout: float = 0.3
    """Share of the words that is made unknown."""
    epochs: int = 5
    batch_size: int = 50
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(lr=3e-3, weight_decay=1e-2))

    def __post_init__(self) -> None:
        super().__post_init__()
        require("--dropout", self.dropout < 1, "below 1")
        require("--word-dropout", self.word_dropout < 1, "below 1")


def recipe() -> Recipe:
    """The recipe for IMDB."""
    return Recipe()


def sample_recipe() -> Recipe:
    """The recipe for the sample: short reviews, few words."""
    return replace(
        recipe(), least=1, length=60, vector=32, filters=32, word_dropout=0.02, epochs=8, optimizer=Optimizer(lr=5e-3)
    )


# --- Data -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reviews(Split):
    """Word numbers int32 (N, length), labels (N,), and the vectors the words start from, (words + 2, vector)."""

    vectors: Tensor


def load(source: Source, recipe: Recipe) -> Data:
    """Reviews as word numbers; splitting, the vocabulary and the vectors are made once and cached."""
    texts = imdb.load(source)
    recipe_part = [recipe.vocabulary, recipe.least, recipe.length, recipe.vector, recipe.vector_epochs]
    cached = source.folder / "cache" / f"imdb-words-{cache.key(texts.key, *recipe_part)}.npz"
    arrays = cache.arrays(cached, lambda: make_words(texts, recipe))
    tokens = {part: torch.from_numpy(arrays[part]) for part in ("train", "test")}
    labelled = Reviews(tokens["train"], torch.tensor(texts.train_labels), torch.from_numpy(arrays["vectors"]))
    train, validation = hold_out(labelled, by_class=source.kind == "own")
    meta = {"classes": texts.classes, "words": arrays["words"].tolist()}
    return Data(texts.name, train, validation, Split(tokens["test"], torch.tensor(texts.test_labels)), meta)


def make_words(texts: imdb.Texts, recipe: Recipe) -> dict[str, np.ndarray]:
    """Split the reviews into words, choose the vocabulary, train the vectors: the last two without the test reviews."""
    say("splitting the reviews into words and training word vectors (once; cached)")
    train, test, more = ([words.split(text) for text in part] for part in (texts.train, texts.test, texts.unlabelled))
    known = words.vocabulary([*train, *more], recipe.vocabulary, recipe.least)
    table = words.vectors([*train, *more], known, recipe.vector, recipe.vector_epochs)
    rows = {name: words.encode(part, known, recipe.length) for name, part in (("train", train), ("test", test))}
    return {"words": np.array(known), "vectors": table, **rows}


def batches(split: Split, recipe: Recipe, epoch: Epoch) -> Iterator[Split]:
    """Shuffled batches of reviews of about one length, so that little is computed on what is no word."""
    generator = epoch.generator()
    order = torch.randperm(len(split), generator=generator)
    count, size = steps_per_epoch(split, recipe.batch_size), recipe.batch_size
    lengths = (split.inputs != words.PAD).sum(1).cpu()[order]
    pools = torch.arange(len(order)) // (50 * size)  # sorted within pools of 50 batches, so that batches still vary
    order = order[(pools * (recipe.length + 1) + lengths).argsort(stable=True)]
    for number in torch.randperm(count, generator=generator).tolist()[epoch.start :]:
        chunk = order[number * size : (number + 1) * size]
        yield split[chunk[epoch.rank :: epoch.world].to(split.targets.device)]


# --- Model ------------------------------------------------------------------------------------------------------------


def model(
    recipe: Recipe, meta: dict[str, Any], train: Split | None = None, network: nn.Module | None = None
) -> nn.Module:
    """Word numbers (N, length), zeros after the last word -> scores (N, classes)."""
    if network is not None:
        return network
    size = len(meta["words"]) + 2  # and one row each for no word and for unknown words
    made = TextCNN(size, recipe.vector, recipe.widths, recipe.filters, recipe.dropout, len(meta["classes"]))
    if isinstance(train, Reviews) and recipe.vector_epochs:
        made.vectors.weight.data.copy_(train.vectors)
    return made


def rules(model: nn.Module, meta: dict[str, Any]) -> list[str]:
    """Word vectors, two convolutions or more, one maximum over time each, one fully connected layer."""
    device, known = next(model.parameters()).device, len(meta["words"])  # numbered from 2
    example = torch.randint(2, known + 2, (2, 40), device=device, dtype=torch.int32)
    output, counts = operations(model, example)
    expect_shape(output, (2, len(meta["classes"])), example)
    broken = exactly(counts, fully_connected=1) + at_least_one(counts, "embedding", "convolution", "maximum")
    return broken + (["it has one convolution only"] if counts["convolution"] == 1 else [])


# --- Step -------------------------------------------------------------------------------------------------------------


def step(model: nn.Module, batch: Split, recipe: Recipe) -> dict[str, Tensor]:
    """Cross-entropy on reviews some of whose words are made unknown."""
    tokens = batch.inputs
    hidden = (torch.rand(tokens.shape) < recipe.word_dropout).to(tokens.device) & (tokens != words.PAD)
    return {"loss": F.cross_entropy(model(tokens.masked_fill(hidden, words.UNKNOWN)), batch.targets)}


# --- Evaluate ---------------------------------------------------------------------------------------------------------


def evaluate(model: nn.Module, data: Data, split: str, recipe: Recipe) -> dict[str, float]:
    """Accuracy and cross-entropy."""
    examples: Split = getattr(data, split)
    return metrics.classification(scores(model, examples), examples.targets)


def scores(model: nn.Module, split: Split) -> Tensor:
    """Scores (N, classes), computed in the order of length, a hundred reviews at a time."""
    order = (split.inputs != words.PAD).sum(1).argsort(stable=True)
    found = metrics.outputs(model, split.inputs[order], batch=100)
    return torch.empty_like(found).index_copy_(0, order, found)


# --- Predict ----------------------------------------------------------------------------------------------------------


def predict(model: nn.Module, inputs: list[str], recipe: Recipe, meta: dict[str, Any]) -> list[dict[str, Any]]:
    """Label, probabilities and deciding words of each review: a text, a file with one a line, or - (standard input)."""
    return [answer(model, text, recipe, meta) for given in inputs for text in imdb.lines(given)]


def answer(model: nn.Module, text: str, recipe: Recipe, meta: dict[str, Any]) -> dict[str, Any]:
    """One review's answer. Raises ValueError where it holds no word."""
    found, notes = words.split(imdb.clean(text)), []
    if not found:
        raise ValueError(f"the review {text[:40]!r} holds no word")
    if len(found) > recipe.length:
        notes.append(f"{len(found):,} words: its first and last {recipe.length // 2} were read")
    tokens = torch.from_numpy(words.encode([found], meta["words"], recipe.length))
    if (tokens <= words.UNKNOWN).all():
        notes.append("none of its words is known: the answer is a guess")
    scores, spoken = told(model, tokens)
    ranked = classify.ranked(scores[0].softmax(0).tolist(), meta["classes"])
    kept = words.head_and_tail(found, recipe.length)
    parts = because(spoken[0, meta["classes"].index(ranked["label"])], kept)
    return {"input": text[:80], **ranked, "notes": notes, "because": parts}


def told(model: nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of texts (N, L), and how much each word spoke for each class: zeros for a network that does not tell."""
    if isinstance(model, Session):
        tokens = cut(tokens, model.told("least"))
    with torch.no_grad():
        found = model.told(tokens) if isinstance(model, TextCNN) else model(tokens)
    return found if isinstance(found, tuple) else (found, torch.zeros(*found.shape, tokens.shape[1]))


def because(spoken: Tensor, shown: list[str]) -> list[tuple[str, float]]:
    """Each word of a text with how much it spoke for a label (L,)."""
    return [(word, round(weight, 3)) for word, weight in zip(shown, spoken.tolist(), strict=False)]


def graph(model: nn.Module, recipe: Recipe, meta: dict[str, Any]) -> Graph:
    """What `export` writes: the network, and which words decided."""
    ours = isinstance(model, TextCNN)  # of the user's own we know only that it takes whole rows
    least = max(recipe.widths) if ours else recipe.length
    example = torch.full((2, max(9, least)), words.UNKNOWN, dtype=torch.int32)
    outputs = ("scores", "words") if ours else ("scores",)
    axes = {0: "batch", 1: "length"} if ours else {0: "batch"}
    facts = words.facts(recipe.length, least) | {"labels": meta["classes"]}
    return Graph(Told(model) if isinstance(model, TextCNN) else model, example, "numbers", outputs, axes, facts)


# --- Show -------------------------------------------------------------------------------------------------------------


def show(model: nn.Module, data: Data, recipe: Recipe, folder: Path) -> None:
    """confusion.png and texts.json, the most confident mistakes word by word, of the validation split."""
    split, classes, known = data.validation, data.meta["classes"], data.meta["words"]
    found = scores(model, split)
    plots.confusion_matrix(found, split.targets, classes, folder / "confusion.png")
    texts = []
    for index, label, probability in metrics.worst(found, split, 8):
        tokens = split.inputs[index : index + 1]
        shown = [known[token - 2] if token > words.UNKNOWN else "…" for token in tokens[0].tolist() if token]
        title = f"{classes[int(split.targets[index])]}, not {classes[label]} ({100 * probability:.0f} %)"
        texts.append({"title": title, "parts": because(told(model, tokens)[1][0, label], shown)})
    (folder / "texts.json").write_text(json.dumps(texts))
