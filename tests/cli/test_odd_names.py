"""Pipes, links, and names that nobody would give: nothing waits, nothing leads outside, nothing raw is printed."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile
import pytest
import spoiled
from conftest import Command
from openers import OPENERS
from PIL import Image

from decathlon.cli import main as cli_main
from decathlon.cli import terminal
from decathlon.data import cifar10, imdb, pets, pretrained, voc
from decathlon.data.io import archives, files, idx, image_folder, voc_coco
from decathlon.data.read_options import ReadOptions
from decathlon.reporting import html
from decathlon.runs import folder as run_folder

EVIL = "\x1b[31m\x9b2J\n<script>alert(1)</script>"


# --- What lies where a file should ------------------------------------------------------------------------------------


def file_readers() -> dict[str, Callable[[Path], Any]]:
    """Everything that is given a path."""
    return OPENERS | {
        "idx": lambda path: idx.read_idx(path, 3),
        "idx.gz": lambda path: idx.read_idx(path.rename(path.with_name("x.gz")), 3),
        "xml": lambda path: voc_coco.read_xml(path, path),
        "coco": lambda path: voc_coco.read_coco(path, []),
        "table": lambda path: imdb.read_table(path, "x", ReadOptions()),
        "json": run_folder.read_json,
        "lines": run_folder.read_lines,
        "weights": run_folder.load_weights,
        "pretrained": pretrained.read_tensors,
        "archive": lambda path: list(archives.iterate_members(path, 1, 1)),
        "batches": lambda path: cifar10._folder(path.rename(path.with_name("data_batch_1")).parent),
        "checksum": lambda path: files.read_bytes(path),
    }


@pytest.mark.parametrize("name", list(file_readers()))
def test_a_pipe_is_not_waited_for(name: str, tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with hostile.limited(1000), pytest.raises(ValueError, match="is not a regular file"):
        file_readers()[name](path)


@pytest.mark.parametrize("name", ["train/neg/0.txt", "test/pos/1.txt"])
def test_pipes_and_links_in_a_tree(name: str, tmp_path: Path) -> None:
    for file_name, content in hostile.tree_files().items():
        (tmp_path / file_name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file_name).write_bytes(content)
    path = tmp_path / name
    path.unlink()
    os.mkfifo(path)
    with hostile.limited(1000), pytest.raises(ValueError, match="is not a regular file"):
        imdb.read_tree(tmp_path, "x")
    path.unlink()
    path.symlink_to(path.name)  # to itself
    with pytest.raises((OSError, ValueError), match=path.name):
        imdb.read_tree(tmp_path, "x")
    path.unlink()
    (tmp_path / "train" / "neg" / "up").symlink_to(tmp_path)  # round and round
    path.symlink_to(tmp_path / "train/neg/2.txt")
    assert len(imdb.read_tree(tmp_path, "x").train) == 6, "a link to a file is followed"


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no users here")
def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything, so the refusal is put where the system would give it."""

    def refuse(path: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "train").mkdir()
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match=tmp_path.name):
        image_folder.list_images(tmp_path)


# --- Names ------------------------------------------------------------------------------------------------------------


