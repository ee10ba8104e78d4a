"""What the tasks that find things in pictures share: the step, measuring, predicting and drawing.

Two measures go by the name of AP. `map` is COCO's: the mean over classes and over ten overlaps from 0.50 to 0.95 of the
area under the curve of precision by recall (https://cocodataset.org/#detection-eval), by torchmetrics. VOC's own of
2007, `voc_ap50_11_point`, takes one overlap, 0.50, and eleven points of the curve.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.detection import MeanAveragePrecision
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import box_iou, clip_boxes_to_image, nms

from decathlon import plots
from decathlon.augment import to_float
from decathlon.boxes import Batch, Target, fitting, grouped
from decathlon.data import Data
from decathlon.data.pictures import read, scaled
from decathlon.data.voc import Scenes
from decathlon.portable import Graph, Session
from decathlon.progress import tracked

AT_ONCE = 8  # pictures, when measuring
MOST = [1, 10, 100]  # detections in a picture that COCO's measure looks at; the last must stay 100
OVERLAP = 0.5  # of a detection with a thing, intersection by union, from which VOC says that it is found
RECALLS = np.linspace(0, 1, 11)  # where VOC looks at the curve of precision by recall
SHOWN = 12  # pictures in boxes.png
ALIKE = 0.7  # overlap from which two boxes are shown as one thing, under its surest name
STRIDE = 32  # of which a picture's sides must be multiples for the detectors not to pad it
LARGEST = 1600  # pixels of the longer side of a picture that `predict` draws on


def step(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """The sum of a detector's losses, as `loss`, and each of them."""
    device = next(model.parameters()).device
    pictures = [to_float(picture.to(device)) for picture in batch[0]]
    targets = [{name: value.to(device) for name, value in target.items()} for target in batch[1]]
    losses: dict[str, Tensor] = model(pictures, Exact(targets))
    return {"loss": torch.stack(list(losses.values())).sum(), **losses}


class Exact:
    """Targets in which Fabric, which looks into lists, finds no boxes: mixed precision would round them by a pixel."""

    def __init__(self, targets: list[dict[str, Tensor]]) -> None:
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return iter(self.targets)


def exact(model: nn.Module) -> nn.Module:
    """Let a detector of torchvision's compute boxes in float32, whatever the precision of its convolutions.

    It makes anchors and boxes in the type of its features, and bfloat16 knows only even numbers from 256 on.
    """
    if isinstance(model, FasterRCNN):
        parts = [model.backbone, model.rpn.head, model.roi_heads.box_predictor]
    else:
        parts = [model.backbone, model.head] if isinstance(model, RetinaNet) else []
    for part in parts:
        part.register_forward_hook(lambda module, given, output: in_float32(output))
    return model


def in_float32(values: Any) -> Any:
    """The same tensors, lists and tables of tensors, in float32."""
    if isinstance(values, dict):
        return type(values)((name, in_float32(value)) for name, value in values.items())
    if isinstance(values, (list, tuple)):
        return type(values)(in_float32(value) for value in values)
    return values.float()


# --- Measuring --------------------------------------------------------------------------------------------------------


def found(model: nn.Module, split: Scenes) -> tuple[list[Target], list[Target]]:
    """What a detector in evaluation mode finds in each picture of a split, and what is there.

    Returns:
        `boxes` (M, 4) in pixels of the picture's file, `labels` (M,), and `scores` (M,) of each picture; and `boxes`,
        `labels` and `iscrowd` (M,), 1 where VOC says that it is difficult: whether that is found does not count.
    """
    device = next(model.parameters()).device
    detections, truths = list[Target]([{}] * len(split)), list[Target]([{}] * len(split))
    chunks = grouped(split.shapes()).split(AT_ONCE)
    for chunk in tracked(chunks, "measuring", len(chunks)):
        examples = [split.example(place) for place in chunk.tolist()]
        outputs = model([to_float(picture.to(device)) for picture, _ in examples])
        for place, output, (_, target) in zip(chunk.tolist(), outputs, examples, strict=True):
            seen = {name: output[name].detach().cpu() for name in ("boxes", "labels", "scores")}
            detections[place] = seen | {
                "boxes": seen["boxes"].float() * target["scale"],
                "scores": seen["scores"].float(),
            }
            truths[place] = {
                "boxes": target["boxes"] * target["scale"],
                "labels": target["labels"],
                "iscrowd": target["difficult"].long(),
            }
    return detections, truths


