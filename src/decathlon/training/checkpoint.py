"""Checkpoints: all that a training needs to continue, as plain tensors and JSON (no pickle), verified when read."""

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

from decathlon.data.io import atomic, files
from decathlon.messages import say
from decathlon.runs.folder import load_weights, read_json


@dataclass
class State:
    """How far a training is: what a checkpoint holds besides tensors."""

    epoch: int = 0  # finished epochs
    batch: int = 0  # finished batches of the current epoch
    step: int = 0  # optimiser steps in all
    train_seconds: float = 0.0  # of batches and steps alone
    seconds_to_bar: float | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that has been read: its tensors by name, the state, and the file of the tensors."""

    tensors: dict[str, Tensor]
    state: State
    path: Path


def pack(
    model: nn.Module, ema_model: nn.Module, optimizers: list[torch.optim.Optimizer], sums: dict[str, Tensor]
) -> dict[str, Tensor]:
    """All tensors of a checkpoint in one flat dict. Every process must call it: under FSDP it gathers the weights."""
    tensors = {f"model/{name}": tensor for name, tensor in gather_shards(model.state_dict()).items()}
    if ema_model is not model:
        tensors |= {f"ema/{name}": tensor for name, tensor in ema_model.state_dict().items()}
    for index, optimizer in enumerate(optimizers):
        for number, entry in optimizer.state_dict()["state"].items():
            values = {name: torch.as_tensor(value) for name, value in gather_shards(entry).items() if value is not None}
            tensors |= {f"optimizer/{index}/{number}/{name}": value for name, value in values.items()}
    return tensors | {f"sums/{name}": tensor for name, tensor in sums.items()}


def gather_shards(values: dict[str, Any]) -> dict[str, Any]:
    """The same values, with whole tensors for those of which each process holds a shard."""
    return {name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in values.items()}


def restore(checkpoint: Checkpoint, model: nn.Module, ema_model: nn.Module) -> tuple[State, dict[str, Tensor]]:
    """The inverse of `pack` without the optimisers: weights are restored before they are sharded, optimisers after.

    Raises:
        ValueError: The checkpoint is of another network.
    """
    with _explain_mismatch(checkpoint):
        model.load_state_dict(_with_prefix(checkpoint.tensors, "model/"))
        if ema_model is not model:
            ema_model.load_state_dict(_with_prefix(checkpoint.tensors, "ema/"))
    device = next(model.parameters()).device
    sums = {name: tensor.to(device) for name, tensor in _with_prefix(checkpoint.tensors, "sums/").items()}
    return checkpoint.state, sums


def restore_optimizers(checkpoint: Checkpoint, optimizers: list[torch.optim.Optimizer]) -> None:
    """The rest of the inverse of `pack`. Raises ValueError, as `restore`, for the checkpoint of another network."""
    with _explain_mismatch(checkpoint):
        for index, optimizer in enumerate(optimizers):
            _restore_optimizer(optimizer, _with_prefix(checkpoint.tensors, f"optimizer/{index}/"))


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    entries: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        number, _, key = name.partition("/")
        is_count = isinstance(optimizer, torch.optim.SparseAdam) and key == "step"  # there a plain number
        entries.setdefault(int(number), {})[key] = tensor.item() if is_count else tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": entries})
    for parameter, entry in optimizer.state.items():  # fused steps need the memory layout of the parameter
        for key, value in entry.items():
            if isinstance(parameter, DTensor) and value.shape == parameter.shape:
                entry[key] = distribute_tensor(value, parameter.device_mesh, parameter.placements)
            elif isinstance(value, Tensor) and value.shape == parameter.shape:
                entry[key] = torch.empty_like(parameter).copy_(value)


@contextmanager
def _explain_mismatch(checkpoint: Checkpoint) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, KeyError, IndexError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"checkpoint {checkpoint.path} is of another network: {reason}") from None


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def save(folder: Path, tensors: dict[str, Tensor], state: State, task_id: str) -> None:
    """Write a checkpoint with its checksum, then delete all but the last two.

    The JSON file is written after the tensors and makes the checkpoint valid: a kill in between loses nothing.
    """
    checkpoints = folder / "checkpoint"
    checkpoints.mkdir(exist_ok=True)
    path = checkpoints / f"step-{state.step:08d}.safetensors"
    atomic.save_weights(path, tensors)
    values = asdict(state) | {"task": task_id, "sha256": files.sha256(path)}
    atomic.write_json(path.with_suffix(".json"), values | {"json_sha256": _json_sha256(values)})
    _delete_all_but(checkpoints, sorted(checkpoints.glob("step-*.json"))[-2:])


def delete_after(folder: Path, step: int) -> None:
    """Delete the checkpoints after this step, which are damaged, and all but the last two up to it."""
    checkpoints = folder / "checkpoint"
    if checkpoints.is_dir():
        paths = sorted(path for path in checkpoints.glob("step-*.json") if path.stem <= f"step-{step:08d}")
        _delete_all_but(checkpoints, paths[-2:])


def _delete_all_but(checkpoints: Path, keep: list[Path]) -> None:
    """Delete other checkpoints and leftovers of killed processes. JSON files sort first, so they go first."""
    stems = {path.stem for path in keep}
    for path in sorted(checkpoints.glob("step-*")):
        if path.name.partition(".")[0] not in stems or path.suffix == ".part":
            path.unlink(missing_ok=True)


def load(folder: Path, task_id: str) -> Checkpoint | None:
    """The last undamaged checkpoint of this task, with a warning for each damaged one after it; None without any."""
    for path in sorted((folder / "checkpoint").glob("step-*.json"), reverse=True):
        weights = path.with_suffix(".safetensors")
        try:
            values = read_json(path)
            _validate(values, task_id)
            if values["sha256"] != files.sha256(weights):
                raise ValueError(f"{weights.name} was changed or cut short")
            state = State(**{name: values[name] for name in asdict(State())})
            return Checkpoint(load_weights(weights), state, weights)
        except (ValueError, OSError) as error:
            say(f"checkpoint {weights} is damaged ({error}): trying the one before")
    return None


def _validate(values: dict[str, Any], task_id: str) -> None:
    """Raise ValueError where the JSON file was changed, is of another task, or holds impossible numbers."""
    if missing := {"task", "sha256", *asdict(State())} - set(values):
        raise ValueError(f"the field {min(missing)} is missing")
    if values["task"] != task_id:
        raise ValueError(f"it is of {values['task']}")
    if "json_sha256" in values and values.pop("json_sha256") != _json_sha256(values):
        raise ValueError("its JSON file was changed")
    counts = all(type(values[name]) is int and values[name] >= 0 for name in ("epoch", "batch", "step"))
    seconds = (values["train_seconds"], 0.0 if values["seconds_to_bar"] is None else values["seconds_to_bar"])
    if not counts or not all(type(value) in (int, float) and 0 <= value < math.inf for value in seconds):
        raise ValueError("its numbers are impossible")


def latest_path(folder: Path) -> Path | None:
    """The file of the newest checkpoint's tensors."""
    newest = max((folder / "checkpoint").glob("step-*.json"), default=None)
    return newest and newest.with_suffix(".safetensors")


def _json_sha256(values: dict[str, Any]) -> str:
    """Of the JSON file itself: with a changed digit, a run would continue from the right weights at a wrong step."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
