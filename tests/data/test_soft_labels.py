"""Soft labels for texts without a label, and what a training makes of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command

from decathlon.data import soft_labels
from decathlon.data.base import Data, parse_source
from decathlon.data.soft_labels import Teacher
from decathlon.tasks.base import get_task

RNG = np.random.default_rng(0)
OPINIONS = {0: ["good", "fine"], 1: ["bad", "poor"], 2: ["so", "la"]}


def compose(labels: np.ndarray) -> list[list[str]]:
    """Texts of twenty words, of which about a third tell the class."""
    return [
        [str(RNG.choice(OPINIONS[label] if RNG.random() < 0.3 else list("abcdefg"))) for _ in range(20)]
        for label in labels.tolist()
    ]


def embed(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Embeddings (N, 8) with the class in their first values, in noise."""
    return np.eye(num_classes, 8)[labels] + RNG.normal(0, 0.4, (len(labels), 8))


@pytest.mark.parametrize("num_classes", [2, 3])
def test_teachers_know_what_they_were_taught(num_classes: int) -> None:
    labels = [np.arange(count) % num_classes for count in (300, 60, 90)]
    by_words = soft_labels.ngram_teacher([compose(part) for part in labels], labels[0], num_classes)
    embedded = [embed(part, num_classes) for part in labels]
    by_vectors = soft_labels.embedding_teacher("encoder", embedded, labels[0], num_classes)
    for teacher in (by_words, by_vectors):
        assert teacher.validation.shape == (60, num_classes)
        assert (teacher.validation.argmax(1) == labels[1]).mean() > 0.85
        assert (teacher.unlabelled.argmax(1) == labels[2]).mean() > 0.85
    logits, names, accuracies = soft_labels.combine([by_words, by_vectors], labels[1])
    assert logits.shape == (90, num_classes)
    assert logits.dtype == np.float32
    assert set(accuracies) == {"ngrams", "encoder", "ngrams and encoder"}
    assert accuracies[" and ".join(names)] == max(accuracies.values())


def test_a_teacher_that_only_guesses_is_left_out() -> None:
    labels = np.arange(100) % 2
    right = np.eye(2, dtype=np.float32)[labels] * 2 - 1
    noise = RNG.normal(0, 5, (100, 2)).astype(np.float32)
    teachers = [Teacher("noise", noise, noise), Teacher("right", right, right)]
    logits, names, _ = soft_labels.combine(teachers, labels)
    assert names == ["right"]
    assert (logits.argmax(1) == labels).all()
    assert logits.std() == pytest.approx(1)


def write_own(folder: Path) -> tuple[Path, Path]:
    """A table of 120 labelled texts, and a file of 200 without a label."""
    folder.mkdir()
    labels = np.arange(120) % 2
    rows = [f"{' '.join(text)},{label}" for text, label in zip(compose(labels), labels, strict=True)]
    (folder / "own.csv").write_text("\n".join(["text,label", *rows]))
    (folder / "more.txt").write_text("\n".join(" ".join(text) for text in compose(np.arange(200) % 2)))
    return folder / "own.csv", folder / "more.txt"


def load(path: Path, cache: Path, **fields: object) -> Data:
    task = get_task("imdb-textcnn")
    return task.load(parse_source(str(path), str(cache)), replace(task.sample_recipe(), embedding_epochs=0, **fields))


def test_unlabelled_texts_join_the_training_split(tmp_path: Path) -> None:
    labelled, more = write_own(tmp_path / "own")
    alone = load(labelled, tmp_path / "cache")
    both = load(labelled, tmp_path / "cache", unlabelled=str(more))
    assert len(both.train) == len(alone.train) + 200
    assert alone.train.targets.shape == (len(alone.train),)
    assert alone.info.teachers == []
    assert both.info.teachers == ["ngrams"]
    assert both.preparation_seconds > 0
    targets = both.train.targets  # (N, num_classes)
    assert torch.equal(targets[: len(alone.train)].argmax(1), alone.train.targets)
    assert set(targets[: len(alone.train)].flatten().tolist()) == {0.0, 1.0}
    soft = targets[len(alone.train) :]
    assert torch.allclose(soft.sum(1), torch.ones(200))
    assert (soft.argmax(1) == torch.arange(200) % 2).float().mean() > 0.85
    for split in ("validation", "test"):
        assert torch.equal(getattr(both, split).targets, getattr(alone, split).targets)
    again = load(labelled, tmp_path / "cache", unlabelled=str(more), teachers=())
    assert len(again.train) == len(alone.train)


def test_texts_with_a_label_are_left_out_of_the_unlabelled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So the network never trains on a text of the test split, not even without its label."""
    labelled, more = write_own(tmp_path / "own")
    rows = [line.rpartition(",")[0] for line in labelled.read_text().splitlines()[1:]]
    more.write_text("\n".join([more.read_text(), *rows]))
    alone = load(labelled, tmp_path / "cache")
    both = load(labelled, tmp_path / "cache", unlabelled=str(more))
    assert len(both.train) == len(alone.train) + 200
    assert "120 of 320 texts are among the labelled ones, and are left out" in capsys.readouterr().err


def test_teachers_never_see_the_labels_of_the_test_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all test labels wrong the soft labels are the same."""
    from decathlon.data import imdb

    labelled, more = write_own(tmp_path / "own")
    before = load(labelled, tmp_path / "one", unlabelled=str(more))
    texts = imdb.load(parse_source(str(labelled), str(tmp_path)))
    wrong = replace(texts, test_labels=[1 - label for label in texts.test_labels])
    monkeypatch.setattr(imdb, "load", lambda source: wrong)
    after = load(labelled, tmp_path / "two", unlabelled=str(more))
    assert torch.equal(before.train.targets, after.train.targets)
    assert not torch.equal(before.test.targets, after.test.targets)


def test_a_training_with_soft_labels_says_who_made_them(decathlon: Command, tmp_path: Path) -> None:
    labelled, more = write_own(tmp_path / "own")
    options = ("--min-count", "1", "--max-length", "30", "--embedding-dim", "8", "--embedding-epochs", "0")
    options += (
        "--filters",
        "8",
        "--epochs",
        "4",
        "--batch-size",
        "20",
        "--unlabelled",
        str(more),
        "--teachers",
        "ngrams",
    )
    done = decathlon("train", "imdb-textcnn", "--data", labelled, *options, "--out", "run", "--json")
    assert done.status == 0, done.err
    assert "accuracy of the teachers on validation: ngrams" in done.err
    summary = json.loads(done.out)
    assert summary["teachers"] == ["ngrams"]
    assert summary["preparation_seconds"] > 0
    evaluated = decathlon("evaluate", "run", "--json")
    assert evaluated.status == 0, evaluated.err
    assert json.loads(evaluated.out)["value"] == summary["value"]
    planned = decathlon(
        "train", "imdb-textcnn", "--data", labelled, *options, "--dry-run", "--json", "--data-dir", "new"
    )
    assert planned.status == 0, planned.err
    assert json.loads(planned.out)["sizes"]["train"] == 299
    assert "teacher" not in planned.err + evaluated.err
    missing = decathlon("train", "imdb-textcnn", "--data", labelled, *options, "--unlabelled", "none.txt")
    assert missing.status == 1
    assert "none.txt: there is no such file" in missing.error
    unknown = decathlon("train", "imdb-textcnn", "--data", labelled, *options, "--teachers", str(tmp_path / "own"))
    assert unknown.status == 1
    assert "lacks config.json" in unknown.error
