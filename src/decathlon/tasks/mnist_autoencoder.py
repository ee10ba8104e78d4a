"""`mnist-autoencoder`: learn codes without labels, then let a random forest read them.

Network   convolutional autoencoder, 28×28 -> code of 64 -> 28×28; random forest on the codes of 1,000 images
Expected  96.87 ± 0.19 % for the forest on MNIST's test split (3 seeds); reconstruction error 0.0133
Time      66 s of training on two cores of an AMD EPYC; validation passes the bar, 90 %, after 14 s
Command   decathlon train mnist-autoencoder
More      docs/tasks/mnist-autoencoder.md
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.ensemble import RandomForestClassifier
from sklearn.manifold import TSNE
from torch import Tensor, nn

from decathlon import classify, metrics, plots
from decathlon.augment import to_float, warp
from decathlon.data import Data, Epoch, Source, Split, digit, mnist, shuffled, stream
from decathlon.models.autoencoder import Autoencoder, Coder, Codes
from decathlon.portable import Graph, Session
from decathlon.recipe import Card, Optimizer, require
from decathlon.recipe import Recipe as BaseRecipe
from decathlon.rules import expect_shape, operations

CARD = Card(
    id="mnist-autoencoder",
    dataset="mnist",
    network="autoencoder, code of at most 128 values; random forest on the codes of 1,000 training images",
    bar=0.90,
)

# --- Recipe -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """How `mnist-autoencoder` is trained."""

    code: int = 64
    """Values in a code."""
    channels: tuple[int, int, int] = (16, 32, 64)
    """Filters of the encoder's three convolutions."""
    rotation: float = 15.0
    """Largest rotation of a view, degrees."""
    scale: float = 0.15
    """Largest change of width and of height, a fraction."""
    shear: float = 0.2
    """Largest shear, tangent of the angle."""
    shift: float = 2.0
    """Largest shift, pixels."""
    elastic: float = 1.0
    """Standard deviation of the elastic distortion, pixels."""
    reconstruction: float = 10.0
    """Weight of the reconstruction error."""
    invariance: float = 1.0
    """Weight of the distance between the codes of two views of one image."""
    variance: float = 1.0
    """Weight of what keeps every value of the code varying."""
    covariance: float = 0.04
    """Weight of what keeps the values of the code from saying the same."""
    labelled: int = 1000
    """Training images whose labels the forest sees."""
    trees: int = 500
    """Trees in the forest."""
    epochs: int = 5
    batch_size: int = 256
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(lr=3e-3, weight_decay=1e-2, warmup=0.15, clip=5.0))


def recipe() -> Recipe:
    """The recipe for MNIST."""
    return Recipe()


def sample_recipe() -> Recipe:
    """The recipe for the sample: fewer images, so smaller batches, and fewer labels."""
    return replace(recipe(), labelled=300, trees=200, batch_size=64, epochs=8)


# --- Data -------------------------------------------------------------------------------------------------------------


def load(source: Source, recipe: Recipe) -> Data:
    """Images uint8 (N, 1, 28, 28), labels (N,). `meta` says how many labels the forest will see."""
    data = mnist.load(source)
    counted = len(labelled(data.train, recipe, len(data.meta["classes"])))
    require("--labelled", counted > 0, f"at least {len(data.meta['classes'])}, one for each class")
    return replace(data, meta=data.meta | {"labelled": counted})


