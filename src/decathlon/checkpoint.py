"""Checkpoints: all a training needs to go on, as plain tensors and JSON (no pickle), verified when read."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from decathlon import run
from decathlon.data import say


@dataclass
class State:
    """How far a training has come: what a checkpoint holds besides tensors."""

    epoch: int = 0  # epochs done
    batch: int = 0  # batches done of the epoch under way
    step: int = 0  # steps done in all
    train_seconds: float = 0.0  # of batches, steps and nothing else
    seconds_to_bar: float | None = None


def pack(
    model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer, sums: dict[str, Tensor]
) -> dict[str, Tensor]:
    """All tensors of a checkpoint under one flat set of names."""
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    if average is not model:
        tensors |= {f"average/{name}": tensor for name, tensor in average.state_dict().items()}
    for number, entry in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{name}": t for name, t in entry.items() if isinstance(t, Tensor)}
    return tensors | {f"sums/{name}": tensor for name, tensor in sums.items()}


def restore(
    found: tuple[dict[str, Tensor], dict[str, Any]],
    model: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
    folder: Path,
) -> tuple[State, dict[str, Tensor]]:
    """The inverse of `pack`; also forgets the lines that were written after the checkpoint."""
    tensors, values = found

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

    model.load_state_dict(part("model/"))
    if average is not model:
        average.load_state_dict(part("average/"))
    entries: dict[int, dict[str, Tensor]] = {}
    for name, tensor in part("optimizer/").items():
        number, _, key = name.partition("/")
        entries.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": entries})
    state = State(**{name: values[name] for name in asdict(State())})
    for name in ("metrics.jsonl", "timing.jsonl"):
        run.keep_lines(folder / name, state.epoch)
    device = next(model.parameters()).device
    return state, {name: tensor.to(device) for name, tensor in part("sums/").items()}


def save(folder: Path, tensors: dict[str, Tensor], state: State, task_id: str) -> None:
    """Write a checkpoint with its checksum, then drop all but the last two.

    The JSON file beside the tensors comes second and makes the checkpoint count: a kill in between loses nothing.
    """
    place = folder / "checkpoint"
    place.mkdir(exist_ok=True)
    path = place / f"step-{state.step:08d}.safetensors"
    run.save_weights(path, tensors)
    run.write_json(path.with_suffix(".json"), asdict(state) | {"task": task_id, "sha256": _sha256(path)})
    for old in sorted(place.glob("step-*.json"))[:-2]:
        old.unlink()
        old.with_suffix(".safetensors").unlink(missing_ok=True)


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The last undamaged checkpoint; says when a later one is damaged. None where there is none at all."""
    for path in sorted((folder / "checkpoint").glob("step-*.json"), reverse=True):
        weights = path.with_suffix(".safetensors")
        try:
            state = run.read_json(path)
            if weights.exists() and state["sha256"] == _sha256(weights):
                return load_file(weights), state
        except (ValueError, KeyError):
            pass
        say(f"checkpoint {weights} is damaged; going back to the one before")
    return None


def last(folder: Path) -> Path | None:
    """Where the newest checkpoint lies."""
    newest = max((folder / "checkpoint").glob("step-*.json"), default=None)
    return newest and newest.with_suffix(".safetensors")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
        return digest.hexdigest()