def evaluate(model: nn.Module, split: Scenes, classes: list[str]) -> dict[str, float]:
    """COCO's AP (`map`, `map_50`, `map_75`, by size, by class) and VOC's of 2007, fractions from 0 to 1.

    Sizes and classes of which the split has nothing are left out.
    """
    return measured(*found(model, split), classes)


def measured(detections: list[Target], truths: list[Target], classes: list[str]) -> dict[str, float]:
    """As `evaluate`, of what `found` gives."""
    # One process measures alone: without the last option torchmetrics would wait for the others, which wait for it.
    metric = MeanAveragePrecision(
        class_metrics=True, backend="faster_coco_eval", max_detection_thresholds=MOST, sync_on_compute=False
    )
    metric.warn_on_many_detections = False
    metric.update(detections, truths)
    values = metric.compute()
    names = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large", f"mar_{MOST[-1]}")
    result = {name: values[name].item() for name in names if values[name] >= 0}
    each = zip(values["classes"].view(-1).tolist(), values["map_per_class"].view(-1).tolist(), strict=True)
    result |= {f"ap_{classes[label - 1]}": ap for label, ap in each if ap >= 0}
    curves = [precision_recall(detections, truths, label) for label in range(1, len(classes) + 1)]
    points = [eleven_points(*curve) for curve in curves if curve is not None]
    whole = {"map": 0.0, "map_50": 0.0} | result  # a split without anything to be found
    return whole | {"voc_ap50_11_point": float(np.mean(points)) if points else 0.0}


