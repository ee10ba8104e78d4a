"""Sample data: small, seeded, made on the spot, written in the layout of the real set so that one loader reads both.

It makes every command work with no network. It is no benchmark, and results on it are named `…-sample`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from decathlon.data.io.idx import write_idx

VERSION = "1"  # of the sample data, in their folder's name: raise it when they change
TEST = 297  # of scikit-learn's 1,797 digits


def write_digits(folder: Path) -> Path:
    """Scanned digits that come with scikit-learn, 8×8, brought to MNIST's 28×28 and written in its four files.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.

    Returns:
        The folder that holds the files.
    """
    names = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    if all((folder / name).exists() for name in names):
        return folder
    from sklearn.datasets import load_digits  # takes a second to import

    folder.mkdir(parents=True, exist_ok=True)
    bunch = load_digits()
    small = (bunch.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8), from 0..16
    images = np.zeros((len(small), 28, 28), np.uint8)
    for image, digit in zip(images, small, strict=True):
        image[4:24, 4:24] = np.asarray(Image.fromarray(digit).resize((20, 20), Image.Resampling.BICUBIC))
    order = np.random.default_rng(0).permutation(len(images))  # the file is in the order of its writers
    parts = {"train": order[TEST:], "t10k": order[:TEST]}
    for part, chosen in parts.items():
        write_idx(folder / f"{part}-images-idx3-ubyte", images[chosen])
        write_idx(folder / f"{part}-labels-idx1-ubyte", bunch.target[chosen].astype(np.uint8))
    return folder
