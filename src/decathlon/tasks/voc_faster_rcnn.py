"""`voc-faster-rcnn`: detect objects of twenty classes in two stages: region proposals, then their classes.

Network   Faster R-CNN, MobileNetV3-Large backbone with a feature pyramid, 320 pixels (after Ren et al. 2015)
Expected  map 27.9 %, map_50 51.4 % on voc-3737 (1 run), on timm's EfficientNet-Lite0 with ImageNet's weights
Time      1 h 26 min on one of two busy cores with AVX-512; a minute or two for the sample, map_50 95 to 97 % (3 runs)
Command   decathlon train voc-faster-rcnn --recipe best --precision bf16-mixed
More      docs/tasks/voc-faster-rcnn.md
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal, cast

from torch import Tensor, nn
from torchvision.models import MobileNet_V3_Large_Weights, mobilenet_v3_large
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection import FasterRCNN_MobileNet_V3_Large_320_FPN_Weights as Weights
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.ops import FeaturePyramidNetwork

from decathlon.data import voc
from decathlon.data.base import Data, DataInfo, EpochShard, Source, Split
from decathlon.data.io.images import ImageInput
from decathlon.data.pretrained import start_detector
from decathlon.data.transforms import detection as transforms
from decathlon.evaluation import detection, detection_onnx
from decathlon.evaluation.onnx_graph import OnnxGraph
from decathlon.evaluation.predictions import Detections
from decathlon.models.faster_rcnn import HEADS, faster_rcnn, small_faster_rcnn, timm_faster_rcnn
from decathlon.models.timm_backbone import TIMM, derived_anchors
from decathlon.tasks.base import Spec
from decathlon.tasks.recipe import Optimizer
from decathlon.tasks.recipe import Recipe as BaseRecipe

SPEC = Spec(
    id="voc-faster-rcnn",
    dataset="voc",
    network="Faster R-CNN, MobileNetV3-Large 320 FPN",
    metric="map",
)

# --- Recipe -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """The hyperparameters of `voc-faster-rcnn`."""

    may_be_zero: ClassVar[tuple[str, ...]] = ("seed", "workers", "trainable_layers")

    weights: str = "none"
    """Pretrained weights: coco (the whole detector, where torchvision's server is in reach), imagenet (the backbone;
    --recipe best has them from a pip package), none (needs many times the data and epochs), a file, a run folder, or
    a task for the weights that ship: of a detector of other classes the rows of those with the same names."""
    backbone: str = "mobilenet_v3_large"
    """mobilenet_v3_large, the task's; timm/NAME, any timm model with features_only; small, for the sample."""
    channels: tuple[int, int, int, int] = (16, 32, 64, 96)
    """Channels of the small backbone's stages."""
    representation_size: int = 256
    """Width of the two fully connected layers of the RoI head, with the small backbone and timm's."""
    pyramid_channels: int = 128
    """Channels of each level of the pyramid, with timm's backbones."""
    pyramid_strides: tuple[int, ...] = (8, 16, 32)
    """Strides of the levels of the pyramid, with timm's backbones; a level pooled from the last comes after them."""
    norm: Literal["batch", "frozen", "group"] = "batch"
    """Norm in the backbone; frozen keeps the statistics of pretrained weights, as torchvision does."""
    trainable_layers: int = 6
    """Stages of the backbone that are trained, from its end: 6 is all of it."""
    min_size: int = 320
    """Pixels to which the shorter side of an image is scaled."""
    max_size: int = 640
    """Maximum of the longer side, pixels: a longer image is scaled down further."""
    cache_size: int = 500
    """Longest side of the decoded images in the cache, pixels."""
    anchors: tuple[int, ...] = (32, 64, 128, 256, 512)
    """Sides of the anchors, pixels of the scaled image; on the small backbone they double from level to level."""
    anchor_scale: float = 4.0
    """Side of the smallest anchor of a level in strides at 320 pixels, with timm's backbones, in place of --anchors."""
    rpn_post_nms_top_n: int = 300
    """Proposals for an image that the RPN passes on in training, and with timm's backbones in evaluation, too."""
    roi_batch_size: int = 64
    """Sampled proposals for an image on which the RoI head is trained; torchvision's 512 take most of the time."""
    scale_range: tuple[float, float] = (0.6, 1.25)
    """Side of the random crop in training relative to the image, from and to; above 1 it is padded."""
    color_jitter: float = 0.2
    """Maximum change of brightness, contrast and saturation in training, as a fraction."""
    repeat_threshold: float = 0.1
    """Images of classes that fewer than this fraction of the images show are drawn more often (LVIS)."""
    score_threshold: float = 0.5
    """Score from which `predict` and the plots show an object."""
    workers: int = 0
    """Processes of the DataLoader; with 0 the training process loads."""
    epochs: int = 15
    batch_size: int = 8
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer("adamw", lr=5e-4, weight_decay=0.01, warmup=0.1, max_grad_norm=5.0)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        transforms.check_recipe(self, 6, "mobilenet_v3_large")


