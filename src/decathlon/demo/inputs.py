"""Checks of visitors' inputs before anything else processes them: images by their content, texts by their length.

Every refusal is a ValueError with one line for the visitor, without a path.
"""

from __future__ import annotations

import base64
import io

from PIL import Image, ImageOps

from decathlon.data.imdb import clean_text
from decathlon.data.io.images import to_rgb
from decathlon.data.transforms import words

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_UPLOAD_BYTES = 12 * 2**20
MAX_IMAGE_PIXELS = 30_000_000  # checked before decoding
MAX_STORED_SIDE = 1024  # pixels: larger images are scaled down at once
MAX_DRAWING_CHARACTERS = 200_000  # of the data URL
MAX_DRAWING_SIDE = 400
MAX_REVIEW_CHARACTERS = 20_000
PNG_URL = "data:image/png;base64,"


def read_image(content: bytes, side: int = MAX_STORED_SIDE) -> Image.Image:
    """Decode an uploaded image: upright, RGB, its longer side at most `side` pixels.

    The file's name does not matter. The size is read before the pixels, so that a decompression bomb is refused without
    decoding it; a large JPEG is decoded at an eighth, a quarter or half of its size.

    Raises:
        ValueError: It is not a PNG, JPEG or WebP, is damaged, or is too large.
    """
    if not content:
        raise ValueError("the image is empty")
    if len(content) > MAX_UPLOAD_BYTES:
        raise ValueError(f"the image has {len(content) / 2**20:.1f} MB; at most {MAX_UPLOAD_BYTES // 2**20} are read")
    try:
        file = Image.open(io.BytesIO(content), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # the latter where warnings are errors
        raise ValueError(
            f"the image has far too many pixels; at most {MAX_IMAGE_PIXELS // 10**6} million are read"
        ) from None
    except Exception:  # Pillow raises many kinds of errors
        raise ValueError("this is not an image that can be read: send a PNG, JPEG or WebP") from None
    width, height = file.size
    if width * height > MAX_IMAGE_PIXELS:
        raise ValueError(
            f"the image has {width:,} × {height:,} pixels; at most {MAX_IMAGE_PIXELS // 10**6} million are read"
        )
    try:
        file.draft("RGB", (side, side))
        image = to_rgb(ImageOps.exif_transpose(file))
        image.thumbnail((side, side))
    except Exception:  # on damaged files Pillow raises nearly anything
        raise ValueError("the image is damaged: it cannot be decoded") from None
    return image


def read_drawing(url: str | None) -> Image.Image | None:
    """Decode what the pad sends, a PNG as a data URL: bright strokes on black, mode L. None while nothing is drawn.

    Raises:
        ValueError: It is something else.
    """
    if not url:
        return None
    if not isinstance(url, str) or not url.startswith(PNG_URL) or len(url) > MAX_DRAWING_CHARACTERS:
        raise ValueError("the pad sends drawings as small PNG images; this is not one")
    try:
        content = base64.b64decode(url[len(PNG_URL) :], validate=True)
        image = Image.open(io.BytesIO(content), formats=("PNG",))
        if max(image.size) > MAX_DRAWING_SIDE:
            raise ValueError
        grey = image.convert("L")
    except Exception:  # base64 and Pillow raise many kinds of errors
        raise ValueError("the drawing is damaged: it cannot be decoded") from None
    return grey if grey.getextrema()[1] else None


def check_review(text: str | None) -> str | None:
    """Normalise the spaces of a review; None if it is empty.

    Raises:
        ValueError: It is too long, or contains no word.
    """
    if text is None or (isinstance(text, str) and not text.strip()):
        return None
    if not isinstance(text, str):
        raise ValueError("a review must be a text")
    if len(text) > MAX_REVIEW_CHARACTERS:
        raise ValueError(f"the review has {len(text):,} characters; at most {MAX_REVIEW_CHARACTERS:,} are read")
    cleaned = clean_text(text)
    if not words.split(cleaned):
        raise ValueError("the review contains no word: both networks learned from English reviews")
    return cleaned
