"""`mnist-autoencoder`: learn latent codes without labels, then classify them by a random forest.

Network   convolutional autoencoder, 28×28 -> code of 64 -> 28×28; random forest on the codes of 1,000 images
Expected  96.83 ± 0.11 % for the forest on MNIST's test split (3 seeds); reconstruction error 0.0134
Time      47 s of training on two cores of an AMD EPYC; validation reaches the bar, 90 %, after 10 s
Command   decathlon train mnist-autoencoder
More      docs/tasks/mnist-autoencoder.md
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from decathlon.data import mnist
from decathlon.data.base import Data, DataInfo, EpochShard, Source, Split, derive_seed, shuffled_batches
from decathlon.data.io.digit_image import PREPROCESSING
from decathlon.data.io.images import ImageInput
from decathlon.data.transforms.augment import to_float, warp
from decathlon.errors import require
from decathlon.evaluation import classification, forests, metrics
from decathlon.evaluation.architecture import expect_shape, operations
from decathlon.evaluation.onnx_graph import OnnxGraph, OnnxNetwork
from decathlon.evaluation.predictions import Classification
from decathlon.models.autoencoder import Autoencoder, AutoencoderWithLabels, EncoderOnly
from decathlon.tasks.base import Spec
from decathlon.tasks.recipe import Optimizer
from decathlon.tasks.recipe import Recipe as BaseRecipe

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestClassifier

ARCHITECTURE = "autoencoder, code of at most 128 values; random forest on the codes of 1,000 training images"
SPEC = Spec(id="mnist-autoencoder", dataset="mnist", network=ARCHITECTURE, bar=0.90)

# --- Recipe -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """The hyperparameters of `mnist-autoencoder`."""

    latent_dim: int = 64
    """Latent dimension: the size of a code."""
    channels: tuple[int, int, int] = (16, 32, 64)
    """Filters of the encoder's three convolutions."""
    rotation: float = 15.0
    """Random rotation of the second view: maximum angle in degrees."""
    scale: float = 0.15
    """Random scaling of width and height, up to this fraction."""
    shear: float = 0.2
    """Random shear, up to this tangent of the angle."""
    shift: float = 2.0
    """Random translation: maximum shift in pixels."""
    elastic: float = 1.0
    """Standard deviation of the elastic distortion, pixels."""
    reconstruction_weight: float = 10.0
    """Weight of the reconstruction loss, the mean squared error."""
    invariance_weight: float = 1.0
    """Weight of VICReg's invariance term: the distance between the codes of two views of an image."""
    variance_weight: float = 1.0
    """Weight of VICReg's variance term, which keeps each dimension of the code from collapsing."""
    covariance_weight: float = 0.04
    """Weight of VICReg's covariance term, which decorrelates the dimensions of the code."""
    n_labelled: int = 1000
    """Labelled training images for the random forest."""
    n_trees: int = 500
    """Trees of the random forest."""
    epochs: int = 5
    batch_size: int = 256
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer(lr=3e-3, weight_decay=1e-2, warmup=0.15, max_grad_norm=5.0)
    )


def recipe() -> Recipe:
    """The recipe for MNIST."""
    return Recipe()


def sample_recipe() -> Recipe:
    """The recipe for the sample: fewer images, so smaller batches, and fewer labels."""
    return replace(recipe(), n_labelled=300, n_trees=200, batch_size=64, epochs=8)


# --- Data -------------------------------------------------------------------------------------------------------------


def load(source: Source, recipe: Recipe) -> Data:
    """Images uint8 (N, 1, 28, 28), labels (N,)."""
    data = mnist.load(source)
    n_labelled = len(choose_labelled(data.train, recipe, len(data.info.classes)))
    require("--batch-size", recipe.batch_size > 1, "at least 2: the loss has a variance over the batch")
    require("--n-labelled", n_labelled > 0, f"at least {len(data.info.classes)}, one for each class")
    return replace(data, info=replace(data.info, n_labelled=n_labelled))


