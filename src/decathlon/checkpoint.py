"""Checkpoints: all a training needs to go on, as plain tensors and JSON (no pickle), verified when read."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from decathlon import run
from decathlon.data import files, say

Found = tuple[dict[str, Tensor], dict[str, Any]]  # what `load` gives: tensors by name, and plain values


@dataclass
class State:
    """How far a training has come: what a checkpoint holds besides tensors."""

    epoch: int = 0  # epochs done
    batch: int = 0  # batches done of the epoch under way
    step: int = 0  # steps done in all
    train_seconds: float = 0.0  # of batches, steps and nothing else
    seconds_to_bar: float | None = None


def pack(
    model: nn.Module, average: nn.Module, optimizers: list[torch.optim.Optimizer], sums: dict[str, Tensor]
) -> dict[str, Tensor]:
    """All tensors of a checkpoint under one flat set of names. All processes call it, to put their shares together."""
    tensors = {f"model/{name}": tensor for name, tensor in entire(model.state_dict()).items()}
    if average is not model:
        tensors |= {f"average/{name}": tensor for name, tensor in average.state_dict().items()}
    for which, optimizer in enumerate(optimizers):
        for number, entry in optimizer.state_dict()["state"].items():
            values = {name: torch.as_tensor(value) for name, value in entire(entry).items() if value is not None}
            tensors |= {f"optimizer/{which}/{number}/{name}": value for name, value in values.items()}
    return tensors | {f"sums/{name}": tensor for name, tensor in sums.items()}


def entire(values: dict[str, Any]) -> dict[str, Any]:
    """The same values, those whole of which each process has a share only."""
    return {name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in values.items()}


def restore(found: Found, model: nn.Module, average: nn.Module) -> tuple[State, dict[str, Tensor]]:
    """The inverse of `pack`, but for the optimisers: weights come before they are divided, optimisers after.

    Raises:
        ValueError: The checkpoint is of another network.
    """
    tensors, values = found
    with _of_another_network(values):
        model.load_state_dict(_part(tensors, "model/"))
        if average is not model:
            average.load_state_dict(_part(tensors, "average/"))
    state = State(**{name: values[name] for name in asdict(State())})
    device = next(model.parameters()).device
    return state, {name: tensor.to(device) for name, tensor in _part(tensors, "sums/").items()}


def restore_optimizers(found: Found, optimizers: list[torch.optim.Optimizer]) -> None:
    """The rest of the inverse of `pack`. Raises ValueError, as `restore`, for the checkpoint of another network."""
    with _of_another_network(found[1]):
        _restore_optimizers(found, optimizers)


@contextmanager
def _of_another_network(values: dict[str, Any]) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, KeyError, IndexError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"checkpoint {values.get('file')} is of another network: {reason}") from None


def _restore_optimizers(found: Found, optimizers: list[torch.optim.Optimizer]) -> None:
    for which, optimizer in enumerate(optimizers):
        entries: dict[int, dict[str, Any]] = {}
        for name, tensor in _part(found[0], f"optimizer/{which}/").items():
            number, _, key = name.partition("/")
            lazy = isinstance(optimizer, torch.optim.SparseAdam) and key == "step"  # which counts in a plain number
            entries.setdefault(int(number), {})[key] = tensor.item() if lazy else tensor
        optimizer.load_state_dict(optimizer.state_dict() | {"state": entries})
        for parameter, entry in optimizer.state.items():  # fused steps need the memory layout of the parameter
            for key, value in entry.items():
                if isinstance(parameter, DTensor) and value.shape == parameter.shape:
                    entry[key] = distribute_tensor(value, parameter.device_mesh, parameter.placements)
                elif isinstance(value, Tensor) and value.shape == parameter.shape:
                    entry[key] = torch.empty_like(parameter).copy_(value)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def save(folder: Path, tensors: dict[str, Tensor], state: State, task_id: str) -> None:
    """Write a checkpoint with its checksum, then drop all but the last two.

    The JSON file beside the tensors comes second and makes the checkpoint count: a kill in between loses nothing.
    """
    place = folder / "checkpoint"
    place.mkdir(exist_ok=True)
    path = place / f"step-{state.step:08d}.safetensors"
    run.save_weights(path, tensors)
    told = asdict(state) | {"task": task_id, "sha256": files.sha256(path)}
    run.write_json(path.with_suffix(".json"), told | {"seal": _seal(told)})
    _keep(place, sorted(place.glob("step-*.json"))[-2:])


def forget(folder: Path, step: int) -> None:
    """Drop all but the last two up to this step: a later one is damaged, and must not be one of the last two again."""
    place = folder / "checkpoint"
    if place.is_dir():
        _keep(place, sorted(path for path in place.glob("step-*.json") if path.stem <= f"step-{step:08d}")[-2:])


def _keep(place: Path, kept: list[Path]) -> None:
    """Drop all but these checkpoints, and what killed processes left. JSON files sort first, and so go first."""
    stems = {path.stem for path in kept}
    for path in sorted(place.glob("step-*")):
        if path.name.partition(".")[0] not in stems or path.suffix == ".part":
            path.unlink(missing_ok=True)


def load(folder: Path, task_id: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The last undamaged checkpoint of this task; says when a later one is damaged. None where there is none at all."""
    for path in sorted((folder / "checkpoint").glob("step-*.json"), reverse=True):
        weights = path.with_suffix(".safetensors")
        try:
            state = run.read_json(path)
            _check(state, task_id)
            if state["sha256"] != files.sha256(weights):
                raise ValueError(f"{weights.name} was changed or cut short")
            return run.load_weights(weights), state | {"file": str(weights)}
        except (ValueError, OSError) as error:
            say(f"checkpoint {weights} is damaged ({error}): looking for the one before")
    return None


def _check(state: dict[str, Any], task_id: str) -> None:
    """Raise ValueError where the JSON file was changed, is of another task or format, or its numbers make no sense."""
    if missing := {"task", "sha256", *asdict(State())} - set(state):
        raise ValueError(f"it does not say {min(missing)}")
    if state["task"] != task_id:
        raise ValueError(f"it is of {state['task']}")
    if "seal" in state and state.pop("seal") != _seal(state):
        raise ValueError("its JSON file was changed")
    counts = all(type(state[name]) is int and state[name] >= 0 for name in ("epoch", "batch", "step"))
    seconds = (state["train_seconds"], 0.0 if state["seconds_to_bar"] is None else state["seconds_to_bar"])
    if not counts or not all(type(value) in (int, float) and 0 <= value < math.inf for value in seconds):
        raise ValueError("its numbers make no sense")


def last(folder: Path) -> Path | None:
    """Where the newest checkpoint lies."""
    newest = max((folder / "checkpoint").glob("step-*.json"), default=None)
    return newest and newest.with_suffix(".safetensors")


def _seal(told: dict[str, Any]) -> str:
    """Of the JSON file itself: one digit changed would otherwise go on from the right weights at the wrong step."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
