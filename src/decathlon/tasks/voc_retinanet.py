"""`voc-retinanet`: detect objects of twenty classes in one stage, from dense anchors with the focal loss.

Network   RetinaNet, ResNet50 backbone with feature pyramid, its head for the data's classes (after Lin et al. 2017)
Expected  map 25.9 %, map_50 48.7 % on voc-3737 (1 run), on timm's EfficientNet-Lite0 with ImageNet's weights
Time      73 min on one of two busy cores with AVX-512; minutes for the sample, map_50 83 % after 10 epochs (1 run)
Command   decathlon train voc-retinanet --recipe best --precision bf16-mixed
More      docs/tasks/voc-retinanet.md
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal, cast

from torch import Tensor, nn
from torchvision.models import ResNet50_Weights, resnet50
from torchvision.models.detection import RetinaNet
from torchvision.models.detection import RetinaNet_ResNet50_FPN_Weights as Weights
from torchvision.models.detection.retinanet import RetinaNetClassificationHead
from torchvision.ops import FeaturePyramidNetwork

from decathlon.data import voc
from decathlon.data.base import Data, DataInfo, EpochShard, Source, Split
from decathlon.data.io.images import ImageInput
from decathlon.data.pretrained import start_detector
from decathlon.data.transforms import detection as transforms
from decathlon.errors import require
from decathlon.evaluation import detection, detection_onnx
from decathlon.evaluation.onnx_graph import OnnxGraph
from decathlon.evaluation.predictions import Detections
from decathlon.models.retinanet import HEADS, retinanet, small_retinanet, timm_retinanet
from decathlon.models.timm_backbone import TIMM, derived_anchors
from decathlon.tasks.base import Spec
from decathlon.tasks.recipe import Optimizer
from decathlon.tasks.recipe import Recipe as BaseRecipe

SPEC = Spec(
    id="voc-retinanet",
    dataset="voc",
    network="RetinaNet, ResNet50 FPN, RetinaNetClassificationHead for the data's classes",
    metric="map",
)

# --- Recipe -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """The hyperparameters of `voc-retinanet`."""

    may_be_zero: ClassVar[tuple[str, ...]] = ("seed", "workers", "trainable_layers")

    weights: str = "none"
    """Pretrained weights: coco (the whole detector, where torchvision's server is in reach), imagenet (the backbone;
    --recipe best has them from a pip package), none (needs many times the data and epochs), a file, a run folder, or
    a task for the weights that ship: of a detector of other classes the rows of those with the same names."""
    backbone: str = "resnet50"
    """resnet50, the task's; timm/NAME, any timm model with features_only; small, for the sample."""
    channels: tuple[int, int, int, int] = (16, 32, 64, 96)
    """Channels of the small backbone's stages."""
    pyramid_channels: int = 128
    """Channels of each level of the pyramid, and of the heads, with timm's backbones."""
    pyramid_strides: tuple[int, ...] = (8, 16, 32)
    """Strides of the levels of the pyramid, with timm's backbones; two levels come after them."""
    norm: Literal["batch", "frozen", "group"] = "batch"
    """Norm in the backbone; frozen keeps the statistics of pretrained weights, as torchvision does."""
    head_norm: Literal["none", "group"] = "group"
    """Norm in the heads; torchvision's weights for COCO are for none."""
    trainable_layers: int = 5
    """Stages of the backbone that are trained, from its end: 5 is all of it."""
    min_size: int = 320
    """Pixels to which the shorter side of an image is scaled."""
    max_size: int = 640
    """Maximum of the longer side, pixels: a longer image is scaled down further."""
    cache_size: int = 500
    """Longest side of the decoded images in the cache, pixels."""
    anchors: tuple[int, ...] = (32, 64, 128, 256, 512)
    """Smallest side of the anchors on each level of the pyramid, pixels of the scaled image."""
    anchor_scale: float = 3.0
    """Side of the smallest anchor of a level in strides at 320 pixels, with timm's backbones, in place of --anchors."""
    scale_range: tuple[float, float] = (0.6, 1.25)
    """Side of the random crop in training relative to the image, from and to; above 1 it is padded."""
    color_jitter: float = 0.2
    """Maximum change of brightness, contrast and saturation in training, as a fraction."""
    repeat_threshold: float = 0.1
    """Images of classes that fewer than this fraction of the images show are drawn more often (LVIS)."""
    score_threshold: float = 0.4
    """Score from which `predict` and the plots show an object."""
    workers: int = 0
    """Processes of the DataLoader; with 0 the training process loads."""
    epochs: int = 10
    batch_size: int = 8
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer("adamw", lr=5e-4, weight_decay=0.01, warmup=0.1, max_grad_norm=5.0)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        transforms.check_recipe(self, 5, "resnet50")
        is_coco = self.weights == "coco" and not self.backbone.startswith(TIMM)
        require("--head-norm", self.head_norm == "none" or not is_coco, "none with --weights coco")


def recipe() -> Recipe:
    """The recipe for PASCAL VOC."""
    return Recipe()


def best_recipe() -> Recipe:
    """The recipe for the highest mAP: another backbone, EfficientNet-Lite0 with the ImageNet weights of a package."""
    on_lite0 = replace(recipe(), backbone="timm/tf_efficientnet_lite0", weights="imagenet", norm="frozen")
    return replace(on_lite0, trainable_layers=3, optimizer=replace(on_lite0.optimizer, lr=2.5e-4))


