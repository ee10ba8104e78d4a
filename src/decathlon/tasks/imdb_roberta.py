"""`imdb-roberta`: is a film review positive? A frozen RoBERTa reads it, a small MLP decides.

Network   RoBERTa, frozen -> mean over the pieces of some layers' outputs -> MLP (Liu et al. 2019, arXiv:1907.11692)
Expected  87.28 ± 0.03 % on the test split of imdb-49992 with roberta-mini (3 seeds)
Time      12 s of training on two cores of an AMD EPYC; before it, once, 23 min of reading 50,000 reviews
Command   decathlon train imdb-roberta
More      docs/tasks/imdb-roberta.md
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from decathlon import classify, encoder, metrics, plots
from decathlon.data import Data, Epoch, Source, Split, hold_out, hold_out_runs, imdb, shuffled
from decathlon.models.head import Head
from decathlon.portable import Graph, Session
from decathlon.recipe import Card, Optimizer, require
from decathlon.recipe import Recipe as BaseRecipe
from decathlon.rules import expect_shape, nothing_but, operations

CARD = Card(
    id="imdb-roberta",
    dataset="imdb",
    network="RoBERTa embeddings, frozen, then a small MLP",
    bar=0.86,
)

# --- Recipe -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """How `imdb-roberta` is trained."""

    may_be_zero = ("seed", "layers")

    encoder: str = encoder.MINI
    """The RoBERTa: roberta-mini, a folder, or a model of the hub such as FacebookAI/roberta-base."""
    length: int = 512
    """Pieces of a review that are read: half from its head, half from its tail."""
    layers: tuple[int, ...] = ()
    """Layers whose outputs are put side by side, 0 for the piece vectors; none stand for 0, the middle, the last."""
    pooling: Literal["mean", "first"] = "mean"
    """What one vector is made of: the mean over the pieces, or the first of them."""
    standardise: bool = True
    """Bring each value of the vectors to mean 0 and deviation 1."""
    hidden: tuple[int, ...] = (256,)
    """Units of the hidden layers of the MLP."""
    dropout: float = 0.5
    """Share of the values that is dropped before each of its layers."""
    epochs: int = 10
    batch_size: int = 100
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(lr=1e-3, weight_decay=1e-2))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.encoder != encoder.MINI and Path(self.encoder).is_dir():  # the run may be used from elsewhere
            object.__setattr__(self, "encoder", str(Path(self.encoder).resolve()))
        require("--dropout", self.dropout < 1, "below 1")
        require("--length", self.length > 2, "above 2: start and end are among the pieces")


def recipe() -> Recipe:
    """The recipe for IMDB."""
    return Recipe()


def sample_recipe() -> Recipe:
    """The recipe for the sample: fewer reviews, so smaller batches and more passes."""
    return replace(recipe(), batch_size=50, epochs=20)


# --- Data -------------------------------------------------------------------------------------------------------------


def load(source: Source, recipe: Recipe) -> Data:
    """Vectors float32 (N, values), labels (N,); each review is read by the encoder once, and its vector cached."""
    texts = imdb.load(source)
    asked = encoder.find(recipe.encoder, recipe.length, recipe.layers, recipe.pooling, source.download)
    if torch.cuda.is_available():
        asked.network.cuda()
    sides = []
    for side, given, labels in (("train", texts.train, texts.train_labels), ("test", texts.test, texts.test_labels)):
        if source.download:
            vectors = encoder.embedded(asked, given, source.folder, (texts.key, side), f"{side} reviews")
        else:  # nothing is to be trained, and only the sizes are asked for: reading takes minutes
            vectors = torch.zeros(len(given), asked.values)
        sides.append(Split(vectors, torch.tensor(labels)))
    train, validation = hold_out(sides[0], by_class=True) if source.kind == "own" else hold_out_runs(sides[0])
    meta = {"classes": texts.classes, "encoder": asked.name, "values": asked.values}
    return Data(texts.name, train, validation, sides[1], meta)


def batches(split: Split, recipe: Recipe, epoch: Epoch) -> Iterable[Split]:
    """Shuffled batches from memory."""
    return shuffled(split, recipe.batch_size, epoch)


# --- Model ------------------------------------------------------------------------------------------------------------


def model(
    recipe: Recipe, meta: dict[str, Any], train: Split | None = None, network: nn.Module | None = None
) -> nn.Module:
    """Vectors (N, values) -> scores (N, classes). The encoder is no part of it: it does not learn."""
    if network is not None:
        return network
    made = Head(meta["values"], recipe.hidden, recipe.dropout, len(meta["classes"]))
    if train is not None and recipe.standardise:
        made.standardise(train.inputs)
    return made


def rules(model: nn.Module, meta: dict[str, Any]) -> list[str]:
    """An MLP: two to four fully connected layers with a bend between them, and nothing else but norms and dropout."""
    example = torch.randn(2, meta["values"], device=next(model.parameters()).device)
    output, counts = operations(model, example)
    expect_shape(output, (2, len(meta["classes"])), example)
    layers = counts["fully connected"]
    broken = [] if 2 <= layers <= 4 else [f"it has {layers} fully connected layers, not two to four"]
    bends = ("ReLU", "gelu", "tanh", "silu", "leaky_relu")
    broken += [] if any(counts[bend] for bend in bends) else ["nothing bends between its layers"]
    norms = ("batch norm", "native_layer_norm", "sub", "div")
    return broken + nothing_but(counts, "fully connected", *norms, "dropout", *bends)


# --- Step -------------------------------------------------------------------------------------------------------------


def step(model: nn.Module, batch: Split, recipe: Recipe) -> dict[str, Tensor]:
    """Cross-entropy."""
    return {"loss": F.cross_entropy(model(batch.inputs), batch.targets)}


# --- Evaluate ---------------------------------------------------------------------------------------------------------


def evaluate(model: nn.Module, data: Data, split: str, recipe: Recipe) -> dict[str, float]:
    """Accuracy and cross-entropy."""
    examples: Split = getattr(data, split)
    return metrics.classification(metrics.outputs(model, examples.inputs), examples.targets)


# --- Predict ----------------------------------------------------------------------------------------------------------


def predict(model: nn.Module, inputs: list[str], recipe: Recipe, meta: dict[str, Any]) -> list[dict[str, Any]]:
    """Label and probabilities of each review: a text, a file with one a line, or - (standard input).

    Raises:
        ValueError: The encoder is not the one that the MLP was trained on, or a review is empty.
    """
    asked = encoder.written(model) if isinstance(model, Session) else trained_on(recipe, meta)
    read = model if isinstance(model, Session) else encoder.Reader(asked, model)
    found = []
    for text in (text for given in inputs for text in imdb.lines(given)):
        cleaned = imdb.clean(text)
        if not any(map(str.isalnum, cleaned)):
            raise ValueError(f"the review {text[:40]!r} holds no word")
        numbers, count = encoder.one(asked, cleaned)
        with torch.no_grad():
            answer = classify.ranked(read(numbers)[0].softmax(0).tolist(), meta["classes"])
        notes = [f"{count:,} pieces: its first and last {asked.length // 2 - 1} were read"]
        found.append({"input": text[:80], **answer, "notes": notes if count > asked.length - 2 else []})
    return found


def trained_on(recipe: Recipe, meta: dict[str, Any]) -> encoder.Encoder:
    """The encoder that the MLP was trained on. Raises ValueError where another one lies in its place."""
    asked = encoder.find(recipe.encoder, recipe.length, recipe.layers, recipe.pooling)
    if asked.name != meta["encoder"]:
        raise ValueError(f"this MLP was trained on vectors of {meta['encoder']}, but {recipe.encoder} is {asked.name}")
    return asked


def graph(model: nn.Module, recipe: Recipe, meta: dict[str, Any]) -> Graph:
    """What `export` writes: the encoder and the MLP in one."""
    return encoder.graph(encoder.Reader(trained_on(recipe, meta), model), meta["classes"])


# --- Show -------------------------------------------------------------------------------------------------------------


def show(model: nn.Module, data: Data, recipe: Recipe, folder: Path) -> None:
    """confusion.png and vectors.png, the directions in which the vectors vary most, of the validation split."""
    split, classes = data.validation, data.meta["classes"]
    plots.confusion_matrix(metrics.outputs(model, split.inputs), split.targets, classes, folder / "confusion.png")
    few = split[:: max(1, len(split) // 1000)]  # all over the split, which is in the order of the classes
    mean, deviation = split.inputs.mean(0), split.inputs.std(0).clamp(min=1e-6)
    directions = torch.linalg.svd((split.inputs - mean) / deviation, full_matrices=False).Vh[:2]  # (2, values)
    flat = ((few.inputs - mean) / deviation) @ directions.T  # (N, values) -> (N, 2)
    title = "validation vectors, the two directions of most variance"
    plots.plane(flat.cpu().numpy(), few.targets.cpu().numpy(), classes, folder / "vectors.png", title)