def recipe() -> Recipe:
    """The recipe for PASCAL VOC."""
    return Recipe()


def best_recipe() -> Recipe:
    """The recipe for the highest mAP: another backbone, EfficientNet-Lite0 with the ImageNet weights of a package."""
    on_lite0 = replace(recipe(), backbone="timm/tf_efficientnet_lite0", weights="imagenet", norm="frozen")
    return replace(on_lite0, trainable_layers=3, optimizer=replace(on_lite0.optimizer, lr=2.5e-4))


def sample_recipe() -> Recipe:
    """The recipe for the sample: a small backbone, small images."""
    small = replace(recipe(), backbone="small", min_size=120, max_size=160, anchors=(16, 22))
    return replace(
        small,
        rpn_post_nms_top_n=100,
        roi_batch_size=32,
        scale_range=(0.9, 1.0),
        color_jitter=0.0,  # a class has a colour of its own
        repeat_threshold=0.0,
        epochs=6,
        batch_size=4,
        optimizer=Optimizer("adamw", lr=2e-3, weight_decay=0.01, warmup=0.1, max_grad_norm=1.0),
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

    def build(classes: int) -> FasterRCNN:
        options = {
            "min_size": recipe.min_size,
            "max_size": recipe.max_size,
            "rpn_pre_nms_top_n_train": 2 * recipe.rpn_post_nms_top_n,
            "rpn_post_nms_top_n_train": recipe.rpn_post_nms_top_n,
            "rpn_pre_nms_top_n_test": 150,  # these three are torchvision's for 320 pixels
            "rpn_post_nms_top_n_test": 150,
            "rpn_score_thresh": 0.05,
            "box_batch_size_per_image": recipe.roi_batch_size,
        }
        if recipe.backbone == "small":
            return small_faster_rcnn(classes, recipe.anchors, recipe.channels, recipe.representation_size, **options)
        if recipe.backbone.startswith(TIMM):
            # With few training images the RPN gives low scores to objects that the RoI head then detects.
            kept = recipe.rpn_post_nms_top_n
            options |= {"rpn_pre_nms_top_n_test": 2 * kept, "rpn_post_nms_top_n_test": kept, "rpn_score_thresh": 0.0}
            levels = (*recipe.pyramid_strides, 2 * recipe.pyramid_strides[-1])
            return timm_faster_rcnn(
                classes,
                recipe.backbone,
                recipe.pyramid_strides,
                derived_anchors(levels, recipe.anchor_scale, recipe.min_size),
                recipe.pyramid_channels,
                recipe.representation_size,
                cast(Literal["batch", "frozen"], recipe.norm),
                recipe.trainable_layers,
                **options,
            )
        return faster_rcnn(classes, recipe.anchors, recipe.norm, recipe.trainable_layers, **options)

    if network is None:
        network = detector = build(len(info.classes))
        if train is not None and recipe.weights != "none":
            pretrained = Weights.COCO_V1, MobileNet_V3_Large_Weights.IMAGENET1K_V1
            start_detector(detector, recipe.weights, recipe.backbone, build, HEADS, info.classes, *pretrained)
    return detection.fp32_outputs(network).to(memory_format=detection.memory_format())


def check_architecture(model: nn.Module, info: DataInfo) -> list[str]:
    """Faster R-CNN with a pyramid and a predictor for the classes; the backbone, too, but for the sample."""
    detection.check_outputs(model, info)
    if not isinstance(model, FasterRCNN):
        return ["it is not a torchvision FasterRCNN"]
    violations, predictor = [], getattr(model.roi_heads, "box_predictor", None)
    if not isinstance(predictor, FastRCNNPredictor) or predictor.cls_score.out_features != len(info.classes) + 1:
        violations.append("its predictor is not a FastRCNNPredictor for the data's classes and the background")
    if not isinstance(getattr(model.backbone, "fpn", None), FeaturePyramidNetwork):
        return [*violations, "its backbone has no feature pyramid"]
    body = getattr(model.backbone, "body", model.backbone)
    if not info.is_sample and detection.kernel_shapes(body) != detection.kernel_shapes(mobilenet_v3_large().features):
        violations.append("its backbone is not MobileNetV3-Large")
    return violations


# --- Training loss ----------------------------------------------------------------------------------------------------


def training_loss(model: nn.Module, batch: transforms.Batch, recipe: Recipe) -> dict[str, Tensor]:
    """The sum of four losses: objectness and box regression (RPN), classification and box regression (RoI head)."""
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
