"""`imdb-roberta`: is a film review positive? A frozen RoBERTa embeds it, a small MLP classifies the embedding.

Network   RoBERTa, frozen -> mean over the tokens of the last layer's output -> MLP (Liu et al. 2019, arXiv:1907.11692)
Expected  91.80 ± 0.00 % on the test split of imdb-49992 with roberta-mini (3 seeds)
Time      5 s of training on two cores of an AMD EPYC; before it, once, 15 min of embedding 50,000 reviews
Command   decathlon train imdb-roberta
More      docs/tasks/imdb-roberta.md
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from decathlon.data import embeddings, imdb
from decathlon.data.base import Data, DataInfo, EpochShard, Source, Split, shuffled_batches
from decathlon.errors import require
from decathlon.evaluation import metrics, plots, text
from decathlon.evaluation.architecture import expect_shape, nothing_but, operations
from decathlon.evaluation.onnx_graph import OnnxGraph, OnnxNetwork
from decathlon.evaluation.predictions import TextClassification
from decathlon.models.mlp_head import MLPHead
from decathlon.tasks.base import Spec
from decathlon.tasks.recipe import Optimizer
from decathlon.tasks.recipe import Recipe as BaseRecipe

SPEC = Spec(
    id="imdb-roberta",
    dataset="imdb",
    network="RoBERTa embeddings, frozen, then a small MLP",
    bar=0.86,
)

# --- Recipe -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """The hyperparameters of `imdb-roberta`."""

    may_be_zero = ("seed", "layers")

    encoder: str = embeddings.MINI
    """The RoBERTa: roberta-mini, a folder, or a model of the hub such as FacebookAI/roberta-base."""
    max_length: int = 512
    """Maximum length of a review in tokens: of longer ones the head and tail, half of it each."""
    layers: tuple[int, ...] = ()
    """Layers whose outputs are concatenated, 0 for the token embeddings; empty for the last layer."""
    pooling: Literal["mean", "first"] = "mean"
    """Pooling of a layer's output: the mean over the tokens, or the first token."""
    standardise: bool = True
    """Standardise each dimension of the embeddings to mean 0 and standard deviation 1."""
    hidden: tuple[int, ...] = (256,)
    """Units of the hidden layers of the MLP."""
    dropout: float = 0.5
    """Dropout probability before each of its layers."""
    epochs: int = 10
    batch_size: int = 100
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(lr=1e-3, weight_decay=1e-2))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.encoder != embeddings.MINI and Path(self.encoder).is_dir():  # the run may be used from elsewhere
            object.__setattr__(self, "encoder", str(Path(self.encoder).resolve()))
        require("--dropout", self.dropout < 1, "below 1")
        require("--max-length", self.max_length > 2, "above 2: start and end are among the tokens")


def recipe() -> Recipe:
    """The recipe for IMDB."""
    return Recipe()


def sample_recipe() -> Recipe:
    """The recipe for the sample: fewer reviews, so smaller batches and more epochs."""
    return replace(recipe(), batch_size=50, epochs=20)


# --- Data -------------------------------------------------------------------------------------------------------------


def load(source: Source, recipe: Recipe) -> Data:
    """Embeddings float32 (N, embedding_dim), labels (N,); each review is embedded once, and its embedding cached."""
    texts = imdb.load(source)
    encoder = load_encoder(recipe, source.download)
    if torch.cuda.is_available():
        encoder.network.cuda()
    splits, seconds = [], {"train": 0.0, "test": 0.0}
    for name, reviews, labels in (("train", texts.train, texts.train_labels), ("test", texts.test, texts.test_labels)):
        if source.download:
            key, title = (texts.key, name), f"{name} reviews"
            inputs, seconds[name] = embeddings.embed_cached(encoder, reviews, source.folder, key, title)
        else:  # a dry run needs the sizes only: embedding takes minutes
            inputs = torch.zeros(len(reviews), encoder.embedding_dim)
        splits.append(Split(inputs, torch.tensor(labels)))
    train, validation = imdb.divide_training(texts, splits[0], source)
    info = DataInfo(texts.classes, encoder=encoder.name, embedding_dim=encoder.embedding_dim)
    return Data(texts.name, train, validation, splits[1], info, seconds["train"])


def load_encoder(recipe: Recipe, download: bool = True) -> embeddings.Encoder:
    """The recipe's encoder."""
    return embeddings.load_encoder(recipe.encoder, recipe.max_length, recipe.layers, recipe.pooling, download)


