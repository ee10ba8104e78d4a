"""Object detection: the training loss, evaluation, prediction and plots of its tasks.

Two metrics are called AP. `map` is COCO's: the mean over classes and over ten IoU thresholds from 0.50 to 0.95 of the
area under the precision-recall curve (https://cocodataset.org/#detection-eval), by torchmetrics. VOC's of 2007,
`voc_ap50_11_point`, has a single IoU threshold, 0.50, and reads the curve at eleven recalls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.ops import clip_boxes_to_image, nms

from decathlon.data.base import Data, DataInfo, to_device
from decathlon.data.io.console import track_in_terminal
from decathlon.data.io.decoded_images import shrink
from decathlon.data.io.images import ImageInput, input_name, load_image, to_rgb
from decathlon.data.transforms.augment import to_float
from decathlon.data.transforms.detection import Batch, Target, order_by_aspect
from decathlon.data.voc import DetectionSplit
from decathlon.evaluation.detection_onnx import NMS_IOU, letterbox
from decathlon.evaluation.examples import record_detections
from decathlon.evaluation.onnx_graph import OnnxNetwork
from decathlon.evaluation.predictions import Detections, device_of, predict_in_batches
from decathlon.evaluation.voc_ap import eleven_point_ap, match_difficult, precision_recall

BATCH_SIZE = 8  # of evaluation
MAX_DETECTIONS = [1, 10, 100]  # of an image, for COCO's metrics; torchmetrics needs the last to be 100
MAX_BATCH_PIXELS = 8_000_000  # of the images that `predict` holds at once as float32, before the network scales them
KEYS = ("boxes", "labels", "scores")
MAX_PLOTTED = 12  # images in boxes.png


def training_loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """The sum of a detector's losses, as `loss`, and each of them by name."""
    device = next(model.parameters()).device
    images = [to_float(image.to(device, non_blocking=True)) for image in batch[0]]
    targets = [{k: value.to(device, non_blocking=True) for k, value in target.items()} for target in batch[1]]
    losses: dict[str, Tensor] = model(images, UncastTargets(targets))
    return {"loss": torch.stack(list(losses.values())).sum(), **losses}


class UncastTargets:
    """Targets hidden from Fabric, which casts tensors in lists: bfloat16 would round boxes by a pixel or more."""

    def __init__(self, targets: list[dict[str, Tensor]]) -> None:
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return iter(self.targets)


def fp32_outputs(model: nn.Module) -> nn.Module:
    """Make a torchvision detector compute its boxes in float32, whatever the precision of its convolutions.

    Anchors and boxes have the dtype of its features, and above 256 bfloat16 represents even integers only.
    """
    if isinstance(model, FasterRCNN):
        predictor = getattr(model.roi_heads, "box_predictor", None)  # a user's own heads may have another
        parts = [model.backbone, model.rpn.head, *([] if predictor is None else [predictor])]
    else:
        parts = [model.backbone, model.head] if isinstance(model, RetinaNet) else []
    for part in parts:
        part.register_forward_hook(lambda module, inputs, output: to_fp32(output))
    return model


def memory_format() -> torch.memory_format:
    """Memory format of detectors: channels-last is faster on a CPU; on CUDA each new image size would cost seconds."""
    return torch.contiguous_format if torch.cuda.is_available() else torch.channels_last


def to_fp32(values: Any) -> Any:
    """A tensor, or a list or dict of tensors, in float32."""
    if isinstance(values, dict):
        return type(values)((name, to_fp32(value)) for name, value in values.items())
    if isinstance(values, (list, tuple)):
        return type(values)(to_fp32(value) for value in values)
    return values.float()


# --- Evaluate ---------------------------------------------------------------------------------------------------------


def detect_split(model: nn.Module, split: DetectionSplit) -> tuple[list[Target], list[Target]]:
    """The detections of a model in evaluation mode on each image of a split, and the ground truth.

    Returns:
        For each image `boxes` (M, 4) in pixels of its file, `labels` (M,) and `scores` (M,); and `boxes`, `labels` and
        `difficult`, bool (M,), of the objects that it shows.
    """
    device = next(model.parameters()).device
    detections, targets = list[Target]([{}] * len(split)), list[Target]([{}] * len(split))
    chunks = order_by_aspect(split.shapes()).split(BATCH_SIZE)
    for chunk in track_in_terminal(chunks, "measuring", len(chunks)):
        examples = [split.example(index) for index in chunk.tolist()]
        outputs = model([to_float(to_device(image, device)) for image, _ in examples])
        for index, output, (_, target) in zip(chunk.tolist(), outputs, examples, strict=True):
            detections[index] = {
                "boxes": output["boxes"].detach().cpu().float() * target["scale"],
                "labels": output["labels"].cpu(),
                "scores": output["scores"].detach().cpu().float(),
            }
            targets[index] = {
                "boxes": target["boxes"] * target["scale"],
                "labels": target["labels"],
                "difficult": target["difficult"],
            }
    return detections, targets


