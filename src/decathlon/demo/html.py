"""The output of the tabs as HTML: images are embedded as data URLs, and every text is escaped."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from decathlon.demo import digits, images, models, reviews
from decathlon.reporting.html import PAGES

HINTS = {
    "digits": "Draw a digit, or click one below the pad.",
    "interpolation": "Draw a digit, or choose two.",
    "objects": "Drop an image, or click an example below.",
    "pets": "Drop an image of a cat or a dog, or click an example below.",
    "boxes": "Drop an image, or click an example below.",
    "reviews": "Type a film review, in English, or click an example below.",
}
MAX_WIDTH = 640  # pixels of an image on the page
SCORE_THRESHOLD = 0.4  # of detections that are visible at first
TOP_K = 5  # classes of CIFAR-10 that are listed
SENTIMENT = {"neg": "negative", "pos": "positive"}


def render_macro(macro: str, /, **values: Any) -> str:
    """Render a macro of `templates/demo.html`."""
    return str(getattr(PAGES.get_template("demo.html").module, macro)(**values))


def render_hint(tab: str) -> str:
    """The hint that a tab shows while it has no input."""
    return render_macro("hint", line=HINTS[tab])


def encode_image(image: Image.Image | np.ndarray) -> str:
    """Encode an image, scaled to at most MAX_WIDTH: a WebP if transparent, a PNG if small, else a JPEG."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    if max(image.size) > MAX_WIDTH:
        image = image.copy()
        image.thumbnail((MAX_WIDTH, MAX_WIDTH))
    options: dict[str, Any] = {}
    if image.mode == "RGBA":
        kind, options = "WEBP", {"quality": 85}  # a PNG of a cut-out is five times as large
    elif max(image.size) < 100:
        kind = "PNG"
    else:
        kind, options = "JPEG", {"quality": 88}
    content = io.BytesIO()
    image.save(content, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content.getvalue()).decode()}"


def format_aspect_ratio(image: Image.Image) -> str:
    """Width / height, for the style sheet."""
    return f"{image.width} / {image.height}"


def render_digit_predictions(predictions: digits.DigitPredictions) -> str:
    """The three networks' predictions; their input, its reconstruction and latent code."""
    cards = []
    for name, probabilities in predictions.probabilities.items():
        rows = sorted(probabilities.items())  # by digit, so that the rows keep their positions
        notes = ["fraction of its forest's trees"] if name == digits.TASKS[2] else []
        cards.append({"name": name, "best": next(iter(probabilities)), "rows": rows, "notes": notes})
    arrays = [
        ("the networks' input", predictions.image),
        ("the autoencoder's reconstruction", predictions.reconstruction),
        (
            f"its latent code, {len(predictions.code)} values: orange above 0, blue below",
            colour_code(predictions.code),
        ),
    ]
    figures = [{"url": encode_image(image), "caption": caption, "style": "dk-pixels"} for caption, image in arrays]
    return (
        render_macro("columns", cards=cards)
        + render_macro("figures", figures=figures)
        + describe_all(*predictions.probabilities)
    )


def colour_code(code: np.ndarray) -> np.ndarray:
    """A latent code as a square of colours: uint8 (side, side, 3); unused cells are grey."""
    side = int(np.ceil(np.sqrt(len(code))))
    values = np.zeros(side * side)
    values[: len(code)] = code / max(1e-6, float(np.abs(code).max()))
    opacity = np.abs(values)[:, None]
    colour = np.where(values[:, None] > 0, np.array([217, 119, 6]), np.array([37, 99, 235]))
    return (opacity * colour + (1 - opacity) * 238).round().astype(np.uint8).reshape(side, side, 3)


def render_interpolation(start: str, end: str, frames: np.ndarray) -> str:
    """The images of an interpolation, uint8 (N, 28, 28), side by side."""
    padded = np.pad(frames, ((0, 0), (0, 0), (0, 2)))
    return render_macro("strip", url=encode_image(np.concatenate(list(padded), 1)), start=start, end=end)


def render_image_classes(result: images.ImageClasses) -> str:
    """Both networks' most probable classes, their input, and the class activation map of `cifar10-skip`."""
    cards = [
        {
            "name": name,
            "best": next(iter(probabilities)),
            "rows": list(probabilities.items())[:TOP_K],
            "notes": [],
            "description": describe(name),
        }
        for name, probabilities in result.probabilities.items()
    ]
    figures = [
        {"url": encode_image(result.crop), "caption": "centre of the image", "style": "dk-image"},
        {
            "url": encode_image(result.network_input),
            "caption": "the networks' input: 32 × 32",
            "style": "dk-image dk-pixels",
        },
    ]
    if result.heatmap is not None:
        label = next(iter(result.probabilities["cifar10-skip"]))
        caption = f"regions that support {label} in cifar10-skip (LayerCAM)"
        figures.append({"url": encode_image(result.heatmap), "caption": caption, "style": "dk-image dk-heat"})
    return render_macro("columns", cards=cards) + render_macro("figures", figures=figures)


def render_pet_mask(result: images.PetMask) -> str:
    """The image under the cut-out, with a slider between them."""
    text = f"pet on {100 * result.fraction:.1f} % of the image"
    urls = {"image": encode_image(result.image), "cutout": encode_image(result.cutout)}
    return render_macro("pet", **urls, text=text, ratio=format_aspect_ratio(result.image)) + describe_all(images.PETS)


def render_detections(image: Image.Image, result: dict[str, list[images.DetectedObject]]) -> str:
    """Both detectors' boxes side by side, with a slider for the score threshold."""
    cards = [
        {
            "name": name,
            "description": describe(name),
            "count": sum(item.score >= SCORE_THRESHOLD for item in objects),
            "objects": [
                vars(item) | {"hue": choose_hue(item.name, models.get_network(name).classes)} for item in objects
            ],
        }
        for name, objects in result.items()
    ]
    return render_macro(
        "boxes", image=encode_image(image), ratio=format_aspect_ratio(image), cards=cards, threshold=SCORE_THRESHOLD
    )


def choose_hue(name: str, classes: list[str]) -> int:
    """The hue of a class, in degrees."""
    return round(360 * sorted(classes).index(name) / len(classes)) + 15


def render_review_predictions(predictions: dict[str, reviews.ReviewPrediction]) -> str:
    """Both networks' predictions, and the review with the attribution of each word."""
    cards = [
        {
            "name": name,
            "best": prediction.label,
            "sentiment": SENTIMENT.get(prediction.label, prediction.label),
            "percent": f"{100 * prediction.probabilities[prediction.label]:.0f} %",
            "rows": [(SENTIMENT.get(label, label), value) for label, value in sorted(prediction.probabilities.items())],
            "parts": prediction.parts,
            "words": prediction.words,
            "notes": prediction.notes,
            "description": describe(name),
        }
        for name, prediction in predictions.items()
    ]
    return render_macro("review", cards=cards)


def describe(name: str) -> str:
    """A network's training data, test metric and limitation."""
    network = models.get_network(name)
    return f"{network.description} {network.limit}".strip()


def describe_all(*names: str) -> str:
    """The descriptions of several networks; a limitation that they share is given once."""
    lines = [render_macro("description", name=name, text=models.get_network(name).description) for name in names]
    limits = dict.fromkeys(models.get_network(name).limit for name in names)
    return "".join([*lines, *(render_macro("description", name="", text=limit) for limit in limits if limit)])


def render_pad() -> str:
    """The pad: a canvas, a button, and digits to click."""
    rows = [{"name": digit, "url": encode_image(digits.load_example_digit(digit))} for digit in range(10)]
    return render_macro("pad", examples=rows)
