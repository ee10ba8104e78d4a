"""What a tab shows, as HTML: pictures are in it as data, and every text is escaped."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from decathlon.demo import digits, models, photos, reviews
from decathlon.report import PAGES

EMPTY = {
    "digits": "Draw a digit, or click one below the pad.",
    "walk": "Draw a digit, or choose two.",
    "things": "Drop a photo, or click an example below.",
    "pets": "Drop a photo of a cat or a dog, or click an example below.",
    "boxes": "Drop a photo, or click an example below.",
    "reviews": "Type a review of a film, in English, or click an example below.",
}
WIDEST = 640  # pixels of a picture that is shown
THRESHOLD = 0.4  # score from which things are shown at first
TOP = 5  # classes of CIFAR-10 that are listed
SENTIMENT = {"neg": "negative", "pos": "positive"}


def part(name: str, /, **values: Any) -> str:
    """A part of the page, as `templates/demo.html` has it."""
    return str(getattr(PAGES.get_template("demo.html").module, name)(**values))


def empty(tab: str) -> str:
    """What a tab shows before there is an answer."""
    return part("empty", line=EMPTY[tab])


def data_url(image: Image.Image | np.ndarray) -> str:
    """A picture as data, at most `WIDEST` wide: a PNG where it is small or transparent, else a JPEG."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    if max(picture.size) > WIDEST:
        picture = picture.copy()
        picture.thumbnail((WIDEST, WIDEST))
    kind = "PNG" if picture.mode == "RGBA" or max(picture.size) < 100 else "JPEG"
    if picture.mode == "RGBA":
        kind, options = "WEBP", {"quality": 85}  # a PNG of a cut-out is five times as large
    else:
        options = {"quality": 88} if kind == "JPEG" else {}
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content.getvalue()).decode()}"


def ratio(image: Image.Image) -> str:
    """Width / height, for the style sheet."""
    return f"{image.width} / {image.height}"


def digits_of(found: digits.Answers) -> str:
    """The three networks' answers; the drawing as they see it, its reconstruction and its code."""
    cards = []
    for name, probabilities in found.probabilities.items():
        rows = sorted(probabilities.items())  # in the order of the digits, so that they stay where they are
        note = ["trees of its forest"] if name == digits.TASKS[2] else []
        cards.append({"name": name, "best": next(iter(probabilities)), "rows": rows, "notes": note})
    pictures = [
        {"url": data_url(found.seen), "caption": "what the networks see", "style": "dk-pixels"},
        {"url": data_url(found.reconstruction), "caption": "the autoencoder's reconstruction", "style": "dk-pixels"},
        {
            "url": data_url(coloured(found.code)),
            "caption": f"its code, {len(found.code)} values: orange above 0, blue below",
            "style": "dk-pixels",
        },
    ]
    named = [one | {"alt": one["caption"]} for one in pictures]
    return part("columns", cards=cards) + part("figures", pictures=named) + weights(*found.probabilities)


def coloured(code: np.ndarray) -> np.ndarray:
    """A code as a square of colours: uint8 (side, side, 3); what is left of the square is grey."""
    side = int(np.ceil(np.sqrt(len(code))))
    values = np.zeros(side * side)
    values[: len(code)] = code / max(1e-6, float(np.abs(code).max()))
    share = np.abs(values)[:, None]
    colour = np.where(values[:, None] > 0, np.array([217, 119, 6]), np.array([37, 99, 235]))
    return (share * colour + (1 - share) * 238).round().astype(np.uint8).reshape(side, side, 3)


def walk(start: str, end: str, pictures: np.ndarray) -> str:
    """The pictures of a walk, uint8 (N, 28, 28), side by side."""
    padded = np.pad(pictures, ((0, 0), (0, 0), (0, 2)))
    return part("strip", url=data_url(np.concatenate(list(padded), 1)), start=start, end=end)


def things(found: photos.Things) -> str:
    """Both networks' likeliest classes, what they see, and where `cifar10-skip` looks."""
    cards = [
        {"name": name, "best": next(iter(said)), "rows": list(said.items())[:TOP], "notes": [], "told": told(name)}
        for name, said in found.probabilities.items()
    ]
    pictures = [
        {"url": data_url(found.seen), "caption": "the middle of the photo", "style": "dk-photo"},
        {"url": data_url(found.small), "caption": "what the networks see: 32 × 32", "style": "dk-photo dk-pixels"},
    ]
    if found.heat is not None:
        where = f"what speaks for {next(iter(found.probabilities['cifar10-skip']))} in cifar10-skip (LayerCAM)"
        pictures.append({"url": data_url(found.heat), "caption": where, "style": "dk-photo dk-heat"})
    return part("columns", cards=cards) + part("figures", pictures=[one | {"alt": one["caption"]} for one in pictures])


def pet(found: photos.Pet) -> str:
    """The photo under the cut-out, with a slider between them."""
    words = f"pet on {100 * found.share:.1f} % of the picture"
    urls = {"photo": data_url(found.photo), "cutout": data_url(found.cutout)}
    return part("pet", **urls, words=words, ratio=ratio(found.photo)) + weights(photos.PETS)


def boxes(photo: Image.Image, found: dict[str, list[photos.Found]]) -> str:
    """Both detectors' boxes side by side, with a slider for the score."""
    sides = [
        {
            "name": name,
            "told": told(name),
            "count": sum(one.score >= THRESHOLD for one in things),
            "found": [vars(one) | {"hue": hue(one.name, models.network(name).classes)} for one in things],
        }
        for name, things in found.items()
    ]
    return part("boxes", photo=data_url(photo), ratio=ratio(photo), sides=sides, threshold=THRESHOLD)


def hue(name: str, classes: list[str]) -> int:
    """A colour of its own for each class: an angle, the same for both detectors."""
    return round(360 * sorted(classes).index(name) / len(classes)) + 15


def review(found: dict[str, reviews.Answer]) -> str:
    """Both networks' answers, and the review with the words that decided."""
    sides = [
        {
            "name": name,
            "best": one.label,
            "shown": SENTIMENT.get(one.label, one.label),
            "said": f"{SENTIMENT.get(one.label, one.label)}, {100 * one.probabilities[one.label]:.0f} %",
            "rows": [(SENTIMENT.get(label, label), share) for label, share in sorted(one.probabilities.items())],
            "parts": one.parts,
            "words": one.words,
            "notes": one.notes,
            "told": told(name),
        }
        for name, one in found.items()
    ]
    return part("review", sides=sides)


def told(name: str) -> str:
    """With which weights a network answers, and what they cannot do."""
    return f"{models.network(name).told} {models.network(name).limit}".strip()


def weights(*names: str) -> str:
    """With which weights these networks answer; a limit that they share is told once."""
    lines = [part("weights", name=name, told=models.network(name).told) for name in names]
    limits = dict.fromkeys(models.network(name).limit for name in names)
    return "".join([*lines, *(part("weights", name="", told=limit) for limit in limits if limit)])


def pad() -> str:
    """The pad: a canvas, a button, and digits to click."""
    rows = [{"name": number, "url": data_url(digits.example(number))} for number in range(10)]
    return part("pad", examples=rows)


def detectors() -> str:
    """What to expect of the detectors: what they were trained on, without loading them."""
    data = {str(models.card(name).get("data")) for name in photos.DETECTORS}
    if all(name.endswith("-sample") for name in data):
        return part("drawn")
    return "Two detectors, the same photo: move the slider to see less sure finds."