def evaluate(model: nn.Module, split: DetectionSplit, classes: list[str]) -> dict[str, float]:
    """COCO's AP (`map`, `map_50`, `map_75`, by size, by class) and VOC's of 2007, fractions from 0 to 1.

    Sizes and classes of which the split has no object are left out.
    """
    return compute_metrics(*detect_split(model, split), classes)


def compute_metrics(detections: list[Target], targets: list[Target], classes: list[str]) -> dict[str, float]:
    """As `evaluate`, from what `detect_split` returns.

    Objects marked difficult do not count: neither as missed, nor detections that match them as false positives.
    """
    from torchmetrics.detection import MeanAveragePrecision

    # Only one process evaluates, so torchmetrics must not wait for the others.
    metric = MeanAveragePrecision(
        class_metrics=True, backend="faster_coco_eval", max_detection_thresholds=MAX_DETECTIONS, sync_on_compute=False
    )
    metric.warn_on_many_detections = False
    counted = leave_out_difficult(detections, targets)
    record_detections(*counted)
    metric.update(*counted)
    values = metric.compute()
    names = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large", f"mar_{MAX_DETECTIONS[-1]}")
    result = {name: values[name].item() for name in names if values[name] >= 0}
    by_class = zip(values["classes"].view(-1).tolist(), values["map_per_class"].view(-1).tolist(), strict=True)
    result |= {f"ap_{classes[label - 1]}": ap for label, ap in by_class if ap >= 0}
    curves = [precision_recall(detections, targets, label) for label in range(1, len(classes) + 1)]
    points = [eleven_point_ap(*curve) for curve in curves if curve is not None]
    voc = {"voc_ap50_11_point": float(np.mean(points)) if points else 0.0}
    return {"map": 0.0, "map_50": 0.0} | result | voc  # zeros where the split has no objects


def leave_out_difficult(detections: list[Target], targets: list[Target]) -> tuple[list[Target], list[Target]]:
    """Detections and targets without difficult objects, and without the detections that match these.

    Marking them as COCO's crowds would not do: crowds are matched by intersection over the detection's area, so any
    small box in a large difficult object would be left out.
    """
    kept_detections, kept_targets = [], []
    for detection, target in zip(detections, targets, strict=True):
        matches_none, not_difficult = ~match_difficult(detection, target), ~target["difficult"]
        kept_detections.append({name: detection[name][matches_none] for name in KEYS})
        kept_targets.append({name: target[name][not_difficult] for name in ("boxes", "labels")})
    return kept_detections, kept_targets


# --- Architecture -----------------------------------------------------------------------------------------------------


def check_outputs(model: nn.Module, info: DataInfo) -> None:
    """Raise ValueError unless a network takes a list of images and returns boxes, labels and scores of each."""
    image = torch.zeros(3, 64, 96, device=next(model.parameters()).device)
    training = model.training
    try:
        with torch.no_grad():
            (output,) = model.eval()([image])
        boxes, labels, scores = (output[name] for name in ("boxes", "labels", "scores"))
        fits = boxes.shape == (len(scores), 4) and labels.shape == scores.shape and scores.ndim == 1
        classes = len(info.classes)
        reason = "" if fits and bool((labels <= classes).all()) else "its boxes, labels and scores do not fit together"
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
    finally:
        model.train(training)
    if reason:
        raise ValueError(
            "the network must take a list of images (3, H, W) and return boxes (M, 4), labels (M,) and scores (M,) of "
            f"each, and with targets its losses: {reason}"
        )


def kernel_shapes(network: nn.Module) -> list[tuple[int, ...]]:
    """The kernel shapes of all convolutions, which identify a backbone."""
    return [tuple(module.weight.shape) for module in network.modules() if isinstance(module, nn.Conv2d)]


# --- Predict ----------------------------------------------------------------------------------------------------------


def select_detections(output: Target, threshold: float) -> Target:
    """The detections to report: scores of at least `threshold`, after class-agnostic NMS.

    Metrics are computed from all detections, where an object may have several labels, each with its score.
    """
    kept = (output["scores"] >= threshold) & (output["labels"] > 0)  # RetinaNet scores the background class, too
    order = nms(output["boxes"][kept], output["scores"][kept], NMS_IOU)  # by decreasing score
    return {name: output[name][kept][order] for name in ("boxes", "labels", "scores")}


