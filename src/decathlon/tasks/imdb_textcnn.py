"""`imdb-textcnn`: is a film review positive? Convolutions over word embeddings.

Network   word embeddings -> convolutions of kernel sizes 1, 2, 3 -> max over time -> fully connected (Kim 2014)
Expected  91.61 ± 0.02 % on the test split of imdb-49992 (3 seeds)
Time      43 min of training on one core of an AMD EPYC; before it, once, 73 min for word2vec and the teachers
Command   decathlon train imdb-textcnn
More      docs/tasks/imdb-textcnn.md
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from decathlon.data import imdb, soft_labels
from decathlon.data.base import Data, DataInfo, EpochShard, Source, Split, steps_per_epoch
from decathlon.data.io import cache
from decathlon.data.transforms import words
from decathlon.errors import require
from decathlon.evaluation import attributions, metrics
from decathlon.evaluation.architecture import at_least_one, exactly, expect_shape, operations
from decathlon.evaluation.onnx_graph import OnnxGraph
from decathlon.evaluation.predictions import TextClassification
from decathlon.models.textcnn import TextCNN, WithAttributions
from decathlon.tasks.base import Spec
from decathlon.tasks.recipe import Optimizer
from decathlon.tasks.recipe import Recipe as BaseRecipe

SPEC = Spec(
    id="imdb-textcnn",
    dataset="imdb",
    network="TextCNN: convolutions over word vectors, max over time, fully connected",
    bar=0.87,
)

# --- Recipe -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """The hyperparameters of `imdb-textcnn`."""

    may_be_zero = ("seed", "embedding_epochs")

    unlabelled: str = ""
    """File of more texts without a label: one a line, or the column text of a CSV or JSON-lines file."""
    teachers: tuple[str, ...] = (soft_labels.NGRAMS, "roberta-mini")
    """Linear models that label the unlabelled texts: on ngrams, or on the embeddings of an encoder (name or folder)."""
    sharpness: float = 1.5
    """Factor of the teachers' logits (of unit deviation) before the softmax; the higher, the surer the soft labels."""
    vocab_size: int = 30_000
    """Maximum size of the vocabulary."""
    min_count: int = 5
    """Minimum count of a word in the vocabulary."""
    max_length: int = 400
    """Maximum length of a review in words: of longer ones the head and tail, half of it each."""
    embedding_dim: int = 128
    """Embedding dimension."""
    embedding_epochs: int = 8
    """Epochs of word2vec on the training and unlabelled reviews; 0 for random embeddings."""
    kernel_sizes: tuple[int, ...] = (1, 2, 3)
    """Kernel sizes of the convolutions."""
    filters: int = 200
    """Filters of each kernel size."""
    dropout: float = 0.5
    """Dropout probability."""
    word_dropout: float = 0.4
    """Word dropout: probability that a word is replaced by the unknown token."""
    epochs: int = 5
    batch_size: int = 50
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(lr=3e-3, weight_decay=1e-2))

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "unlabelled", self.unlabelled and str(Path(self.unlabelled).resolve()))
        object.__setattr__(self, "teachers", tuple(soft_labels.absolute_name(name) for name in self.teachers))
        require("--dropout", self.dropout < 1, "below 1")
        require("--word-dropout", self.word_dropout < 1, "below 1")


def recipe() -> Recipe:
    """The recipe for IMDB."""
    return Recipe()


def sample_recipe() -> Recipe:
    """The recipe for the sample: short reviews, a small vocabulary."""
    return replace(
        recipe(),
        teachers=(soft_labels.NGRAMS,),
        min_count=1,
        max_length=60,
        embedding_dim=32,
        filters=32,
        word_dropout=0.02,
        epochs=8,
        optimizer=Optimizer(lr=5e-3),
    )


# --- Data -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reviews(Split):
    """Token ids int32 (N, length), targets (N,) or (N, num_classes), initial embeddings (num_tokens, embedding_dim)."""

    vectors: Tensor