def choose_labelled(train: Split, recipe: Recipe, num_classes: int) -> Tensor:
    """Indices of the labelled training images: as many of each class, drawn with the seed."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(derive_seed(recipe.seed)))
    targets = train.targets.cpu()[order]
    per_class = recipe.n_labelled // num_classes
    return torch.cat([order[targets == label][:per_class] for label in range(num_classes)])


def batches(split: Split, recipe: Recipe, epoch: EpochShard) -> Iterable[Split]:
    """Shuffled batches from memory."""
    return shuffled_batches(split, recipe.batch_size, epoch)


# --- Model ------------------------------------------------------------------------------------------------------------


def model(recipe: Recipe, info: DataInfo, train: Split | None = None, network: nn.Module | None = None) -> nn.Module:
    """Float images (N, 1, 28, 28) from 0 to 1 -> reconstructions of the same shape, and codes (N, at most 128)."""
    if network is None:
        network = Autoencoder(recipe.latent_dim, recipe.channels)
    latent_dim = run_on_example(network)[1].shape[1]
    autoencoder = AutoencoderWithLabels(network, latent_dim, info.n_labelled)
    return autoencoder.to(memory_format=torch.channels_last)  # convolutions on the CPU are 1.2 times as fast


def run_on_example(network: nn.Module) -> tuple[Tensor, Tensor]:
    """Reconstructions and codes of two images. Raises ValueError where their shapes are wrong."""
    example = torch.zeros(2, 1, 28, 28, device=next(network.parameters()).device)
    output, _ = operations(network, example)
    if not isinstance(output, tuple) or len(output) != 2:
        raise ValueError("the network must return a pair: reconstructions (N, 1, 28, 28) and codes (N, latent_dim)")
    expect_shape(output[0], (2, 1, 28, 28), example, "reconstruction")
    size = output[1].shape[-1] if isinstance(output[1], Tensor) and output[1].ndim == 2 else 64
    expect_shape(output[1], (2, size), example, "code")
    return output


def check_architecture(model: nn.Module, info: DataInfo) -> list[str]:
    """A latent dimension of at most 128, and a forest that learns from at most 1,000 labels."""
    _, codes = run_on_example(model)
    violations = [f"its latent dimension is {codes.shape[1]}, more than 128"] if codes.shape[1] > 128 else []
    return violations + ([f"it learns from {info.n_labelled:,} labels, not 1,000"] if info.n_labelled > 1000 else [])


# --- Training loss ----------------------------------------------------------------------------------------------------


def training_loss(model: nn.Module, batch: Split, recipe: Recipe) -> dict[str, Tensor]:
    """Reconstruction loss of the image, and VICReg's terms on its code and that of a distorted view. No label is used.

    VICReg: Bardes, Ponce and LeCun 2022, arXiv:2105.04906, section 4.1.
    """
    clean = to_float(batch.inputs)
    view = warp(clean, len(clean), recipe.rotation, recipe.scale, recipe.shear, recipe.shift, recipe.elastic)
    reconstructions, codes = model(torch.cat([clean, view]))
    reconstruction = F.mse_loss(reconstructions[: len(clean)], clean)
    first, second = codes.float().chunk(2)
    invariance = F.mse_loss(first, second)
    terms = zip(variance_and_covariance(first), variance_and_covariance(second), strict=True)
    variance, covariance = (torch.stack(pair).mean() for pair in terms)
    loss = recipe.reconstruction_weight * reconstruction + recipe.invariance_weight * invariance
    loss = loss + recipe.variance_weight * variance + recipe.covariance_weight * covariance
    parts = {"reconstruction": reconstruction, "invariance": invariance, "variance": variance}
    return {"loss": loss, **parts, "covariance": covariance}


def variance_and_covariance(codes: Tensor) -> tuple[Tensor, Tensor]:
    """VICReg's variance term, a hinge loss on the standard deviations of codes (N, latent_dim), and covariance term."""
    centred = codes - codes.mean(0)
    covariance = centred.T @ centred / max(1, len(codes) - 1)  # (latent_dim, latent_dim)
    off_diagonal = covariance.square().sum() - covariance.diagonal().square().sum()
    return (1 - (centred.var(0) + 1e-4).sqrt()).relu().mean(), off_diagonal / codes.shape[1]


# --- Evaluate ---------------------------------------------------------------------------------------------------------