def detect(model: nn.Module, images: list[Tensor]) -> list[Target]:
    """All detections in uint8 images (3, H, W) of any sizes: boxes (M, 4) in their pixels, labels and scores (M,)."""
    if isinstance(model, OnnxNetwork):
        return [detect_by_onnx(model, image) for image in images]
    device, outputs = device_of(model), list[Target]()
    for batch in limit_pixels(images):
        with torch.no_grad():
            outputs += model.eval()([to_float(image.to(device)) for image in batch])
    return [
        {name: output[name].float().cpu() if name != "labels" else output[name].cpu() for name in KEYS}
        for output in outputs
    ]


def limit_pixels(images: list[Tensor]) -> Iterator[list[Tensor]]:
    """The images in their order, in batches of at most `MAX_BATCH_PIXELS`, or of one image."""
    batch, pixels = list[Tensor](), 0
    for image in images:
        size = image.shape[1] * image.shape[2]
        if batch and pixels + size > MAX_BATCH_PIXELS:
            yield batch
            batch, pixels = [], 0
        batch, pixels = [*batch, image], pixels + size
    if batch:
        yield batch


def detect_by_onnx(model: OnnxNetwork, image: Tensor) -> Target:
    """As `detect`, by an exported network, which takes one image of one size.

    Raises:
        ValueError: It returns labels without a class name.
    """
    height, width = image.shape[1:]
    canvas, size = letterbox(
        to_float(image), model.input_entry("min_size"), model.input_entry("size")[0], model.input_entry("pad_value")
    )
    boxes, labels, scores = model(canvas)
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(model.metadata["labels"]):
        raise ValueError("the file is damaged: it returns labels without a class name")
    boxes = boxes * torch.tensor([width / size[1], height / size[0]] * 2)
    return {"boxes": clip_boxes_to_image(boxes, (height, width)), "labels": labels, "scores": scores}


def _scale_to(large: np.ndarray, small: np.ndarray) -> np.ndarray:
    """By what boxes (M, 4) on a smaller copy of an image (H, W, 3) are multiplied: float32 (4,)."""
    return np.array([large.shape[1] / small.shape[1], large.shape[0] / small.shape[0]] * 2, np.float32)


def predict(
    model: nn.Module, inputs: Sequence[ImageInput], threshold: float, info: DataInfo, batch_size: int, longest: int
) -> list[Detections | Exception]:
    """Detect objects in images of any size, a batch at a time.

    Larger images are made smaller first, as those of a training were: the detector scales without antialiasing.

    Args:
        model: The detector.
        inputs: The images.
        threshold: Score from which an object is reported.
        info: Class names.
        batch_size: Images that go through the network at once.
        longest: Pixels of a longer side, as in training.

    Returns:
        For each input its prediction, or the error of an input that cannot be read.
    """

    def read(value: ImageInput, index: int) -> tuple[str, np.ndarray, np.ndarray]:
        image = to_rgb(load_image(value))
        return input_name(value, index), np.array(image), np.array(shrink(image, longest))

    def predict_batch(examples: list[tuple[str, np.ndarray, np.ndarray]]) -> list[Detections]:
        images = [torch.from_numpy(small).permute(2, 0, 1) for _, _, small in examples]  # (H, W, 3) -> (3, H, W)
        selected = [select_detections(output, threshold) for output in detect(model, images)]
        return [
            Detections(
                input=name,
                boxes=output["boxes"].numpy() * _scale_to(pixels, small),
                labels=tuple(info.classes[label - 1] for label in output["labels"].tolist()),
                scores=output["scores"].numpy(),
                image=pixels,
            )
            for (name, pixels, small), output in zip(examples, selected, strict=True)
        ]

    return predict_in_batches(inputs, read, predict_batch, batch_size)


# --- Plots ------------------------------------------------------------------------------------------------------------


def plot_validation(model: nn.Module, data: Data, score_threshold: float, folder: Path) -> None:
    """boxes.png, precision.png and classes.png, of the validation split."""
    from decathlon.evaluation import detection_plots

    split, classes = data.validation, data.info.classes
    assert isinstance(split, DetectionSplit)
    detections, targets = detect_split(model, split)
    examples = [split.example(index) for index in range(min(MAX_PLOTTED, len(split)))]
    selected = [select_detections(output, score_threshold) for output in detections[:MAX_PLOTTED]]
    detection_plots.scenes(
        [image for image, _ in examples],
        [target["boxes"] for _, target in examples],
        [
            output | {"boxes": output["boxes"] / target["scale"]}
            for output, (_, target) in zip(selected, examples, strict=True)
        ],
        classes,
        folder / "boxes.png",
    )
    curves = {name: precision_recall(detections, targets, label) for label, name in enumerate(classes, 1)}
    detection_plots.precision_recall({k: v for k, v in curves.items() if v is not None}, folder / "precision.png")
    values = compute_metrics(detections, targets, classes)
    by_class = {name: values[f"ap_{name}"] for name in classes if f"ap_{name}" in values}
    detection_plots.average_precisions(by_class, folder / "classes.png")