def precision_recall(
    detections: list[Target], truths: list[Target], label: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Precision and recall of a class as its detections are taken in, the surest first, at an overlap of 0.5.

    A detection counts for the thing that it overlaps most, if that is enough. A second one for the same thing is wrong;
    one for a difficult thing is not counted. (Everingham et al. 2010, IJCV 88, section 4.2)

    Returns:
        Two arrays, an entry a detection; None where there is nothing of the class to be found.
    """
    scores, right, total = list[float](), list[bool](), 0
    for seen, there in zip(detections, truths, strict=True):
        things, hard = (there[name][there["labels"] == label] for name in ("boxes", "iscrowd"))
        total += int((hard == 0).sum())
        of_class = seen["labels"] == label
        order = seen["scores"][of_class].argsort(descending=True, stable=True)
        overlaps = box_iou(seen["boxes"][of_class][order], things)
        taken = set[int]()
        for score, overlap in zip(seen["scores"][of_class][order].tolist(), overlaps, strict=True):
            nearest = int(overlap.argmax()) if len(things) else -1
            hit = nearest >= 0 and float(overlap[nearest]) >= OVERLAP
            if hit and hard[nearest]:
                continue
            scores.append(score)
            right.append(hit and nearest not in taken)
            taken |= {nearest} if hit else set()
    if not total:
        return None
    order_ = np.argsort(-np.array(scores), kind="stable")
    hits = np.cumsum(np.array(right, bool)[order_])
    return hits / np.arange(1, len(hits) + 1), hits / total


def eleven_points(precision: np.ndarray, recall: np.ndarray) -> float:
    """VOC's AP of 2007: the mean, over recalls of 0, 0.1, … 1, of the best precision at that recall or a higher one."""
    return float(np.mean([max(precision[recall >= least - 1e-9], default=0.0) for least in RECALLS]))


# --- Rules ------------------------------------------------------------------------------------------------------------


def check(model: nn.Module, meta: dict[str, Any]) -> None:
    """Raise ValueError unless a network takes a list of pictures and gives boxes, labels and scores of each."""
    picture = torch.zeros(3, 64, 96, device=next(model.parameters()).device)
    training = model.training
    try:
        with torch.no_grad():
            (output,) = model.eval()([picture])
        boxes, labels, scores = (output[name] for name in ("boxes", "labels", "scores"))
        fits = boxes.shape == (len(scores), 4) and labels.shape == scores.shape and scores.ndim == 1
        classes = len(meta["classes"])
        reason = "" if fits and bool((labels <= classes).all()) else "its boxes, labels and scores do not fit together"
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
    finally:
        model.train(training)
    if reason:
        raise ValueError(
            "the network must take a list of pictures (3, H, W) and give boxes (M, 4), labels (M,) and scores (M,) of "
            f"each, and with targets its losses: {reason}"
        )


def kernels(network: nn.Module) -> list[tuple[int, ...]]:
    """The shapes of all convolutions' kernels: what makes a backbone the one it is called."""
    return [tuple(module.weight.shape) for module in network.modules() if isinstance(module, nn.Conv2d)]


# --- Predict ----------------------------------------------------------------------------------------------------------


def shown(output: Target, threshold: float) -> Target:
    """What is to be said of a picture: what is sure enough, and each thing under its surest name only.

    Measures take all detections; there a thing may have several names, each as sure as it is.
    """
    sure = (output["scores"] >= threshold) & (output["labels"] > 0)  # RetinaNet has a score for the background, too
    kept = nms(output["boxes"][sure], output["scores"][sure], ALIKE)  # the surest first
    return {name: output[name][sure][kept] for name in ("boxes", "labels", "scores")}


def seen(model: nn.Module, pixels: Tensor) -> Target:
    """All that a detector finds in one picture uint8 (3, H, W)."""
    if not isinstance(model, Session):
        device = next(model.parameters()).device
        with torch.no_grad():
            (output,) = model.eval()([to_float(pixels.to(device))])
        return output
    high, wide = pixels.shape[1:]
    canvas, size = letterboxed(to_float(pixels), model.told("shorter"), model.told("size")[0], model.told("fill"))
    boxes, labels, scores = model(canvas)
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(model.facts["labels"]):
        raise ValueError("the file is damaged: it gives labels that have no name")
    boxes = boxes * torch.tensor([wide / size[1], high / size[0]] * 2)
    return {"boxes": clip_boxes_to_image(boxes, (high, wide)), "labels": labels, "scores": scores}


def letterboxed(picture: Tensor, shorter: int, side: int, fill: list[float]) -> tuple[Tensor, tuple[int, int]]:
    """Put a picture into the upper left corner of a square, scaled as the detectors do it, but to fit.

    Args:
        picture: Float (3, H, W) from 0 to 1.
        shorter: Pixels to which its shorter side is scaled, unless the longer one would have more than `side`.
        side: Of the square.
        fill: The colour of the rest: the mean by which the detector normalises, so that there it is 0, as its padding.

    Returns:
        Float (1, 3, side, side), and the height and width that the picture has in it.
    """
    size = fitting(picture.shape[1], picture.shape[2], (shorter, side))
    canvas = torch.tensor(fill).view(1, 3, 1, 1).repeat(1, 1, side, side)
    canvas[..., : size[0], : size[1]] = F.interpolate(picture[None], size, mode="bilinear")
    return canvas, size


class Flat(nn.Module):
    """A detector for squares of one size that are neither scaled nor padded any more."""

    def __init__(self, model: nn.Module, side: int) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).eval()
        if isinstance(transform := getattr(self.model, "transform", None), GeneralizedRCNNTransform):
            transform.fixed_size = (side, side)
        if isinstance(heads := getattr(self.model, "roi_heads", None), RoIHeads):
            heads.box_coder.decode = partial(decoded, heads.box_coder)

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Float (1, 3, side, side) -> boxes (M, 4), labels (M,), scores (M,)."""
        (output,) = self.model([picture[0]])
        return output["boxes"], output["labels"], output["scores"]


def decoded(coder: Any, codes: Tensor, regions: list[Tensor]) -> Tensor:
    """What torchvision's `BoxCoder.decode` gives: boxes (M, classes, 4). A trace of that cannot do without any region.

    Args:
        coder: The coder.
        codes: Offsets (M, classes · 4).
        regions: To which they are, of each picture; M together.
    """
    return coder.decode_single(codes, torch.cat(regions)).unflatten(1, (int(codes.shape[1]) // 4, 4))


def graph(model: nn.Module, size: tuple[int, int], threshold: float, meta: dict[str, Any]) -> Graph:
    """A detector for one size, to be written as ONNX: torchvision's follow the size that they are traced with.

    Args:
        model: The detector.
        size: To how many pixels it scales the shorter side, and the longer one at most.
        threshold: Score from which `predict` names a thing.
        meta: Of the data.
    """
    # Pictures of up to 4:3, most photos, keep the scale the detector was trained at; longer ones are made smaller.
    side = -(-min(size[1], size[0] * 4 // 3) // STRIDE) * STRIDE
    fill = list(getattr(getattr(model, "transform", None), "image_mean", [0.5] * 3))
    reading = (
        f"upright (EXIF), RGB, divided by 255; shorter side scaled to {size[0]} (bilinear), less where the longer "
    )
    facts = {
        "preprocessing": f"{reading}one would have more than {side}; put into the upper left corner of a square of "
        f"{side}×{side} that is filled with input.fill; normalising is inside",
        "answer": "boxes (left, top, right, bottom) scaled back and cut at the picture's edge; scores from "
        f"{threshold}; of boxes that overlap by {ALIKE} or more the surest",
        "labels": ["(background)", *meta["classes"]],
        "input": {
            **{"layout": "NCHW", "colours": "RGB", "size": [side, side], "scale": 1 / 255, "mean": [0.0], "std": [1.0]},
            **{"shorter": size[0], "fill": fill, "threshold": threshold, "alike": ALIKE},
        },
    }
    return Graph(Flat(model, side), torch.rand(1, 3, side, side), "picture", ("boxes", "labels", "scores"), {}, facts)


def predict(
    model: nn.Module, inputs: list[str], threshold: float, meta: dict[str, Any], name: str
) -> list[dict[str, Any]]:
    """The things in photos of any size, and a picture of each with their boxes, written into the current folder.

    Returns:
        An answer a photo: `input`, `label` (the things in words), `objects` with class, score and box (left, top,
        right, bottom in pixels of the upright photo), and `picture`, the file that was written.

    Raises:
        FileNotFoundError, ValueError: An input is no picture that can be read: names it.
    """
    answers = list[dict[str, Any]]()
    for path in inputs:
        image = read(Path(path))[0]
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)  # (H, W, 3) -> (3, H, W)
        output = shown(seen(model, pixels), threshold)
        objects = [
            {"class": meta["classes"][label - 1], "score": round(score, 4), "box": [round(value, 1) for value in box]}
            for label, score, box in zip(*(output[key].tolist() for key in ("labels", "scores", "boxes")), strict=True)
        ]
        smaller = scaled(image, LARGEST)
        factor = smaller.width / image.width
        same = sum(Path(one["input"]).stem == Path(path).stem for one in answers)  # of other folders
        drawn = Path(f"{Path(path).stem}-{name}{f'-{same + 1}' if same else ''}.png")
        plots.boxed(
            torch.from_numpy(np.array(smaller)).permute(2, 0, 1),
            [[value * factor for value in one["box"]] for one in objects],
            [f"{one['class']} {one['score']:.2f}" for one in objects],
            drawn,
        )
        words = in_words([one["class"] for one in objects])
        answers.append({"input": path, "label": words, "objects": objects, "picture": str(drawn)})
    return answers


def in_words(names: list[str]) -> str:
    """`2 cat, 1 boat`: how many of each, the most frequent first."""
    return ", ".join(f"{count} {name}" for name, count in Counter(names).most_common()) or "nothing found"


# --- Show -------------------------------------------------------------------------------------------------------------


def show(model: nn.Module, data: Data, threshold: float, folder: Path) -> None:
    """boxes.png, precision.png and classes.png, of the validation split."""
    split, classes = data.validation, data.meta["classes"]
    assert isinstance(split, Scenes)
    detections, truths = found(model, split)
    examples = [split.example(place) for place in range(min(SHOWN, len(split)))]
    plots.scenes(
        [picture for picture, _ in examples],
        [target["boxes"] for _, target in examples],
        [
            seen | {"boxes": seen["boxes"] / target["scale"]}
            for seen, (_, target) in zip((shown(one, threshold) for one in detections), examples, strict=False)
        ],
        classes,
        folder / "boxes.png",
    )
    curves = {name: precision_recall(detections, truths, label) for label, name in enumerate(classes, 1)}
    plots.precision_recall({k: v for k, v in curves.items() if v is not None}, folder / "precision.png")
    values = measured(detections, truths, classes)
    by_class = {name: values[f"ap_{name}"] for name in classes if f"ap_{name}" in values}
    plots.bars(by_class, folder / "classes.png", "AP (COCO, 0.50 to 0.95) by class, validation")