def batches(split: Split, recipe: Recipe, epoch: EpochShard) -> Iterable[Split]:
    """Shuffled batches from memory."""
    return shuffled_batches(split, recipe.batch_size, epoch)


# --- Model ------------------------------------------------------------------------------------------------------------


def model(recipe: Recipe, info: DataInfo, train: Split | None = None, network: nn.Module | None = None) -> nn.Module:
    """Embeddings (N, embedding_dim) -> logits (N, num_classes). The encoder is frozen, and not part of it."""
    if network is not None:
        return network
    head = MLPHead(info.embedding_dim, recipe.hidden, recipe.dropout, len(info.classes))
    if train is not None and recipe.standardise:
        head.standardise(train.inputs)
    return head


def check_architecture(model: nn.Module, info: DataInfo) -> list[str]:
    """An MLP: two to four fully connected layers with a nonlinearity between them, norms and dropout."""
    example = torch.randn(2, info.embedding_dim, device=next(model.parameters()).device)
    output, counts = operations(model, example)
    expect_shape(output, (2, len(info.classes)), example)
    layers = counts["fully connected"]
    violations = [] if 2 <= layers <= 4 else [f"it has {layers} fully connected layers, not two to four"]
    nonlinearities = ("ReLU", "gelu", "tanh", "silu", "leaky_relu")
    violations += [] if any(counts[name] for name in nonlinearities) else ["no nonlinearity between its layers"]
    norms = ("batch norm", "native_layer_norm", "sub", "div")
    return violations + nothing_but(counts, "fully connected", *norms, "dropout", *nonlinearities)


# --- Training loss ----------------------------------------------------------------------------------------------------


def training_loss(model: nn.Module, batch: Split, recipe: Recipe) -> dict[str, Tensor]:
    """Cross-entropy."""
    return {"loss": F.cross_entropy(model(batch.inputs), batch.targets)}


# --- Evaluate ---------------------------------------------------------------------------------------------------------


def evaluate(model: nn.Module, data: Data, split: str, recipe: Recipe) -> dict[str, float]:
    """Accuracy and cross-entropy."""
    examples: Split = getattr(data, split)
    return metrics.classification(metrics.outputs(model, examples.inputs), examples.targets)


# --- Predict ----------------------------------------------------------------------------------------------------------


def predict(
    model: nn.Module, inputs: Sequence[str], recipe: Recipe, info: DataInfo, batch_size: int = 32
) -> list[TextClassification | Exception]:
    """Label and probabilities of each text.

    Raises:
        ValueError: The encoder is not the one that the MLP was trained on.
    """
    if isinstance(model, OnnxNetwork):
        encoder, network = text.read_encoder(model), cast(nn.Module, model)
    else:
        encoder = matching_encoder(recipe, info)
        network = text.EncoderClassifier(encoder, model).to(next(model.parameters()).device)
    return text.predict(network, encoder, inputs, info.classes, batch_size)


def matching_encoder(recipe: Recipe, info: DataInfo) -> embeddings.Encoder:
    """The encoder that the MLP was trained on. Raises ValueError where the recipe's is another now."""
    encoder = load_encoder(recipe)
    if encoder.name != info.encoder:
        raise ValueError(
            f"this MLP was trained on embeddings of {info.encoder}, but {recipe.encoder} is {encoder.name}"
        )
    return encoder


def onnx_graph(model: nn.Module, recipe: Recipe, info: DataInfo) -> OnnxGraph:
    """What `export` writes: the encoder and the MLP as one network."""
    return text.onnx_graph(text.EncoderClassifier(matching_encoder(recipe, info), model).cpu(), info.classes)


# --- Plots ------------------------------------------------------------------------------------------------------------


def plot_validation(model: nn.Module, data: Data, recipe: Recipe, folder: Path) -> None:
    """confusion.png, and embeddings.png: the first two principal components of the validation embeddings."""
    split, classes = data.validation, data.info.classes
    plots.confusion_matrix(metrics.outputs(model, split.inputs), split.targets, classes, folder / "confusion.png")
    examples = split[:: max(1, len(split) // 1000)]  # evenly spaced: the split is ordered by class
    mean, deviation = split.inputs.mean(0), split.inputs.std(0).clamp(min=1e-6)
    directions = torch.linalg.svd((split.inputs - mean) / deviation, full_matrices=False).Vh[:2]  # (2, embedding_dim)
    points = ((examples.inputs - mean) / deviation) @ directions.T  # (N, embedding_dim) -> (N, 2)
    title = "validation embeddings, the first two principal components"
    plots.scatter(points.cpu().numpy(), examples.targets.cpu().numpy(), classes, folder / "embeddings.png", title)
