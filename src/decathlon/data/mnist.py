"""MNIST: 70,000 handwritten digits, 28×28, in IDX files (LeCun, Cortes and Burges, 1998).

Any data in four such files are read as well, whatever people have made of their names: `--data FOLDER`. Fashion-MNIST
is read as it comes, EMNIST with `--transposed`, since its images are stored column by column.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

import torch

from decathlon.data.base import Data, DataInfo, Source, Split
from decathlon.data.divide import Contents, hold_out, split_three_ways, warn_contradictions
from decathlon.data.io import atomic, files
from decathlon.data.io.download import fetch, md5
from decathlon.data.io.idx import is_gzip, read_idx
from decathlon.data.io.listing import walk
from decathlon.messages import say, some, warn

# The files and the MD5 of each as gzip archive (as published) and unpacked (as torchvision keeps them).
FILES = {
    "train-images-idx3-ubyte": ("f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels-idx1-ubyte": ("d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624"),
    "t10k-images-idx3-ubyte": ("9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea"),
    "t10k-labels-idx1-ubyte": ("ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637"),
}
MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")
PARTS = {"train": "train", "t10k": "test"}  # what the files call the splits
IMAGE_SIZE = 28
# People's names of these files: train.images.idx3-ubyte.gz, emnist-letters-test-labels-idx1-ubyte.
OWN_NAME = re.compile(r"(.*?)(train|t10k|test)[-._](images|labels)[-._]idx([13])[-._]ubyte(\.gz)?", re.IGNORECASE)


def load(source: Source) -> Data:
    """Read MNIST, or data in its format.

    Returns:
        Images as uint8 (N, 1, 28, 28), labels as int64 (N,).

    Raises:
        FileNotFoundError: Files are missing and may not be downloaded; names them and where to put them.
        ConnectionError: Files are missing and could not be downloaded.
        ValueError: A file is damaged: names it and how.
    """
    if source.kind == "own":
        assert source.path is not None
        return load_own(source.path, source.options.transposed)
    if source.kind == "official":
        raw, name = find_official(source), "mnist"
    else:
        from decathlon.data.synthetic import digits

        raw, name = digits.write_digits(source.folder / "sample" / f"mnist-{digits.VERSION}"), "mnist-sample"
    parts = {part: _split(raw / f"{part}-images-idx3-ubyte", raw / f"{part}-labels-idx1-ubyte") for part in PARTS}
    count = max(10, int(max(split.targets.max() for split in parts.values())) + 1)
    train, validation = hold_out(parts["train"])
    return Data(name, train, validation, parts["t10k"], DataInfo([str(number) for number in range(count)]))


def load_own(path: Path, transposed: bool) -> Data:
    """Read a user's IDX files; the classes are the labels that are there.

    Args:
        path: Their folder, or a folder above it.
        transposed: Whether images are stored column by column.

    Raises:
        FileNotFoundError, ValueError: As `load`.
    """
    paths = find_own(path)
    if not transposed and any(file.name.casefold().startswith("emnist") for file in paths.values()):
        warn(f"{path}: EMNIST's images are stored column by column; --transposed turns them upright")
    parts = {part: _split(paths[part, "images"], paths[part, "labels"]) for part in PARTS}
    labels = parts["train"].targets.unique()
    if len(labels) < 2:
        raise ValueError(f"{paths['train', 'labels']} holds one label only, {int(labels[0])}")
    if unknown := sorted(set(parts["t10k"].targets.tolist()) - set(labels.tolist())):
        raise ValueError(f"{paths['t10k', 'labels']} holds the label {unknown[0]}, but the training labels do not")
    if absent := sorted(set(range(int(labels.max()))) - set(labels.tolist())):
        words = f"the label {absent[0]} is" if len(absent) == 1 else f"the labels {some(absent)} are"
        warn(f"{path}: {words} not used: there are {len(labels):,} classes, {labels.min()} to {labels.max()}")
    for part, split in parts.items():
        images = split.inputs.transpose(2, 3).contiguous() if transposed else split.inputs
        parts[part] = Split(images, torch.searchsorted(labels, split.targets))
    classes = [str(label) for label in labels.tolist()]
    contents = {side: _contents(parts[part], paths[part, "images"].name) for part, side in PARTS.items()}
    for part, side in PARTS.items():
        warn_contradictions(contents[side], parts[part].targets.tolist(), classes, path)
    sides = {side: parts[part] for part, side in PARTS.items()}
    train, validation, test = split_three_ways(sides, path, contents=contents)
    return Data(f"own:{path.resolve().name}", train, validation, test, DataInfo(classes))


def _contents(split: Split, name: str) -> Contents:
    digests = [hashlib.sha1(image.tobytes()).hexdigest() for image in split.inputs.numpy()]
    return Contents(digests, [f"{name} {number}" for number in range(len(digests))])


def find_official(source: Source) -> Path:
    """The folder with the four files of the official release, downloaded where missing or damaged."""
    raw = source.folder / "MNIST" / "raw"
    missing = [name for name in FILES if not _whole(raw / name, source.download)]
    if missing and not source.download:
        raise FileNotFoundError(f"MNIST is not in {raw}: {', '.join(missing)} missing or damaged")
    for name in missing:
        archive, unpacked = FILES[name]
        packed = raw / f"{name}.gz"
        if not (packed.exists() and md5(packed) == archive):
            try:
                fetch([mirror + packed.name for mirror in MIRRORS], packed, archive)
            except ConnectionError as error:
                wanted = ", ".join(f"{name}.gz" for name in missing)
                raise ConnectionError(
                    f"{error}. MNIST needs {wanted} (unpacked or not) in {raw}; or use --data sample, "
                    "which needs no network"
                ) from None
        with atomic.write_atomically(raw / name) as part:
            part.write_bytes(gzip.decompress(packed.read_bytes()))
            if md5(part) != unpacked:
                raise ValueError(f"{packed} unpacks to something that is not {name}; delete it and run again")
    return raw


def _whole(path: Path, download: bool) -> bool:
    """Whether an official file exists and is undamaged; damage is reported."""
    if not path.exists():
        return False
    if md5(path) == FILES[path.name][1]:
        return True
    say(f"{path} is damaged or cut short: its checksum is wrong{': fetching it again' if download else ''}")
    return False


def find_own(path: Path) -> dict[tuple[str, str], Path]:
    """The four files of a user's data, `train` and `t10k` with `images` and `labels`, in a folder or below it.

    Files may be packed or not, lie in folders of their own, and have dots for dashes in their names. A file that is
    there twice is read once.

    Raises:
        FileNotFoundError: A file is missing: names it.
        ValueError: There are two different files for one of the four.
    """
    listed = list(walk(path)) if path.is_dir() else []
    candidates: dict[tuple[str, str], list[tuple[str, Path]]] = {}
    for file in listed:
        if file.name.casefold().endswith(".gz") and file.with_suffix("") in listed:
            continue  # packed and unpacked, as torchvision leaves them
        if match := OWN_NAME.fullmatch(file.name):
            part = "train" if match[2].casefold() == "train" else "t10k"
            prefix = match[1].casefold().strip("-._")
            candidates.setdefault((part, match[3].casefold()), []).append((prefix, file))
    chosen: dict[tuple[str, str], Path] = {}
    for key in ((part, kind) for part in PARTS for kind in ("images", "labels")):
        several = candidates.get(key, [])
        if not several:
            names = ", ".join(FILES)
            raise FileNotFoundError(
                f"{path} does not hold MNIST's four files ({names}; .gz is fine): there is no {key[0]} {key[1]} file"
            )
        if len(prefixes := sorted({prefix for prefix, _ in several})) > 1:
            raise ValueError(f"{path} holds several sets ({some(prefixes)}): give each a folder of its own")
        same = {_content_hash(file) for _, file in several} if len(several) > 1 else set()
        if len(same) > 1:
            names = some(file.relative_to(path) for _, file in several)
            raise ValueError(f"{path} holds several different {key[0]} {key[1]} files: {names}; keep one of them")
        chosen[key] = several[0][1]
    return chosen


def _content_hash(path: Path) -> str:
    """Of a file's content, unpacked: of a packed file as far as its header promises."""
    dimensions = 3 if "images" in path.name.casefold() else 1
    values = read_idx(path, dimensions) if is_gzip(path) else None
    return hashlib.sha256(
        files.read_bytes(path)[4 + 4 * dimensions :] if values is None else values.tobytes()
    ).hexdigest()


def _split(images: Path, labels: Path) -> Split:
    pixels, targets = read_idx(images, 3), read_idx(labels, 1)
    if len(pixels) != len(targets):
        raise ValueError(f"{images} holds {len(pixels)} images, but {labels} holds {len(targets)} labels")
    if not len(targets):
        raise ValueError(f"{images} contains no images")
    if pixels.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
        raise ValueError(
            f"{images} holds {pixels.shape[1]}×{pixels.shape[2]} images; MNIST's are {IMAGE_SIZE}×{IMAGE_SIZE}"
        )
    # (N, 28, 28) -> (N, 1, 28, 28): one channel
    return Split(torch.from_numpy(pixels)[:, None], torch.from_numpy(targets).long())
