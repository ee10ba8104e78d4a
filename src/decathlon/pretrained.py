"""Pretrained weights for detectors: fetched or read from a file, and brought to other classes."""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import WeightsEnum
from torchvision.ops.misc import FrozenBatchNorm2d

from decathlon.data import download, files, say

# COCO's names of VOC's classes, where they differ.
COCO_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
State = dict[str, Tensor]


def norm(name: Literal["batch", "frozen", "group"], eps: float = 1e-5) -> Callable[..., nn.Module]:
    """What makes the norm after a convolution of so many filters; a group has 16 filters where they divide so."""
    if name == "group":
        return lambda filters: nn.GroupNorm(max(1, filters // math.gcd(filters, 16)), filters)
    return partial(nn.BatchNorm2d if name == "batch" else FrozenBatchNorm2d, eps=eps)


def fetched(weights: str, coco: WeightsEnum, imagenet: WeightsEnum) -> State:
    """The tensors that `weights` names: `coco`, `imagenet`, or a file.

    Raises:
        ConnectionError: They could not be downloaded; says the way out.
        FileNotFoundError: There is no such file.
        ValueError: The file holds no tensors, or more than tensors.
    """
    if weights not in ("coco", "imagenet"):
        return read(Path(weights).expanduser())
    url = (coco if weights == "coco" else imagenet).url
    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])  # where torchvision keeps them, too
    checksum = f"sha256:{path.stem.rpartition('-')[2]}"  # the names of torchvision's files end with its beginning
    try:
        if not (path.exists() and download.matches(path, checksum)):
            download.fetch([url], path, checksum)
    except ConnectionError as error:
        raise ConnectionError(
            f"--weights {weights}: {error}; train from scratch (--weights none), or name the file (--weights FILE)"
        ) from None
    return read(path)


def read(path: Path) -> State:
    """Tensors of a .safetensors file, or of a .pth file; nothing in it is run.

    Raises:
        FileNotFoundError, ValueError: As `fetched`.
    """
    if not path.exists():
        raise FileNotFoundError(f"--weights {path}: no such file; give coco, imagenet, none, or a file of tensors")
    try:
        if zipfile.is_zipfile(files.plain(path)):
            with zipfile.ZipFile(path) as packed:
                if any(one.compress_type != zipfile.ZIP_STORED for one in packed.infolist()):
                    raise ValueError("it is compressed, as torch never writes it")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of pickles that it did not write itself, then refuses them
            if path.suffix == ".safetensors":
                state = load_file(path)
            else:  # from memory: of a file, torch asks for as much as it promises
                state = torch.load(io.BytesIO(files.content(path)), "cpu", weights_only=True)
    except Exception as error:  # torch carries out a few of a pickle's opcodes, which fail in any way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"--weights {path} is damaged, or holds more than tensors: {reason}") from None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise ValueError(f"--weights {path} holds no table of named tensors")
    return state


def start(
    model: nn.Module,
    state: State,
    build: Callable[[int], nn.Module],
    heads: dict[str, int],
    classes: Sequence[str],
    coco: Sequence[str],
) -> None:
    """Begin with pretrained weights: those of a whole detector, or of a classifier's backbone.

    The rows of a detector's heads that belong to our classes are copied, in the order of ours.

    Args:
        model: A detector of torchvision's, its backbone at `backbone.body`.
        state: Weights of a like detector, for COCO or for as many classes as ours; or of the backbone alone.
        build: Makes a like detector for so many classes, without the background.
        heads: Names of the tensors with rows for classes. Each with how they are laid out: so many anchors, each with
            all classes; or, as a negative number, so many values of each class.
        classes: Ours, without the background.
        coco: Those of the pretrained detector, with the background at 0.

    Raises:
        ValueError: The weights are of another network.
    """
    ours, chosen = model.state_dict(), State()
    if any(name.startswith("backbone.") for name in state):
        known = next((len(state[name]) // abs(times) for name, times in heads.items() if name in state), 0)
        if known not in (len(coco), len(classes) + 1):
            raise ValueError(f"--weights: a detector of {known} classes, which are neither COCO's {len(coco)} nor ours")
        like = build(known - 1)
        load(like, state)  # brings older releases' names of tensors to today's
        for name, value in like.state_dict().items():
            kept = known == len(classes) + 1 or name not in heads
            chosen[name] = value if kept else rows(value, ours[name], heads[name], classes, coco)
    else:
        for name, value in state.items():
            place = "backbone.body." + name.removeprefix("features.")
            if place in ours:
                chosen[place] = value
        missing = [name for name in ours if name.startswith("backbone.body.") and name not in chosen]
        if missing := [name for name in missing if not name.endswith("num_batches_tracked")]:
            raise ValueError(f"--weights: neither a detector nor a backbone like ours: it lacks {missing[0]}")
    load(model, ours | chosen)
    say(f"pretrained weights: {len(chosen)} of {len(ours)} tensors")


def load(model: nn.Module, state: State) -> None:
    """Raises ValueError where the tensors do not fit."""
    try:
        model.load_state_dict(dict(state))
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise ValueError(f"--weights: of another network: {reason}") from None


def rows(theirs: Tensor, ours: Tensor, times: int, classes: Sequence[str], coco: Sequence[str]) -> Tensor:
    """Our head's tensor with the rows of the classes that COCO has, too; the others as they are.

    Args:
        theirs: For COCO's classes.
        ours: For our classes and the background.
        times: As in `start`.
        classes: Ours, without the background.
        coco: COCO's, with the background at 0.
    """
    anchors, values = (times, 1) if times > 0 else (1, -times)
    # (anchors · classes · values, …) -> (anchors, classes, values, …)
    source = theirs.reshape(anchors, len(coco), values, *theirs.shape[1:])
    target = ours.clone().reshape(anchors, len(classes) + 1, values, *ours.shape[1:])
    for place, name in enumerate((coco[0], *classes)):
        wanted = COCO_NAMES.get(name, name)
        if wanted in coco:
            target[:, place] = source[:, list(coco).index(wanted)]
    return target.reshape(ours.shape)
