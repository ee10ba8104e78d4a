"""Images of any origin: opened safely, upright, converted to RGB."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from decathlon.data.io import files
from decathlon.messages import pluralize, some, warn

Image.init()  # FORMATS needs all of Pillow's formats registered
# NumPy (H, W) or (H, W, C), uint8; torch (C, H, W), uint8 or float from 0 to 1; C is 1 (grey), 3 (RGB) or 4 (RGBA)
ImageInput = str | Path | Image.Image | np.ndarray | Tensor
MAX_PIXELS = 50_000_000
# Pillow reads many more that are not needed here: EPS starts Ghostscript, an icon's header can misstate its size.
FORMATS = tuple(kind for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF") if kind in Image.OPEN)
EXIF_ORIENTATION_TAG = 0x0112  # of EXIF
MAX_12_BITS = 15  # the upper 8 of 16 bits of values up to 4095
CHANNELS = (1, 3, 4)  # grey, RGB, RGBA


def open_image(path: str) -> Image.Image:
    """Open an image upright.

    Its `info` has the number of its `frames`, its `depth` in the file, 8 or 16 bits, and EXIF's `orientation` as
    stored, from 1 to 8.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is no image, no plain file, damaged, or larger than 50 million pixels.
    """
    content = io.BytesIO(files.read_bytes(Path(path)))  # of a file Pillow asks for as many bytes as a chunk claims
    try:
        with Image.open(content, formats=FORMATS) as image:
            wide, high = image.size
            depth = 16 if image.tile and ";16" in str(image.tile[0][3]) else 8  # in colour, Pillow reads 8 bits of 16
            upright = ImageOps.exif_transpose(image) if wide * high <= MAX_PIXELS else None  # a copy, decoded
            if upright is not None:
                upright.info["frames"], upright.info["depth"] = getattr(image, "n_frames", 1), depth
                orientation = image.getexif().get(EXIF_ORIENTATION_TAG, 1)
                upright.info["orientation"] = orientation if orientation in range(1, 9) else 1
    except UnidentifiedImageError:
        heic = content.getvalue()[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc")
        hint = ": it is HEIC, as phones write it; convert it to JPEG" if heic else ""
        raise ValueError(f"{path} is not an image that can be read{hint}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # the second where warnings are errors
        raise ValueError(f"{path} has too many pixels; at most {MAX_PIXELS:,} are read") from None
    except Exception as error:  # on damaged files Pillow raises nearly anything: SyntaxError and struct.error, too
        raise ValueError(f"{path} is damaged: {error}") from None
    if upright is None:
        raise ValueError(f"{path} has {wide}×{high} pixels; at most {MAX_PIXELS:,} are read")
    return upright


def load_image(value: ImageInput) -> Image.Image:
    """An image from a path, a PIL image, a NumPy array or a torch tensor, upright.

    Args:
        value: A path; a PIL image; a NumPy array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8; or a torch tensor
            (C, H, W) with 1, 3 or 4 channels, uint8 or float from 0 to 1.

    Raises:
        FileNotFoundError: The path does not exist.
        ValueError: The file is not an image, is damaged or too large; or shape, dtype or values are not as above.
    """
    if isinstance(value, (str, Path)):
        return open_image(str(value))
    if isinstance(value, Tensor):
        value = _tensor_to_array(value)
    if isinstance(value, np.ndarray):
        return _array_to_image(value)
    if not isinstance(value, Image.Image):
        kinds = "a path, a PIL image, a NumPy array or a torch tensor"
        raise ValueError(f"an image must be {kinds}, not {type(value).__name__}")
    _check_size("the image", *value.size)
    try:
        return ImageOps.exif_transpose(value)  # a copy, decoded
    except Exception as error:  # as in `open_image`
        raise ValueError(f"the image is damaged: {error}") from None


def input_name(value: ImageInput, index: int) -> str:
    """What an input is called in predictions and errors: its path, or `input 3` for the fourth of those given."""
    return str(value) if isinstance(value, (str, Path)) else f"input {index}"


def _tensor_to_array(tensor: Tensor) -> np.ndarray:
    """(C, H, W), uint8 or float from 0 to 1 -> uint8 (H, W, C)."""
    if tensor.ndim != 3 or tensor.shape[0] not in CHANNELS:
        raise ValueError(f"an image tensor must be (C, H, W) with 1, 3 or 4 channels, not {tuple(tensor.shape)}")
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()
        if tensor.numel() and not bool(((tensor >= 0) & (tensor <= 1)).all()):  # NaN fails as well
            raise ValueError("an image tensor of floats must have values from 0 to 1")
        tensor = (tensor * 255).round().to(torch.uint8)
    elif tensor.dtype != torch.uint8:
        raise ValueError(f"an image tensor must be uint8, or float from 0 to 1, not {tensor.dtype}")
    return tensor.permute(1, 2, 0).numpy()


def _array_to_image(array: np.ndarray) -> Image.Image:
    """uint8 (H, W) or (H, W, C) -> an image."""
    if array.dtype != np.uint8:
        raise ValueError(f"an image array must be uint8, not {array.dtype}")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in CHANNELS):
        raise ValueError(f"an image array must be (H, W) or (H, W, C) with 1, 3 or 4 channels, not {array.shape}")
    _check_size("the image array", array.shape[1], array.shape[0])
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    return Image.fromarray(np.ascontiguousarray(array))


def _check_size(name: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{name} has {width}×{height} pixels; at most {MAX_PIXELS:,} are read")
    if not width * height:
        raise ValueError(f"{name} is empty: {width}×{height} pixels")


IMAGE_SUFFIXES = (  # the commonest first
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".jfif", ".tif", ".tiff", ".avif"),
)
DECODING_THREADS = 2  # decoding holds Python's lock in part: more bring nothing


def to_rgb(image: Image.Image) -> Image.Image:
    """Any image as RGB; what is transparent becomes white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):  # 16 bits and more, which convert() would clip
        values = np.nan_to_num(np.asarray(image, np.float32))
        image = Image.fromarray((values * (255 / white_value(image))).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    return image.convert("RGB")


def white_value(image: Image.Image) -> float:
    """The value that becomes 255 when an image of 16 bits, or of floats, is brought to 8 bits.

    Cameras and microscopes write values of 12 bits, and programs such of 8 bits, into files of 16 bits: taken for 16
    bits they would be nearly black.
    """
    values = np.nan_to_num(np.asarray(image, np.float32))
    maximum = float(values.max(initial=0.0))
    if image.mode.startswith("I;16"):
        return 255.0 if maximum <= 255 else 4095.0 if maximum <= 4095 else 65535.0
    whole = 1.0 if image.mode == "F" and maximum <= 1 else 255.0  # fractions are written from 0 to 1
    return max(whole, maximum)


class ImageRemarks:
    """What was assumed when images were read, gathered over a set and said once."""

    def __init__(self) -> None:
        self.frames: list[str] = []
        self.depths: dict[float, list[str]] = {}
        self.scaled: list[str] = []
        self.dark: list[str] = []

    def add(self, image: Image.Image, name: str) -> None:
        """Look at an image as `open_image` gave it."""
        if image.info.get("frames", 1) > 1:
            self.frames.append(name)
        if image.mode.startswith("I;16") and (white := white_value(image)) < 65535:
            self.depths.setdefault(white, []).append(name)
        if image.mode in ("I", "F") and white_value(image) not in (1, 255):
            self.scaled.append(name)

        in_colour = image.mode == "RGB" and image.info.get("depth") == 16
        if in_colour and np.asarray(image).max(initial=0) <= MAX_12_BITS:
            self.dark.append(name)

    def report(self, where: Path) -> None:
        """Say how many images of which kind there were."""
        if self.frames:
            names = some(sorted(self.frames))
            warn(f"{where}: of {pluralize(len(self.frames), 'image')} with several frames the first is read ({names})")
        for white, images in sorted(self.depths.items()):
            bits, names = 8 if white == 255 else 12, some(sorted(images))
            warn(
                f"{where}: {pluralize(len(images), 'image')} of 16 bits with no value above {white:.0f} taken as "
                f"{bits} bits ({names})"
            )
        if self.dark:
            names = some(sorted(self.dark))
            warn(
                f"{where}: {pluralize(len(self.dark), 'image')} in colour of 16 bits with no value above 4095: nearly "
                f"black, since 16 bits are assumed; save 12 bits scaled, or as 8 bits ({names})"
            )
        if self.scaled:
            names = some(sorted(self.scaled))
            warn(f"{where}: {pluralize(len(self.scaled), 'image')} of 32 bits: the largest value is white ({names})")


def content_hash(image: Image.Image) -> str:
    """A hash of an image's size and pixels as RGB: the same for copies, whatever file format they are in."""
    digest = hashlib.sha1(repr(image.size).encode())
    digest.update(to_rgb(image).tobytes())
    return digest.hexdigest()