def labelled(train: Split, recipe: Recipe, classes: int) -> Tensor:
    """Indices of the training images whose labels may be used: as many of each class, drawn with the seed."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(stream(recipe.seed)))
    targets = train.targets.cpu()[order]
    share = recipe.labelled // classes
    return torch.cat([order[targets == number][:share] for number in range(classes)])


def batches(split: Split, recipe: Recipe, epoch: Epoch) -> Iterable[Split]:
    """Shuffled batches from memory."""
    return shuffled(split, recipe.batch_size, epoch)


# --- Model ------------------------------------------------------------------------------------------------------------


def model(
    recipe: Recipe, meta: dict[str, Any], train: Split | None = None, network: nn.Module | None = None
) -> nn.Module:
    """Float images (N, 1, 28, 28) from 0 to 1 -> reconstructions of the same shape, and codes (N, at most 128)."""
    if network is None:
        network = Autoencoder(recipe.code, recipe.channels)
    coder = Coder(network, shapes(network)[1].shape[1], meta["labelled"])
    return coder.to(memory_format=torch.channels_last)  # convolutions on the CPU are a fifth faster


def shapes(network: nn.Module) -> tuple[Tensor, Tensor]:
    """Try a network on two images. Raises ValueError where it does not give two images back and two codes."""
    example = torch.zeros(2, 1, 28, 28, device=next(network.parameters()).device)
    output, _ = operations(network, example)
    if not isinstance(output, tuple) or len(output) != 2:
        raise ValueError("the network must give a pair for images (N, 1, 28, 28): reconstructions and codes (N, code)")
    expect_shape(output[0], (2, 1, 28, 28), example, "reconstruction")
    size = output[1].shape[-1] if isinstance(output[1], Tensor) and output[1].ndim == 2 else 64
    expect_shape(output[1], (2, size), example, "code")
    return output


def rules(model: nn.Module, meta: dict[str, Any]) -> list[str]:
    """A code of at most 128 values."""
    _, codes = shapes(model)
    return [f"its code has {codes.shape[1]} values, more than 128"] if codes.shape[1] > 128 else []


# --- Step -------------------------------------------------------------------------------------------------------------


def step(model: nn.Module, batch: Split, recipe: Recipe) -> dict[str, Tensor]:
    """Reconstruct each image, and give a distorted view of it the same code. No label is used.

    The terms that shape the code are VICReg's (Bardes, Ponce and LeCun 2022, section 4.1).
    """
    clean = to_float(batch.inputs)
    view = warp(clean, len(clean), recipe.rotation, recipe.scale, recipe.shear, recipe.shift, recipe.elastic)
    images, codes = model(torch.cat([clean, view]))
    reconstruction = F.mse_loss(images[: len(clean)], clean)
    first, second = codes.float().chunk(2)
    invariance = F.mse_loss(first, second)
    variance, covariance = (torch.stack(t).mean() for t in zip(spread_of(first), spread_of(second), strict=True))
    loss = recipe.reconstruction * reconstruction + recipe.invariance * invariance
    loss = loss + recipe.variance * variance + recipe.covariance * covariance
    parts = {"reconstruction": reconstruction, "invariance": invariance, "variance": variance}
    return {"loss": loss, **parts, "covariance": covariance}


def spread_of(codes: Tensor) -> tuple[Tensor, Tensor]:
    """How far the deviation of each value (N, code) falls short of 1, and the squared covariances between values."""
    centred = codes - codes.mean(0)
    covariance = centred.T @ centred / max(1, len(codes) - 1)  # (code, code)
    off_diagonal = covariance.square().sum() - covariance.diagonal().square().sum()
    return (1 - (centred.var(0) + 1e-4).sqrt()).relu().mean(), off_diagonal / codes.shape[1]


# --- Evaluate ---------------------------------------------------------------------------------------------------------


def evaluate(model: Coder, data: Data, split: str, recipe: Recipe) -> dict[str, float]:
    """Accuracy of a forest grown on the labelled codes; squared error a pixel of the reconstructions."""
    chosen = labelled(data.train, recipe, len(data.meta["classes"])).to(data.train.targets.device)
    model.codes, model.labels = encode(model, data.train.inputs[chosen]), data.train.targets[chosen]
    examples: Split = getattr(data, split)
    found = grow(model, recipe).predict(encode(model, examples.inputs).cpu().numpy())
    error = metrics.outputs(
        lambda images: (model(to_float(images))[0] - to_float(images)).square().mean((1, 2, 3)), examples.inputs
    )
    accuracy = float((found == examples.targets.cpu().numpy()).mean())
    return {"accuracy": accuracy, "reconstruction_mse": error.mean().item()}


def encode(model: nn.Module, images: Tensor) -> Tensor:
    """Codes (N, code) of uint8 images (N, 1, 28, 28)."""
    return metrics.outputs(lambda batch: model(to_float(batch))[1], images)


def grow(model: Coder, recipe: Recipe) -> RandomForestClassifier:
    """The forest (Breiman 2001) on the labelled codes that the model holds."""
    forest = RandomForestClassifier(recipe.trees, random_state=recipe.seed, n_jobs=torch.get_num_threads())
    return forest.fit(model.codes.cpu().numpy(), model.labels.cpu().numpy())


# --- Predict ----------------------------------------------------------------------------------------------------------


def predict(model: Coder, inputs: list[str], recipe: Recipe, meta: dict[str, Any]) -> list[dict[str, Any]]:
    """Classes with the share of trees that voted for each, for pictures of a digit: any size, colour or grey."""
    codes: nn.Module = Codes(model)
    if isinstance(model, Session):
        codes, shares, classes = model, model.shares, model.facts["labels"]
    else:
        forest = grow(model, recipe)
        shares, classes = forest.predict_proba, names(forest, meta)

    def answer(image: Tensor) -> dict[str, Any]:
        with torch.no_grad():
            return classify.ranked(shares(codes(to_float(image[None])).numpy())[0].tolist(), classes)

    return digit.answers(inputs, answer)


def names(forest: RandomForestClassifier, meta: dict[str, Any]) -> list[str]:
    """The classes in the order of the forest's votes."""
    return [meta["classes"][number] for number in forest.classes_]


def graph(model: Coder, recipe: Recipe, meta: dict[str, Any]) -> Graph:
    """What `export` writes: the encoder, and beside it the forest that reads the codes."""
    forest = grow(model, recipe)
    facts = classify.graph(model, (1, 28, 28), meta, digit.READING).facts
    facts |= {"labels": names(forest, meta), "answer": "the forest beside reads the codes: the share of each label"}
    return Graph(Codes(model), torch.rand(2, 1, 28, 28), "images", ("codes",), {0: "batch"}, facts, forest)


# --- Show -------------------------------------------------------------------------------------------------------------


def show(model: Coder, data: Data, recipe: Recipe, folder: Path) -> None:
    """reconstructions.png, codes.png, confusion.png, mistakes.png, of the validation split."""
    split, classes = data.validation, data.meta["classes"]
    images = to_float(split.inputs[:16])
    pairs = torch.stack([images, model(images)[0].float().clamp(0, 1)], 1).flatten(0, 1)  # (32, 1, 28, 28), in turn
    plots.grid(list(pairs), ["original", "reconstruction"] * len(images), folder / "reconstructions.png", 8)
    codes = encode(model, split.inputs).cpu().numpy()
    flat = TSNE(random_state=0, perplexity=min(30.0, len(codes) / 4), init="random").fit_transform(codes[:1000])
    plots.plane(flat, split.targets[:1000].cpu().numpy(), classes, folder / "codes.png", "validation codes, by t-SNE")
    forest = grow(model, recipe)
    votes = np.zeros((len(codes), len(classes)), np.float32)
    votes[:, forest.classes_] = forest.predict_proba(codes)
    logits = torch.from_numpy(votes).clamp_min(1e-9).log().to(split.targets.device)
    plots.confusion_matrix(logits, split.targets, classes, folder / "confusion.png")
    plots.mistakes(logits, split, classes, folder / "mistakes.png")