def test_nothing_raw_reaches_the_terminal(
    tmp_path: Path, decathlon: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = EVIL.replace("/", "-")
    for command in (
        ("predict", "mnist-mlp", f"{evil}.png"),
        ("train", "mnist-mlp", "--data", evil),
        ("evaluate", evil),
    ):
        answer = decathlon(*command)
        assert answer.status == 1
        assert "\\x1b[31m\\x9b2J" in answer.error
        assert not set(answer.err) & {"\x1b", "\x9b"}
    answers = [
        {"input": evil, "label": evil, "notes": [evil], "probabilities": {evil: 1.0}, "attributions": [(evil, 1.0)]}
    ]
    terminal.print_predictions(
        [*answers, {"input": "x", "label": "y", "objects": [{"class": evil, "score": 1, "box": [0] * 4}]}]
    )
    terminal.print_table([{"a": evil, "b": "[/red] [link=x]", "\ud800": "\udcff"}])
    out = capsys.readouterr().out
    assert not set(out) & {"\x1b", "\x9b"}
    assert "[/red] [link=x]" in out
    terminal.print_output([*answers, "\udcff"], True, lambda: None)
    out = capsys.readouterr().out
    assert json.loads(out)[0]["input"] == evil
    assert not set(out) & {"\x1b", "\x9b", "\udcff"}
    assert len(cli_main.format_error(ValueError("x" * 10_000_000))) < 3000


def test_names_are_text_in_pages(tmp_path: Path) -> None:
    contents = hostile.run_files()
    summary = spoiled.SUMMARY | dict.fromkeys(("data", "metric", "hardware", "commit", "encoder", "model"), EVIL)
    summary |= {"metrics": {EVIL: 0.5}, "violations": [EVIL], "task": EVIL}
    contents["config.json"] = json.dumps(spoiled.CONFIG | {"recipe": {EVIL: EVIL}}).encode()
    contents["plots/texts.json"] = json.dumps([{"title": EVIL, "parts": [[EVIL, 1.0]]}]).encode()
    hostile.write(tmp_path, contents)
    Image.new("RGB", (2, 2)).save(tmp_path / "plots" / "<script>alert(1)<b>.png")
    page = html.write(tmp_path, summary).read_text()
    assert "<script>" not in page
    assert page.count("&lt;script&gt;") > 8
    rows = [{**dict.fromkeys(("task", "data", "metric", "link", "changes"), EVIL), "value": 0.5, "n": 1, "bar": None}]
    rows[0] |= {"verdict": "", "train_seconds": 1.0}
    assert "<script>" not in html.overview(tmp_path / "index.html", rows, EVIL).read_text()
    assert all(html.PAGES.autoescape(name) for name in html.PAGES.list_templates())


def test_class_names_are_never_paths(tmp_path: Path, decathlon: Command) -> None:
    """Trained and drawn with names that lead outside, to a page, and to a formula."""
    leading_out = f"outside_{tmp_path.parent.name}"  # a name that no other test and no other run of the tests makes
    names = [f"../../{leading_out}", "$\\frac", EVIL]
    rows = [{"text": f"film {n % 3}", "label": names[n % 3]} for n in range(60)]
    Path("own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ("--epochs", "1", "--embedding-epochs", "0", "--min-count", "1", "--out", "run")
    done = decathlon("train", "imdb-textcnn", "--data", "own.jsonl", *flags)
    assert done.status == 0, done.err
    assert "could not be drawn" not in done.err
    assert Path("run/plots/confusion.png").exists()
    assert "<script>" not in Path("run/report.html").read_text()
    assert not set(done.err + done.out) & {"\x1b", "\x9b"}
    assert not list(tmp_path.parent.parent.rglob(f"*{leading_out}*"))
    answer = decathlon("predict", "imdb-textcnn", "film 1", "--run", "run")
    assert answer.status == 0
    assert not set(answer.out) & {"\x1b", "\x9b"}


def test_names_that_begin_with_a_dash(tmp_path: Path, decathlon: Command) -> None:
    for name, content in hostile.pets_files().items():
        path = tmp_path / "-data" / name.replace("a_", "-a_").replace("b_", "--debug_")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            content.replace(b"a_", b"-a_").replace(b"b_", b"--debug_") if name.endswith(".txt") else content
        )
    assert len(pets.list_pairs(Path("-data"))) == 4
    Image.open(io.BytesIO(spoiled.image())).save("-v.png")
    answer = decathlon("predict", "pets-unet", "./-v.png")
    assert answer.status == 0, answer.err
    assert Path("-v-mask.png").exists()


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", "a\0b", "x/../../y"])
def test_lists_of_images_may_not_lead_outside(name: str, tmp_path: Path) -> None:
    for file_name, content in hostile.voc_files().items():
        (tmp_path / file_name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file_name).write_bytes(content)
    (tmp_path / "ImageSets/Main/trainval.txt").write_text(f"{name}\n")
    with pytest.raises(ValueError, match=r"trainval\.txt lists"):
        voc.list_files(tmp_path, ())
    path = tmp_path / "a.json"
    images = [{"id": 1, "file_name": name, "width": 9, "height": 7}]
    path.write_text(json.dumps(spoiled.COCO | {"images": images}))
    if name not in ("..", "a\0b"):
        with pytest.raises(ValueError, match="leads outside"):
            voc_coco.read_coco(path, [tmp_path])


def test_json_is_whole_in_any_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding in ("latin-1", "ascii", "utf-8"):
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
            text = terminal.format_json({"folder": "данные"})
        assert json.loads(text.encode(encoding)) == {"folder": "данные"}


def test_printed_commands_can_be_pasted(decathlon: Command) -> None:
    started = decathlon("start", "mnist-mlp", "--dir", "my networks")
    assert "decathlon grade 'my networks/net.py' --data sample" in started.out
    options = ("--data", "sample", "--epochs", "1", "--hidden", "8", "--out", "my run")
    assert decathlon("train", "mnist-mlp", *options).status == 0
    assert "--resume 'my run'" in decathlon("train", "mnist-mlp", *options).error
