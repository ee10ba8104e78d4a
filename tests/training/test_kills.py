"""Killed at every single operation on a file, checkpoints and caches are of use to the next process.

The trainings that are killed are in tests/soak/test_interruptions.py; one is in tests/test_reliability.py.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from killing import attempt
from PIL import Image

from decathlon.data import embeddings
from decathlon.data.io import atomic, cache, decoded_images
from decathlon.data.io.voc_coco import Annotation
from decathlon.runs import folder as run_folder
from decathlon.training import checkpoint
from decathlon.training.checkpoint import State

# --- Checkpoints ------------------------------------------------------------------------------------------------------


def tensors(step: int) -> dict[str, torch.Tensor]:
    return {"model/weight": torch.full((50, 3), float(step)), "sums/loss": torch.tensor(step / 3)}


def save_three(folder: Path) -> None:
    """What a training does with the disk at its checkpoints."""
    folder.mkdir(exist_ok=True)
    for step in (10, 20, 30):
        run_folder.append_line(folder / "metrics.jsonl", {"step": step})
        checkpoint.save(folder, tensors(step), State(epoch=step // 10, step=step), "mnist-mlp")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoint").iterdir())


LAST_TWO = [f"step-000000{step}.{kind}" for step in (20, 30) for kind in ("json", "safetensors")]


def test_checkpoints_survive_a_kill_at_any_operation(tmp_path: Path) -> None:
    whole = attempt(save_three, tmp_path / "whole", folder=tmp_path / "whole")
    assert names(tmp_path / "whole") == LAST_TWO
    steps = []
    for number in range(len(whole.operations)):
        folder = tmp_path / str(number)
        assert attempt(save_three, folder, folder=folder, before=number, torn=True).killed
        loaded = checkpoint.load(folder, "mnist-mlp")
        steps.append(loaded.state.step if loaded else 0)
        if loaded:
            assert torch.equal(loaded.tensors["model/weight"], tensors(steps[-1])["model/weight"])
            assert len(run_folder.read_lines(folder / "metrics.jsonl")) >= loaded.state.epoch, (
                "its lines are on the disk first"
            )
        save_three(folder)  # the next process
        assert names(folder) == LAST_TWO, "nothing that a kill left stays for ever"
    assert steps == sorted(steps), "what was done stays done"
    assert set(steps) == {0, 10, 20, 30}


def go_on(folder: Path) -> int:
    """What a resumed training does with the disk before its first step."""
    loaded = checkpoint.load(folder, "mnist-mlp")
    assert loaded is not None
    checkpoint.delete_after(folder, loaded.state.step)
    run_folder.keep_lines(folder / "metrics.jsonl", loaded.state.epoch)
    step: int = loaded.state.step
    return step


def test_a_resumed_run_survives_a_kill_at_any_operation(tmp_path: Path) -> None:
    """It drops the damaged checkpoint and the lines that came after the one it goes on from, which stay whole."""

    def ready(folder: Path) -> Path:
        save_three(folder)
        damage(folder / "checkpoint" / "step-00000030.json", "byte flipped")
        return folder

    whole = attempt(go_on, ready(tmp_path / "whole"), folder=tmp_path / "whole")
    assert whole.value == 20
    for number in range(len(whole.operations)):
        folder = ready(tmp_path / str(number))
        assert attempt(go_on, folder, folder=folder, before=number, torn=True).killed
        assert go_on(folder) == 20
        assert [line["step"] for line in run_folder.read_lines(folder / "metrics.jsonl")] == [10, 20]
        assert names(folder) == LAST_TWO[:2]
        assert list(folder.glob("*.part")) == []


def damage(path: Path, how: str) -> None:
    weights = path.with_suffix(".safetensors")
    content, state = bytearray(weights.read_bytes()), json.loads(path.read_text())
    if how == "tensors cut":
        weights.write_bytes(content[: len(content) // 2])
    elif how == "tensors empty":
        weights.write_bytes(b"")
    elif how == "byte flipped":
        content[-5] ^= 16
        weights.write_bytes(content)
    elif how == "tensors gone":
        weights.unlink()
    elif how == "json cut":
        path.write_bytes(path.read_bytes()[:40])
    elif how == "json empty":
        path.write_bytes(b"")
    elif how == "json garbage":
        path.write_bytes(bytes(range(256)))
    elif how == "json a list":
        path.write_text("[1, 2]")
    elif how == "another step":
        path.write_text(json.dumps(state | {"step": state["step"] + 1}))
    elif how == "another task":
        path.write_text(json.dumps(state | {"task": "mnist-cnn"}))
    else:
        del state["json_sha256"], state["batch"]
        path.write_text(json.dumps(state))


KINDS = {
    "tensors cut": "was changed or cut short",
    "tensors empty": "was changed or cut short",
    "byte flipped": "was changed or cut short",
    "tensors gone": "no such file",
    "json cut": "json is damaged",
    "json empty": "json is damaged",
    "json garbage": "json is damaged",
    "json a list": "contains no object",
    "another step": "its JSON file was changed",
    "another task": "it is of mnist-cnn",
    "a field missing": "the field batch is missing",
}


@pytest.mark.parametrize("how", KINDS)
def test_every_damage_falls_back_and_is_reported(how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_three(tmp_path)
    last = tmp_path / "checkpoint" / "step-00000030.json"
    damage(last, how)
    loaded = checkpoint.load(tmp_path, "mnist-mlp")
    assert loaded is not None
    assert loaded.state.step == 20
    message = capsys.readouterr().err
    assert "step-00000030.safetensors is damaged" in message
    assert KINDS[how] in message
    checkpoint.delete_after(tmp_path, 20)
    checkpoint.save(tmp_path, tensors(25), State(step=25), "mnist-mlp")
    steps = [path.stem for path in sorted((tmp_path / "checkpoint").glob("*.json"))]
    assert steps == ["step-00000020", "step-00000025"], "a damaged one is not one of the last two"


def test_a_checkpoint_of_a_later_version_is_read(tmp_path: Path) -> None:
    """Fields that this version does not know are passed over; one that was written before there were seals is read."""
    save_three(tmp_path)
    path = tmp_path / "checkpoint" / "step-00000030.json"
    state = json.loads(path.read_text())
    del state["json_sha256"]
    path.write_text(json.dumps(state | {"weather": "fine"}))
    loaded = checkpoint.load(tmp_path, "mnist-mlp")
    assert loaded is not None
    assert loaded.state == State(epoch=3, step=30)


# --- Caches -----------------------------------------------------------------------------------------------------------


def arrays_to_cache() -> dict[str, np.ndarray]:
    photos = np.arange(60, dtype=np.uint8).reshape(3, 20)
    return {"photos": photos, "labels": np.arange(3), "names": np.array(["a", "b"])}


def same(arrays: dict[str, np.ndarray]) -> bool:
    expected = arrays_to_cache()
    return arrays.keys() == expected.keys() and all(
        arrays[name].dtype == expected[name].dtype and np.array_equal(arrays[name], expected[name]) for name in expected
    )


def keep(path: Path) -> bool:
    return same(cache.load_or_make(path, arrays_to_cache))


def picture_files(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (6 + number, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def kept_pictures(path: Path) -> list[list[int]]:
    """The pixels of three pictures, decoded or from the cache."""
    sides = {"train": [Annotation(Path(f"{n}.png"), "x", None, [(1, 1, 5, 5)], ["cat"], [False]) for n in range(3)]}
    decoded = decoded_images.load_or_decode(
        path, lambda out: decoded_images.decode_images(sides, ["cat"], 100, out, "test")
    )
    return [decoded.image(number).flatten().tolist() for number in range(3)]


class Reader:
    """Stands for a text encoder: what it makes of a text can be told from what another text would give."""

    name, digest, max_length, layers, pooling, embedding_dim = "reader", "0", 8, (0,), "mean", 2


def read_texts(folder: Path) -> list[list[float]]:
    """Vectors of 9 texts in chunks of 2, kept as `embeddings.embed_cached` keeps them."""
    embeddings.TEXTS_PER_FILE = 2
    embeddings.embed = lambda _, texts: torch.tensor([[float(len(text)), float(ord(text[0]))] for text in texts])
    texts = [chr(97 + number) * (1 + number * 5 % 9) for number in range(9)]
    return embeddings.embed_cached(Reader(), texts, folder, ["made"], "texts")[0].tolist()  # type: ignore[arg-type]


@pytest.mark.parametrize(("work", "name"), [(keep, "cache/digits.npz"), (kept_pictures, "cache/voc"), (read_texts, "")])
def test_caches_survive_a_kill_at_any_operation(work: Callable[[Path], Any], name: str, tmp_path: Path) -> None:
    picture_files(tmp_path)
    whole = attempt(work, tmp_path / "whole" / name, folder=tmp_path / "whole")
    assert whole.value
    files = sorted(path.name for path in (tmp_path / "whole").rglob("*"))
    for number in range(len(whole.operations)):
        folder = tmp_path / str(number)
        assert attempt(work, folder / name, folder=folder, before=number).killed
        assert attempt(work, folder / name, folder=folder).value == whole.value
        assert sorted(path.name for path in folder.rglob("*")) == files, "nothing that a kill left stays for ever"


def test_embeddings_that_were_kept_are_not_computed_again(tmp_path: Path) -> None:
    whole = attempt(read_texts, tmp_path / "whole", folder=tmp_path / "whole")
    folder = tmp_path / "killed"
    named = [number for number, name in enumerate(whole.operations) if name.startswith("os.rename")]
    assert len(named) == 5
    attempt(read_texts, folder, folder=folder, before=named[3])
    again = attempt(read_texts, folder, folder=folder)
    assert again.value == whole.value
    assert sum(name.startswith("os.rename") for name in again.operations) == 2


def test_no_flipped_byte_of_a_cache_goes_unseen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever byte is damaged: what is read is what was kept, or it is made again."""
    path = tmp_path / "digits.npz"
    keep(path)
    whole = path.read_bytes()
    assert same(cache.read_arrays(path))
    again = 0
    for offset in range(len(whole)):
        for mask in (0x01, 0x20, 0x80, 0xFF):
            path.write_bytes(whole[:offset] + bytes([whole[offset] ^ mask]) + whole[offset + 1 :])
            try:
                arrays = cache.read_arrays(path)
            except Exception:
                again += 1
            else:
                assert same(arrays), f"byte {offset}, mask {mask}"
    assert again > 2 * len(whole)
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(Exception):  # noqa: B017, PT011 - of many kinds
            cache.read_arrays(path)


