"""What a visitor sends, checked before anything looks at it: pictures by their content, texts by their length.

Every mistake is a ValueError with one line for the visitor, without a path.
"""

from __future__ import annotations

import base64
import io

from PIL import Image, ImageOps

from decathlon.data import words
from decathlon.data.imdb import clean
from decathlon.data.photo import in_colour

FORMATS = ("PNG", "JPEG", "WEBP")
MOST_BYTES = 12 * 2**20  # of an upload
MOST_PIXELS = 30_000_000  # of a picture, before it is decoded
SIDE = 1024  # pixels: larger pictures are scaled down at once, and nothing larger is kept
PAD_CHARACTERS = 200_000  # of a drawing, as a data URL
PAD_SIDE = 400
LETTERS = 20_000  # of a review
PNG_URL = "data:image/png;base64,"


def picture(content: bytes, side: int = SIDE) -> Image.Image:
    """A picture that somebody sent: upright, in colour, its longer side at most `side` pixels.

    What it is called does not matter. Its size is read before its pixels are, so that a small file that unpacks to
    something huge is refused unseen; a large JPEG is decoded at an eighth, a quarter or half of its size.

    Raises:
        ValueError: It is no PNG, JPEG or WebP, is damaged, or is too large.
    """
    if not content:
        raise ValueError("the picture is empty")
    if len(content) > MOST_BYTES:
        raise ValueError(f"the picture has {len(content) / 2**20:.1f} MB; at most {MOST_BYTES // 2**20} are read")
    try:
        file = Image.open(io.BytesIO(content), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # the latter where warnings are errors
        raise ValueError(
            f"the picture has far too many pixels; at most {MOST_PIXELS // 10**6} million are read"
        ) from None
    except Exception:  # Pillow has a dozen kinds of errors for what it cannot read
        raise ValueError("this is no picture that can be read: send a PNG, a JPEG or a WebP") from None
    wide, high = file.size
    if wide * high > MOST_PIXELS:
        raise ValueError(f"the picture has {wide:,} × {high:,} pixels; at most {MOST_PIXELS // 10**6} million are read")
    try:
        file.draft("RGB", (side, side))
        image = in_colour(ImageOps.exif_transpose(file))
        image.thumbnail((side, side))
    except Exception:  # on damaged files Pillow raises nearly anything
        raise ValueError("the picture is damaged: it cannot be decoded") from None
    return image


def drawing(url: str | None) -> Image.Image | None:
    """What the pad sends, a PNG as a data URL: bright strokes on black, L. None while nothing is drawn.

    Raises:
        ValueError: It is something else.
    """
    if not url:
        return None
    if not isinstance(url, str) or not url.startswith(PNG_URL) or len(url) > PAD_CHARACTERS:
        raise ValueError("the pad sends drawings as small PNG pictures; this is none")
    try:
        content = base64.b64decode(url[len(PNG_URL) :], validate=True)
        image = Image.open(io.BytesIO(content), formats=("PNG",))
        if max(image.size) > PAD_SIDE:
            raise ValueError
        grey = image.convert("L")
    except Exception:  # base64 and Pillow have a dozen kinds of errors for what they cannot read
        raise ValueError("the drawing is damaged: it cannot be decoded") from None
    return grey if grey.getextrema()[1] else None


def review(text: str | None) -> str | None:
    """A review with single spaces; None where there is none yet.

    Raises:
        ValueError: It is too long, or holds no word.
    """
    if text is None or (isinstance(text, str) and not text.strip()):
        return None
    if not isinstance(text, str):
        raise ValueError("a review is a text")
    if len(text) > LETTERS:
        raise ValueError(f"the review has {len(text):,} characters; at most {LETTERS:,} are read")
    cleaned = clean(text)
    if not words.split(cleaned):
        raise ValueError("the review holds no word in Latin letters: both networks learned from English reviews")
    return cleaned