def sample_recipe() -> Recipe:
    """The recipe for the sample: a small backbone, small images."""
    return replace(
        recipe(),
        backbone="small",
        min_size=120,
        max_size=160,
        anchors=(16, 32, 64),
        scale_range=(0.9, 1.0),
        color_jitter=0.0,  # a class has a colour of its own
        repeat_threshold=0.0,
        epochs=10,
        batch_size=4,
        optimizer=Optimizer("adamw", lr=1e-3, weight_decay=0.01, warmup=0.1, max_grad_norm=1.0),
    )


# --- Data -------------------------------------------------------------------------------------------------------------


def load(source: Source, recipe: BaseRecipe) -> Data:
    """Images uint8 (3, H, W) with boxes."""
    return voc.load(source, cast(Recipe, recipe).cache_size)


def batches(split: voc.DetectionSplit, recipe: Recipe, epoch: EpochShard) -> Iterable[transforms.Batch]:
    """Batches of images of a similar aspect ratio, cropped, scaled and flipped at random."""
    size = recipe.min_size, recipe.max_size
    random = recipe.scale_range, recipe.workers, recipe.color_jitter, recipe.repeat_threshold
    return transforms.batches(split, recipe.batch_size, epoch, size, *random)


# --- Model ------------------------------------------------------------------------------------------------------------


def model(recipe: Recipe, info: DataInfo, train: Split | None = None, network: nn.Module | None = None) -> nn.Module:
    """A list of images -> detections; in training, with targets -> losses."""

    def build(classes: int) -> RetinaNet:
        options = {"min_size": recipe.min_size, "max_size": recipe.max_size, "detections_per_img": 100}
        if recipe.backbone == "small":
            return small_retinanet(classes, recipe.anchors, recipe.channels, recipe.head_norm, **options)
        if recipe.backbone.startswith(TIMM):
            strides = recipe.pyramid_strides
            return timm_retinanet(
                classes,
                recipe.backbone,
                strides,
                derived_anchors((*strides, 2 * strides[-1], 4 * strides[-1]), recipe.anchor_scale, recipe.min_size),
                recipe.pyramid_channels,
                recipe.head_norm,
                cast(Literal["batch", "frozen"], recipe.norm),
                recipe.trainable_layers,
                **options,
            )
        # As torchvision does for its COCO weights; trained batch norm needs an epsilon above 0.
        eps = 0.0 if recipe.weights == "coco" and recipe.norm == "frozen" else 1e-5
        return retinanet(
            classes, recipe.anchors, recipe.norm, recipe.head_norm, recipe.trainable_layers, eps, **options
        )

    if network is None:
        network = detector = build(len(info.classes))
        if train is not None and recipe.weights != "none":
            pretrained = Weights.COCO_V1, ResNet50_Weights.IMAGENET1K_V1
            start_detector(detector, recipe.weights, recipe.backbone, build, HEADS, info.classes, *pretrained)
    return detection.fp32_outputs(network).to(memory_format=detection.memory_format())


def check_architecture(model: nn.Module, info: DataInfo) -> list[str]:
    """RetinaNet with a pyramid and a head for the classes; the backbone, too, but for the sample."""
    detection.check_outputs(model, info)
    if not isinstance(model, RetinaNet):
        return ["it is not a torchvision RetinaNet"]
    violations, head = [], getattr(model.head, "classification_head", None)
    if not isinstance(head, RetinaNetClassificationHead) or head.num_classes != len(info.classes) + 1:
        violations.append("its head is not a RetinaNetClassificationHead for the data's classes and the background")
    if not isinstance(getattr(model.backbone, "fpn", None), FeaturePyramidNetwork):
        return [*violations, "its backbone has no feature pyramid"]
    body = getattr(model.backbone, "body", model.backbone)
    if not info.is_sample and detection.kernel_shapes(body) != detection.kernel_shapes(resnet50()):
        violations.append("its backbone is not ResNet50")
    return violations


# --- Training loss ----------------------------------------------------------------------------------------------------


def training_loss(model: nn.Module, batch: transforms.Batch, recipe: Recipe) -> dict[str, Tensor]:
    """The sum of two losses: classification (focal loss) and box regression (L1)."""
    return detection.training_loss(model, batch)


# --- Evaluate ---------------------------------------------------------------------------------------------------------


def evaluate(model: nn.Module, data: Data, split: str, recipe: Recipe) -> dict[str, float]:
    """COCO's AP, as `map`, and VOC's of 2007."""
    return detection.evaluate(model, getattr(data, split), data.info.classes)


# --- Predict ----------------------------------------------------------------------------------------------------------


def predict(
    model: nn.Module, inputs: Sequence[ImageInput], recipe: Recipe, info: DataInfo, batch_size: int = 32
) -> list[Detections | Exception]:
    """The objects in images of any size, with scores of at least `recipe.score_threshold`."""
    return detection.predict(model, inputs, recipe.score_threshold, info, batch_size, recipe.cache_size)


def onnx_graph(model: nn.Module, recipe: Recipe, info: DataInfo) -> OnnxGraph:
    """What `export` writes: the detector for one image size; `predict` letterboxes images to it."""
    sizes = recipe.min_size, recipe.max_size, recipe.cache_size
    return detection_onnx.onnx_graph(model, sizes, recipe.score_threshold, info)


# --- Plots ------------------------------------------------------------------------------------------------------------


def plot_validation(model: nn.Module, data: Data, recipe: Recipe, folder: Path) -> None:
    """boxes.png, precision.png, classes.png."""
    detection.plot_validation(model, data, recipe.score_threshold, folder)
