"""Collect what `bench/gpu.sh` trained: a line on each run, and the weights in half precision in a few archives."""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

MAX_FILE_BYTES = 16 << 20


def main(runs: Path, out: Path) -> None:
    folders = sorted(folder for folder in runs.iterdir() if (folder / "config.json").exists())
    weights = list[Path]()
    for folder in folders:
        print(describe(folder))
        if tensors := read_weights(folder):
            parts = divide({name: halve(tensor) for name, tensor in tensors.items()})
            for number, part in enumerate(parts, 1):
                stem = f"{folder.name}-{number}" if len(parts) > 1 else folder.name
                weights.append(folder / f"{stem}.safetensors")
                save_file(part, weights[-1])
        weights += sorted((folder / "encoder").glob("*"))  # of a pre-training, in half precision already
    pack(weights, runs, out)


def describe(folder: Path) -> str:
    """A line on the run: its metric and its time per step, or how far it came."""
    path = folder / "summary.json"
    if path.exists():
        summary = json.loads(path.read_text())
        milliseconds = 1000 * summary["train_seconds"] / max(1, summary["steps"])
        result = f"{summary['metric']} {summary['value']:.4f} on {summary['data']}, {summary['train_seconds']} s"
        return f"{folder.name}: {result}, {summary['steps']} steps of {milliseconds:.2f} ms"
    metrics = folder / "metrics.jsonl"
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    return f"{folder.name}: not finished; last epoch: {lines[-1] if lines else 'none'}"


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The final weights; of an unfinished run those of its last checkpoint, its EMA where it has one; else none."""
    if (folder / "model.safetensors").exists():
        return load_file(folder / "model.safetensors")
    checkpoints = sorted((folder / "checkpoint").glob("step-*.json"))
    if not checkpoints:
        return {}
    tensors = load_file(checkpoints[-1].with_suffix(".safetensors"))
    prefix = "ema/" if any(name.startswith("ema/") for name in tensors) else "model/"
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def halve(tensor: Tensor) -> Tensor:
    return (tensor.half() if tensor.is_floating_point() else tensor).contiguous()


def divide(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The tensors in their order, in parts that fit into a file each."""
    parts, size = [dict[str, Tensor]()], 0
    for name, tensor in tensors.items():
        if parts[-1] and size + tensor.nbytes > MAX_FILE_BYTES - (1 << 17):  # for the file's header and the archive's
            parts.append({})
            size = 0
        parts[-1][name] = tensor
        size += tensor.nbytes
    return parts


def pack(paths: list[Path], top: Path, out: Path) -> None:
    """Write weights-1.tar, weights-2.tar, …, each as full as it may be; a larger file is left out, and named."""
    bins: list[list[Path]] = []
    for path in sorted(paths, key=lambda path: -path.stat().st_size):
        size = path.stat().st_size
        if size > MAX_FILE_BYTES - 65536:
            print(f"{path.name} is left out: {size / 2**20:.1f} MiB")
            continue
        room = (held for held in bins if sum(p.stat().st_size + 1024 for p in held) + size < MAX_FILE_BYTES - 65536)
        held = next(room, None)
        if held is None:
            bins.append([path])
        else:
            held.append(path)
    for number, held in enumerate(bins, 1):
        with tarfile.open(out / f"weights-{number}.tar", "w") as archive:
            for path in held:
                archive.add(path, path.relative_to(top))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
