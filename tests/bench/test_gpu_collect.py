"""What a training on a GPU leaves comes back in a few files, whether it finished or not."""

from __future__ import annotations

import importlib.util
import json
import tarfile
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file, save_file

spec = importlib.util.spec_from_file_location("gpu_collect", ROOT / "bench/gpu_collect.py")
assert spec is not None
assert spec.loader is not None
gpu_collect = importlib.util.module_from_spec(spec)
spec.loader.exec_module(gpu_collect)


def test_finished_and_interrupted_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, out = tmp_path / "runs", tmp_path / "out"
    for name in ("done", "cut", "empty"):
        (runs / name / "checkpoint").mkdir(parents=True)
        (runs / name / "config.json").write_text("{}")
    out.mkdir()
    weights = {"weight": torch.tensor([1.5, 2.5]), "count": torch.tensor(3)}
    save_file(weights, runs / "done/model.safetensors")
    summary = {"metric": "accuracy", "value": 0.9, "data": "mnist", "train_seconds": 3.0, "steps": 60}
    (runs / "done/summary.json").write_text(json.dumps(summary))
    for step in (3, 7):
        (runs / f"cut/checkpoint/step-{step:08d}.json").write_text("{}")
        tensors = {
            "model/weight": torch.zeros(2),
            "ema/weight": torch.full((2,), float(step)),
            "sums/loss": torch.ones(1),
        }
        save_file(tensors, runs / f"cut/checkpoint/step-{step:08d}.safetensors")

    gpu_collect.main(runs, out)
    said = capsys.readouterr().out
    assert "done: accuracy 0.9000 on mnist, 3.0 s, 60 steps of 50.00 ms" in said
    assert "cut: not finished; last epoch: none" in said
    with tarfile.open(out / "weights-1.tar") as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    done, cut = (load_file(tmp_path / f"unpacked/{name}/{name}.safetensors") for name in ("done", "cut"))
    assert done["weight"].dtype == torch.float16
    assert done["count"] == 3
    assert cut["weight"].tolist() == [7, 7], "the EMA of the last checkpoint"
    assert list(cut) == ["weight"]


def test_no_archive_is_too_large(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_collect, "MAX_FILE_BYTES", 300_000)
    paths = [tmp_path / name for name in ("large", "a", "b", "c")]
    for path, size in zip(paths, (280_000, 150_000, 120_000, 60_000), strict=True):
        path.write_bytes(bytes(size))
    (tmp_path / "out").mkdir()
    gpu_collect.pack(paths, tmp_path, tmp_path / "out")
    assert "large is left out: 0.3 MiB" in capsys.readouterr().out
    archives = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in archives] == ["weights-1.tar", "weights-2.tar"]
    assert all(path.stat().st_size <= 300_000 for path in archives)


def test_large_weights_are_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of cifar10-skip's best recipe, 19 MB in half precision."""
    monkeypatch.setattr(gpu_collect, "MAX_FILE_BYTES", 600_000)
    run, out = tmp_path / "runs/wide", tmp_path / "out"
    run.mkdir(parents=True)
    out.mkdir()
    (run / "config.json").write_text("{}")
    tensors = {name: torch.randn(100_000) for name in "abcd"}
    save_file(tensors, run / "model.safetensors")
    gpu_collect.main(tmp_path / "runs", out)
    merged: dict[str, torch.Tensor] = {}
    for archive in sorted(out.iterdir()):
        assert archive.stat().st_size <= 600_000
        with tarfile.open(archive) as opened:
            opened.extractall(tmp_path / "unpacked", filter="data")
    for path in sorted((tmp_path / "unpacked/wide").iterdir()):
        merged |= load_file(path)
    assert {name: tensor.half().tolist() for name, tensor in tensors.items()} == {
        k: v.tolist() for k, v in merged.items()
    }