def load(source: Source, recipe: Recipe) -> Data:
    """Reviews as token ids; vocabulary, word2vec and soft labels are computed once and cached.

    The training split has the labelled reviews that are not held out, then the unlabelled ones with soft labels.
    """
    labelled = imdb.load(source)
    texts = imdb.add_unlabelled(labelled, Path(recipe.unlabelled)) if recipe.unlabelled else labelled
    indices = Split(torch.arange(len(texts.train)), torch.tensor(texts.train_labels))
    train, validation = imdb.divide_training(texts, indices, source)
    sizes = recipe.vocab_size, recipe.min_count, recipe.max_length, recipe.embedding_dim, recipe.embedding_epochs
    path = source.folder / "cache" / f"imdb-words-{cache.make_key(texts.key, source.kind, *sizes)}.npz"
    arrays = cache.load_or_make(path, lambda: words.tokenize(vars(texts), train.inputs.tolist(), *sizes))
    rows = {part: torch.from_numpy(arrays[part]) for part in ("train", "test", "unlabelled")}
    inputs, targets, teachers, seconds = rows["train"][train.inputs], train.targets, [], float(arrays["seconds"])
    if recipe.teachers and texts.unlabelled:
        logits = torch.zeros(len(texts.unlabelled), len(texts.classes))
        if source.for_training:
            split = train.inputs.numpy(), validation.inputs.numpy()
            soft = soft_labels.label_cached(recipe.teachers, texts, split, source.folder, labelled.key)
            logits = torch.from_numpy(soft["logits"])  # (N, num_classes)
            teachers, seconds = soft["teachers"].tolist(), seconds + float(soft["seconds"])
        targets = torch.cat([F.one_hot(targets, len(texts.classes)).float(), (recipe.sharpness * logits).softmax(1)])
        inputs = torch.cat([inputs, rows["unlabelled"]])
    reviews = Reviews(inputs, targets, torch.from_numpy(arrays["vectors"]))
    held_out, test = rows["train"][validation.inputs], Split(rows["test"], torch.tensor(texts.test_labels))
    info = DataInfo(texts.classes, vocabulary=arrays["words"].tolist(), teachers=teachers)
    return Data(texts.name, reviews, Split(held_out, validation.targets), test, info, seconds)


def batches(split: Split, recipe: Recipe, epoch: EpochShard) -> Iterator[Split]:
    """Shuffled batches of reviews of similar length, for little padding."""
    generator = epoch.generator()
    count, size = steps_per_epoch(split, recipe.batch_size), recipe.batch_size
    order = torch.randperm(len(split), generator=generator)[: count * size]  # before sorting: any may be left out
    lengths = (split.inputs != words.PAD).sum(1).cpu()[order]
    pools = torch.arange(len(order)) // (50 * size)  # sorted within pools of 50 batches, so that batches still vary
    order = order[(pools * (recipe.max_length + 1) + lengths).argsort(stable=True)].to(split.targets.device)
    for number in torch.randperm(count, generator=generator).tolist()[epoch.start :]:
        chunk = order[number * size : (number + 1) * size]
        yield split[chunk[epoch.rank :: epoch.world]]


# --- Model ------------------------------------------------------------------------------------------------------------


def model(recipe: Recipe, info: DataInfo, train: Split | None = None, network: nn.Module | None = None) -> nn.Module:
    """Token ids (N, length), padded with 0 -> logits (N, num_classes)."""
    if network is not None:
        return network
    size, classes = len(info.vocabulary) + 2, len(info.classes)  # with padding and the unknown word
    network = TextCNN(size, recipe.embedding_dim, recipe.kernel_sizes, recipe.filters, recipe.dropout, classes)
    if isinstance(train, Reviews) and recipe.embedding_epochs:
        network.vectors.weight.data.copy_(train.vectors)
    return network


