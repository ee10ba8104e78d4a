"""What `predict` returns: a dataclass for each kind of task, with `to_dict` and `plot`; and prediction in batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import nn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

E = TypeVar("E")
P = TypeVar("P", bound="Prediction")
MAX_IMAGE_SIDE = 1600  # pixels: a larger image is scaled down before boxes are drawn on it


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What every prediction has.

    Attributes:
        input: The path or text; for an array, tensor or PIL image `input 3`, with its index.
        notes: Remarks on how the input was prepared, such as that a long text was cut.
    """

    input: str
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        raise NotImplementedError

    def plot(self) -> Figure:
        """A figure that shows the prediction."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Classification(Prediction):
    """An image's class.

    Attributes:
        label: The most probable class.
        probabilities: Of each class, the most probable first.
        image: The pixels that the network was given, uint8 (H, W) or (H, W, 3).
    """

    label: str
    probabilities: dict[str, float]
    image: np.ndarray | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """`input`, `label`, `probabilities` and `notes`."""
        return {
            "input": self.input,
            "label": self.label,
            "probabilities": self.probabilities,
            "notes": list(self.notes),
        }

    def plot(self) -> Figure:
        """The image, and its ten most probable classes as bars."""
        from decathlon.evaluation import prediction_plots

        return prediction_plots.classification(self.label, self.probabilities, self.image)


@dataclass(frozen=True, kw_only=True)
class TextClassification(Prediction):
    """A text's class.

    Attributes:
        label: The most probable class.
        probabilities: Of each class, the most probable first.
        attributions: Each word that was read with its contribution to the label's logit; empty where the network
            returns none.
    """

    label: str
    probabilities: dict[str, float]
    attributions: tuple[tuple[str, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """`input`, `label`, `probabilities`, `notes`, and `attributions` where there are any."""
        attributions = {"attributions": [list(pair) for pair in self.attributions]} if self.attributions else {}
        return {
            "input": self.input,
            "label": self.label,
            "probabilities": self.probabilities,
            "notes": list(self.notes),
            **attributions,
        }

    def plot(self) -> Figure:
        """The ten words with the largest attributions as bars; without attributions the probabilities."""
        from decathlon.evaluation import prediction_plots

        return prediction_plots.text_classification(self.label, self.probabilities, self.attributions)


@dataclass(frozen=True, kw_only=True)
class Segmentation(Prediction):
    """A mask of an image.

    Attributes:
        label: Name of the foreground class.
        probability: Of the foreground at each pixel, float (H, W), at the image's own size.
        image: The upright image, uint8 (H, W, 3).
    """

    label: str
    probability: np.ndarray = field(repr=False, compare=False)
    image: np.ndarray = field(repr=False, compare=False)

    @property
    def mask(self) -> np.ndarray:
        """Where the foreground is more probable than not, bool (H, W)."""
        return self.probability > 0.5

    @property
    def fraction(self) -> float:
        """The fraction of the pixels that is foreground."""
        return round(float(self.mask.mean()), 4)

    def to_dict(self) -> dict[str, Any]:
        """`input`, `label`, `fraction`, `size` (width, height) and `notes`; the mask itself is what `save` writes."""
        height, width = self.probability.shape
        return {
            "input": self.input,
            "label": f"{self.label} on {100 * self.fraction:.1f} % of the image",
            "fraction": self.fraction,
            "size": [width, height],
            "notes": list(self.notes),
        }

    def plot(self) -> Figure:
        """The image, the mask over it, and the cut-out."""
        from decathlon.evaluation import prediction_plots

        return prediction_plots.segmentation(self.label, self.image, self.probability)

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """Write STEM-mask.png, STEM-overlay.png and STEM-cutout.png; a number is added where a file exists already."""
        from decathlon.evaluation import mask_images

        return mask_images.write(Image.fromarray(self.image), self.probability, stem, Path(folder))


@dataclass(frozen=True, kw_only=True)
class Detections(Prediction):
    """The objects in an image, in the order of their scores.

    Attributes:
        boxes: Left, top, right, bottom in pixels of the upright image, float (M, 4).
        labels: Their classes, M names.
        scores: From 0 to 1, float (M,).
        image: The upright image, uint8 (H, W, 3).
    """

    boxes: np.ndarray
    labels: tuple[str, ...]
    scores: np.ndarray
    image: np.ndarray = field(repr=False, compare=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Detections):
            return NotImplemented
        same = (self.input, self.notes, self.labels) == (other.input, other.notes, other.labels)
        return same and np.array_equal(self.boxes, other.boxes) and np.array_equal(self.scores, other.scores)

    def to_dict(self) -> dict[str, Any]:
        """`input`, `label` (how many of each class), `objects` with class, score and box, `size` and `notes`.

        `size` is [width, height] of the upright image, in whose pixels the boxes are.
        """
        rows = zip(self.labels, self.scores.tolist(), self.boxes.tolist(), strict=True)
        objects = [
            {"class": name, "score": round(score, 4), "box": [round(value, 1) for value in box]}
            for name, score, box in rows
        ]
        return {
            "input": self.input,
            "label": count_labels(self.labels),
            "objects": objects,
            "size": [self.image.shape[1], self.image.shape[0]],
            "notes": list(self.notes),
        }

    def plot(self) -> Figure:
        """The image with the boxes, their classes and scores."""
        from decathlon.evaluation import prediction_plots

        return prediction_plots.detections(self.image, self.boxes, self.labels, self.scores)

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """Write STEM-boxes.png, the image with its boxes; a number is added where it exists already."""
        from decathlon.data.io.decoded_images import shrink
        from decathlon.evaluation import detection_plots

        folder, number = Path(folder), 1
        path = folder / f"{stem}-boxes.png"
        while path.exists():
            number += 1
            path = folder / f"{stem}-{number}-boxes.png"
        image = Image.fromarray(self.image)
        smaller = shrink(image, MAX_IMAGE_SIDE)
        scale = smaller.width / image.width
        detection_plots.draw_boxes(
            torch.from_numpy(np.array(smaller)).permute(2, 0, 1),  # (H, W, 3) -> (3, H, W)
            (self.boxes * scale).tolist(),
            [f"{name} {score:.2f}" for name, score in zip(self.labels, self.scores, strict=True)],
            path,
        )
        return [path]


def count_labels(labels: Sequence[str]) -> str:
    """`2 cat, 1 boat`: how many of each class, the most frequent first."""
    return ", ".join(f"{count} {name}" for name, count in Counter(labels).most_common()) or "nothing found"


def require_text(value: Any) -> None:
    """Raise ValueError where an input of a text task is no string."""
    if not isinstance(value, str):
        raise ValueError(f"a text must be a string, not {type(value).__name__}")


def predict_in_batches(
    inputs: Sequence[Any], read: Callable[[Any, int], E], predict_batch: Callable[[list[E]], list[P]], batch_size: int
) -> list[P | Exception]:
    """Read each input once, and predict for those that can be read, a batch at a time.

    Args:
        inputs: The user's inputs.
        read: From an input and its index to an example.
        predict_batch: From examples to their predictions.
        batch_size: Inputs in a batch; a prediction keeps the image that it shows.

    Returns:
        For each input its prediction, or the ValueError or OSError that `read` raised.
    """
    results: list[P | Exception] = []
    for start in range(0, len(inputs), batch_size):
        examples: list[E] = []
        errors: list[Exception | None] = []
        for index, value in enumerate(inputs[start : start + batch_size], start):
            try:
                examples.append(read(value, index))
                errors.append(None)
            except (OSError, ValueError) as error:
                errors.append(error)
        predictions = iter(predict_batch(examples) if examples else [])
        results += [next(predictions) if error is None else error for error in errors]
    return results


def device_of(model: nn.Module) -> torch.device:
    """The device of a network's weights; the CPU for a network without any, as one that onnxruntime runs."""
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device