def evaluate(model: AutoencoderWithLabels, data: Data, split: str, recipe: Recipe) -> dict[str, float]:
    """Accuracy of a random forest fitted on the labelled codes; mean squared error of the reconstructions."""
    chosen = choose_labelled(data.train, recipe, len(data.info.classes)).to(data.train.targets.device)
    model.codes, model.labels = encode(model, data.train.inputs[chosen]), data.train.targets[chosen]
    examples: Split = getattr(data, split)
    predicted = fit_forest(model, recipe).predict(encode(model, examples.inputs).cpu().numpy())
    errors = metrics.outputs(
        lambda images: (model(to_float(images))[0] - to_float(images)).square().mean((1, 2, 3)), examples.inputs
    )
    accuracy = float((predicted == examples.targets.cpu().numpy()).mean())
    return {"accuracy": accuracy, "reconstruction_mse": errors.mean().item()}


def encode(model: nn.Module, images: Tensor) -> Tensor:
    """Codes (N, latent_dim) of uint8 images (N, 1, 28, 28)."""
    return metrics.outputs(lambda batch: model(to_float(batch))[1], images)


def fit_forest(model: AutoencoderWithLabels, recipe: Recipe) -> RandomForestClassifier:
    """A random forest on the labelled codes of the model."""
    return forests.fit(model.codes.cpu().numpy(), model.labels.cpu().numpy(), recipe.n_trees, recipe.seed)


# --- Predict ----------------------------------------------------------------------------------------------------------


def predict(
    model: nn.Module, inputs: Sequence[ImageInput], recipe: Recipe, info: DataInfo, batch_size: int = 32
) -> list[Classification | Exception]:
    """Class probabilities of images of a digit: any size, RGB or grey. A probability is a fraction of the trees."""
    if isinstance(model, OnnxNetwork):
        assert model.predict_proba is not None, "open_file finds the forest or raises"
        return forests.predict(model, model.predict_proba, inputs, model.metadata["labels"], batch_size)
    autoencoder = cast(AutoencoderWithLabels, model)
    forest = fit_forest(autoencoder, recipe)
    classes = forests.class_names(forest, info.classes)
    return forests.predict(EncoderOnly(autoencoder), forest.predict_proba, inputs, classes, batch_size)


def onnx_graph(model: AutoencoderWithLabels, recipe: Recipe, info: DataInfo) -> OnnxGraph:
    """What `export` writes: the encoder, and beside it the forest that classifies the codes."""
    forest = fit_forest(model, recipe)
    metadata = classification.onnx_graph(model, (1, 28, 28), info, PREPROCESSING).metadata
    postprocessing = "the random forest in the file beside classifies the codes: the fraction of trees for each label"
    metadata |= {"labels": forests.class_names(forest, info.classes), "postprocessing": postprocessing}
    return OnnxGraph(EncoderOnly(model), torch.rand(2, 1, 28, 28), "images", ("codes",), {0: "batch"}, metadata, forest)


# --- Plots ------------------------------------------------------------------------------------------------------------


def plot_validation(model: AutoencoderWithLabels, data: Data, recipe: Recipe, folder: Path) -> None:
    """reconstructions.png, codes.png, confusion.png, mistakes.png, of the validation split."""
    from sklearn.manifold import TSNE

    from decathlon.evaluation import plots

    split, classes = data.validation, data.info.classes
    images = to_float(split.inputs[:16])
    pairs = torch.stack([images, model(images)[0].float().clamp(0, 1)], 1).flatten(0, 1)  # (32, 1, 28, 28), in turn
    plots.grid(list(pairs), ["original", "reconstruction"] * len(images), folder / "reconstructions.png", 8)
    codes = encode(model, split.inputs).cpu().numpy()
    points = TSNE(random_state=0, perplexity=min(30.0, len(codes) / 4), init="random").fit_transform(codes[:1000])
    labels = split.targets[:1000].cpu().numpy()
    plots.scatter(points, labels, classes, folder / "codes.png", "validation codes, by t-SNE")
    forest = fit_forest(model, recipe)
    logits = forests.log_probabilities(forest, codes, len(classes)).to(split.targets.device)
    plots.confusion_matrix(logits, split.targets, classes, folder / "confusion.png")
    plots.mistakes(logits, split, classes, folder / "mistakes.png")