def check_architecture(model: nn.Module, info: DataInfo) -> list[str]:
    """Embedding, at least two convolutions, max over time, one fully connected layer."""
    device = next(model.parameters()).device
    example = torch.randint(2, len(info.vocabulary) + 2, (2, 40), device=device, dtype=torch.int32)
    output, counts = operations(model, example)
    expect_shape(output, (2, len(info.classes)), example)
    counts["maximum"] += counts["max pooling"]  # max_pool1d over all words is another way to write it
    violations = exactly(counts, fully_connected=1) + at_least_one(counts, "embedding", "convolution", "maximum")
    return violations + (["it has one convolution only"] if counts["convolution"] == 1 else [])


# --- Training loss ----------------------------------------------------------------------------------------------------


def training_loss(model: nn.Module, batch: Split, recipe: Recipe) -> dict[str, Tensor]:
    """Cross-entropy with labels or, where the batch has them, soft labels; with word dropout."""
    tokens = batch.inputs
    dropped = (torch.rand(tokens.shape, device=tokens.device) < recipe.word_dropout) & (tokens != words.PAD)
    return {"loss": F.cross_entropy(model(tokens.masked_fill(dropped, words.UNKNOWN)), batch.targets)}


# --- Evaluate ---------------------------------------------------------------------------------------------------------


def evaluate(model: nn.Module, data: Data, split: str, recipe: Recipe) -> dict[str, float]:
    """Accuracy and cross-entropy."""
    examples: Split = getattr(data, split)
    return metrics.classification(compute_logits(model, examples), examples.targets)


def compute_logits(model: nn.Module, split: Split) -> Tensor:
    """Logits (N, num_classes), computed in batches of 100 reviews, sorted by length."""
    order = (split.inputs != words.PAD).sum(1).argsort(stable=True)
    logits = metrics.outputs(model, split.inputs[order], 100)
    return torch.empty_like(logits).index_copy_(0, order, logits)


# --- Predict ----------------------------------------------------------------------------------------------------------


def predict(
    model: nn.Module, inputs: Sequence[str], recipe: Recipe, info: DataInfo, batch_size: int = 32
) -> list[TextClassification | Exception]:
    """Label, probabilities and attributions of the words, for texts."""
    return attributions.predict(model, inputs, recipe.max_length, info, batch_size)


def onnx_graph(model: nn.Module, recipe: Recipe, info: DataInfo) -> OnnxGraph:
    """What `export` writes: the network, with the attributions of the words."""
    ours = isinstance(model, TextCNN)  # the user's own may take rows of one length only
    min_length = max(recipe.kernel_sizes) if ours else recipe.max_length
    example = torch.full((2, max(9, min_length)), words.UNKNOWN, dtype=torch.int32)
    outputs = ("logits", "attributions") if ours else ("logits",)
    axes = {0: "batch", 1: "length"} if ours else {0: "batch"}
    facts = words.onnx_facts(recipe.max_length, min_length) | {"labels": info.classes}
    network = WithAttributions(model) if isinstance(model, TextCNN) else model
    return OnnxGraph(network, example, "token_ids", outputs, axes, facts)


# --- Plots ------------------------------------------------------------------------------------------------------------


def plot_validation(model: nn.Module, data: Data, recipe: Recipe, folder: Path) -> None:
    """confusion.png and texts.json, the most confident mistakes word by word, of the validation split."""
    from decathlon.evaluation import plots

    split, classes, vocabulary = data.validation, data.info.classes, data.info.vocabulary
    logits = compute_logits(model, split)
    plots.confusion_matrix(logits, split.targets, classes, folder / "confusion.png")
    texts = []
    for index, label, probability in metrics.most_confident_mistakes(logits, split, 8):
        row = split.inputs[index : index + 1].cpu()
        text = [vocabulary[token - 2] if token > words.UNKNOWN else "…" for token in row[0].tolist() if token]
        title = f"{classes[int(split.targets[index])]}, not {classes[label]} ({100 * probability:.0f} %)"
        weights = attributions.attribute(model, row)[1][0]
        parts = attributions.pair_words(text, weights[label]) if len(weights) else [(word, 0.0) for word in text]
        texts.append({"title": title, "parts": parts})
    (folder / "texts.json").write_text(json.dumps(texts))