@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "gone", "longer"])
def test_damaged_pixels_are_made_again(how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture_files(tmp_path)
    expected = kept_pictures(tmp_path / "voc")
    path = tmp_path / "voc.bin"
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[100] ^= 1
        path.write_bytes(content)
    elif how == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": content[:-1], "empty": b"", "longer": content + b"x"}[how])
    capsys.readouterr()
    assert kept_pictures(tmp_path / "voc") == expected
    assert "is damaged: making it again" in capsys.readouterr().err
    assert kept_pictures(tmp_path / "voc") == expected
    assert capsys.readouterr().err == ""


# --- Writing ----------------------------------------------------------------------------------------------------------


def test_parts_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    host = socket.gethostname()
    dead_pid = attempt(os.getpid, folder=tmp_path).value
    stays = [
        f"x.{host}-{os.getppid()}.part",
        f"x.elsewhere-{dead_pid}.part",
        f"y.{host}-{dead_pid}.part",
        "x.part",
        "x",
    ]
    for name in [f"x.{host}-{dead_pid}.part", *stays]:
        (tmp_path / name).write_text("")
    with atomic.write_atomically(tmp_path / "x") as part:
        part.write_text("new")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(stays)
    assert (tmp_path / "x").read_text() == "new"


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power cut may not turn round: first the content, then the name, then the folder that holds the name."""
    path, events = tmp_path / "x", []
    path.write_text("old")

    def note(number: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(number).st_mode) else f"file of {os.fstat(number).st_size} bytes"
        events.append(f"{kind}, while x is {path.read_text()}")

    monkeypatch.setattr(os, "fsync", note)
    atomic.write_text(path, "new text")
    assert events == ["file of 8 bytes, while x is old", "folder, while x is new text"]


def test_what_fails_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")

    def fail(error: Exception) -> None:
        with atomic.write_atomically(tmp_path / "x") as part:
            part.write_text("new")
            raise error

    with pytest.raises(ZeroDivisionError):
        fail(ZeroDivisionError())
    with pytest.raises(atomic.Unwritable, match=r"could not write .*x: No space left on device; make space there"):
        fail(OSError(28, "No space left on device"))
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x", "old")]
