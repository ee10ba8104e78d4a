"""Texts: reading them, splitting them, and what is wrong with them."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command
from hypothesis import given, settings
from hypothesis import strategies as st

from decathlon.data import imdb, soft_labels
from decathlon.data.base import EpochShard, parse_source
from decathlon.data.io import download, text_tables
from decathlon.data.read_options import ReadOptions
from decathlon.data.synthetic import reviews
from decathlon.data.transforms import words
from decathlon.models.textcnn import TextCNN
from decathlon.tasks.base import get_task

FAST = ("--epochs", "1", "--filters", "8", "--embedding-dim", "8", "--embedding-epochs", "0")
FAST += ("--min-count", "1", "--max-length", "30")


def write_tree(folder: Path, classes: tuple[str, ...] = ("bad", "good", "mixed"), count: int = 40) -> Path:
    for split in ("train", "test"):
        for number, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                (folder / split / name / f"{i}.txt").write_text(f"word{number} and word{i}<br /><br />the end")
    return folder


def test_sample_cannot_be_solved_by_counting_words(cache: Path) -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    texts = imdb.load(parse_source("sample", str(cache)))
    assert (len(texts.train), len(texts.test), len(texts.unlabelled)) == (1200, 400, 600)
    accuracy = {}
    for longest in (1, 2):
        count = CountVectorizer(ngram_range=(1, longest)).fit(texts.train)
        fitted = LogisticRegression(max_iter=500).fit(count.transform(texts.train), texts.train_labels)
        accuracy[longest] = fitted.score(count.transform(texts.test), texts.test_labels)
    assert accuracy[1] < 0.6
    assert accuracy[2] > 0.9


def test_sample_is_seeded(tmp_path: Path) -> None:
    one, two = (reviews.write_reviews(tmp_path / name) for name in ("one", "two"))
    for path in one.rglob("*.txt"):
        assert path.read_text() == (two / path.relative_to(one)).read_text()


def test_text_is_cleaned_in_one_place() -> None:
    assert imdb.clean_text("One<br /><br/>two <BR>three\n four") == "One two three four"


def test_splitting_keeps_negations() -> None:
    assert words.split("Didn't like it!! 10/10?") == ["didn't", "like", "it", "!", "!", "10", "10", "?"]
    assert len(words.split("word " * 300_000)) < 30_000


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=300), length=st.integers(2, 20))
def test_any_text_can_be_encoded(text: str, length: int) -> None:
    row = words.encode([words.split(imdb.clean_text(text))], ["the", "a"], length)
    assert row.shape == (1, length)
    used = int((row != words.PAD).sum())
    assert (row[0, :used] != words.PAD).all()
    assert used == min(length, len(words.split(imdb.clean_text(text))))


def test_long_texts_keep_head_and_tail() -> None:
    assert words.head_and_tail(list("abcdefgh"), 5) == list("abfgh")
    assert words.head_and_tail(list("abc"), 5) == list("abc")


def test_vectors_are_the_same_every_time() -> None:
    texts = [words.split(imdb.clean_text(text)) for text in ["the plot was good", "the cast was bad"] * 50]
    known = words.build_vocabulary(texts, 100, 1)
    one, two = (words.train_word2vec(texts, known, 8, 2) for _ in range(2))
    assert np.array_equal(one, two)
    assert one.shape == (len(known) + 2, 8)
    assert not one[words.PAD].any()


def test_batches_are_of_about_one_length_and_cover_all(cache: Path) -> None:
    task = get_task("imdb-textcnn")
    recipe = task.sample_recipe()
    train = task.load(parse_source("sample", str(cache)), recipe).train
    batches = list(task.batches(train, recipe, EpochShard(3, 0)))
    assert len(batches) == len(train) // recipe.batch_size
    spans = [(b.inputs != 0).sum(1) for b in batches]
    assert np.mean([int(s.max() - s.min()) for s in spans]) < 4
    resumed = list(task.batches(train, recipe, EpochShard(3, 0, start=5)))
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(batches[5:], resumed, strict=True))
    shares = [list(task.batches(train, recipe, EpochShard(3, 0, 0, rank, 2))) for rank in range(2)]
    assert [len(a) + len(b) for a, b in zip(*shares, strict=True)] == [len(b) for b in batches]


def test_words_are_made_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = get_task("imdb-textcnn")
    recipe = task.sample_recipe()
    first = task.load(parse_source("sample", str(cache)), recipe)
    monkeypatch.setattr(words, "split", lambda text: pytest.fail("split again"))
    second = task.load(parse_source("sample", str(cache)), recipe)
    assert torch.equal(first.train.inputs, second.train.inputs)
    assert not list(cache.rglob("*.part*"))


def test_a_damaged_cache_is_made_again(tmp_path: Path) -> None:
    task = get_task("imdb-textcnn")
    recipe = task.sample_recipe()
    before = task.load(parse_source("sample", str(tmp_path)), recipe)
    for name in ("imdb-words", "imdb-soft-labels"):
        (cached,) = (tmp_path / "cache").glob(f"{name}-*.npz")
        cached.write_bytes(cached.read_bytes()[:5000])
    after = task.load(parse_source("sample", str(tmp_path)), recipe)
    assert torch.equal(before.train.inputs, after.train.inputs)
    assert torch.equal(before.train.targets, after.train.targets)


def test_held_out_reviews_are_in_no_vocabulary(tmp_path: Path) -> None:
    """Neither the vocabulary nor word2vec reads the validation and test reviews."""
    task = get_task("imdb-textcnn")
    path = tmp_path / "own.csv"
    path.write_text("text,label\n" + "".join(f"word{i} here,{i % 2}\n" for i in range(240)))
    recipe = replace(task.sample_recipe(), embedding_epochs=0)
    data = task.load(parse_source(str(path), str(tmp_path / "cache")), recipe)
    assert len(data.info.vocabulary) == len(data.train) + 1
    assert (data.train.inputs != words.UNKNOWN).all()
    for split in (data.validation, data.test):
        assert (split.inputs == words.UNKNOWN).sum() == len(split)


def test_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    network = TextCNN(50, 6, (1, 2, 3), 5, 0.0).eval()
    tokens = torch.randint(2, 50, (4, 12))
    tokens[0, 4:] = 0
    alone = network(tokens[:1, :4])
    assert torch.allclose(network(tokens)[:1], alone, atol=1e-6)
    assert network(torch.tensor([[7]])).shape == (1, 2)
    assert network(torch.zeros(2, 3, dtype=torch.int32)).shape == (2, 2)


def test_embedding_gradients_are_sparse() -> None:
    network = TextCNN(1000, 6)
    network(torch.randint(2, 1000, (3, 9))).sum().backward()
    assert network.vectors.weight.grad.is_sparse


def test_the_deciding_words_are_found(decathlon: Command) -> None:
    assert decathlon("train", "imdb-textcnn", "--data", "sample", "--out", "run").status == 0
    answer = decathlon("predict", "imdb-textcnn", "The cast was not bad .", "--run", "run", "--json")
    (prediction,) = json.loads(answer.out)
    assert prediction["label"] == "pos"
    parts = dict(prediction["attributions"])
    assert list(parts) == ["the", "cast", "was", "not", "bad"]
    assert max(parts, key=lambda word: parts[word]) in ("not", "bad")
    assert re.search(
        r"\*(not|bad)\*", decathlon("predict", "imdb-textcnn", "The cast was not bad .", "--run", "run").out
    )
    assert "<mark>" in Path("run/report.html").read_text() or json.loads(Path("run/plots/texts.json").read_text()) == []
    Path("reviews.txt").write_text("The plot was good .\n\nThe plot was bad .\n")
    answers = json.loads(decathlon("predict", "imdb-textcnn", "reviews.txt", "--run", "run", "--json").out)
    assert [answer["label"] for answer in answers] == ["pos", "neg"]


def test_a_network_of_ones_own(decathlon: Command) -> None:
    Path("net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.words, self.out = nn.Embedding(30_002, 8), nn.Linear(8, 2)\n"
        "    def forward(self, tokens):\n"
        "        return self.out(self.words(tokens).amax(1))\n"
    )
    done = decathlon(
        *(
            "train",
            "imdb-textcnn",
            "--data",
            "sample",
            "--epochs",
            "1",
            "--out",
            "run",
            "--model",
            "net.py:Net",
            "--json",
        )
    )
    assert done.status == 0, done.err
    assert json.loads(done.out)["violations"] == ["it has no convolution"]
    assert "plots could not be drawn" not in done.err
    assert decathlon("predict", "imdb-textcnn", "The cast was not bad .", "--run", "run").status == 0


def test_odd_reviews(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    train = ("train", "imdb-textcnn", "--data", "sample", "--epochs", "1", "--out", "run")
    assert decathlon(*train).status == 0
    predict = ("predict", "imdb-textcnn", "--run", "run", "--json")
    for empty in ("", "   ", "...", "<br />"):
        answer = decathlon(*predict, empty)
        assert answer.status == 1
        assert "holds no" in answer.error
    (unknown,) = json.loads(decathlon(*predict, "zyx zyxx").out)
    assert "guess" in unknown["notes"][0]
    (huge,) = json.loads(decathlon(*predict, "The plot was good . " * 50_000).out)
    assert "words" in huge["notes"][0]
    monkeypatch.setattr("sys.stdin", io.StringIO("The plot was good .\nThe cast was bad .\n"))
    assert len(json.loads(decathlon(*predict, "-").out)) == 2
    Path("latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    answer = decathlon(*predict, "latin.txt")
    assert answer.status == 1
    assert "latin.txt is not UTF-8" in answer.error


def test_predict_reads_the_texts_of_a_table_and_no_folder(tmp_path: Path) -> None:
    table = tmp_path / "new.csv"
    table.write_text('\ufefftext,label\n"good, really",pos\nbad,neg\n')
    assert text_tables.read_reviews(str(table)) == ["good, really", "bad"]
    table.write_text("text\ngood\n")
    assert text_tables.read_reviews(str(table)) == ["good"]
    table.write_text("review\ngood\n")
    with pytest.raises(ValueError, match="needs the column text; it has only 'review'"):
        text_tables.read_reviews(str(table))
    lines = tmp_path / "new.jsonl"
    lines.write_text('{"text": "good"}\n{"text": "bad", "label": 1}\n')
    assert text_tables.read_reviews(str(lines)) == ["good", "bad"]
    with pytest.raises(ValueError, match="is a folder: name its files"):
        text_tables.read_reviews(str(tmp_path))


def test_predict_says_which_rows_of_a_table_are_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "new.csv"
    table.write_text('text,label\ngood,1\n" ",2\nbad,3\n')
    assert text_tables.read_reviews(str(table)) == ["good", "bad"]
    assert "1 of 3 rows have no text and are left out (lines 3)" in capsys.readouterr().err


def test_predict_says_which_lines_are_blank(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = tmp_path / "reviews.txt"
    lines.write_text("good\n\n \nbad\n\n\n")
    assert text_tables.read_reviews(str(lines)) == ["good", "bad"]
    assert "reviews.txt: 2 blank lines left out (2, 3)" in capsys.readouterr().err


def test_standard_input_is_utf_8_whatever_the_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    for content, encoding in (("un café\n".encode(), "latin-1"), ("\ufeffun café\n".encode(), "ascii")):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding, "surrogateescape"))
        assert text_tables.read_reviews("-") == ["un café"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("café".encode("latin-1")), "utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match="stdin is not UTF-8"):
        text_tables.read_reviews("-")


def test_what_is_no_plain_file_is_no_review() -> None:
    with pytest.raises(ValueError, match="/dev/null is no plain file; - reads standard input"):
        text_tables.read_reviews("/dev/null")
    for name in ("missing.jsonl", "missing.tab", "missing.json"):
        with pytest.raises(FileNotFoundError, match="there is no file missing"):
            text_tables.read_reviews(name)


def test_where_a_text_ends_is_part_of_the_key(tmp_path: Path) -> None:
    for name, texts in (("a", ["one two", "three"]), ("b", ["one", " twothree"])):
        for kind in ("good", "bad"):
            (tmp_path / name / kind).mkdir(parents=True)
            for number, text in enumerate(texts):
                (tmp_path / name / kind / f"{number}.txt").write_text(text)
    digests = []
    for name in ("a", "b"):
        digest = hashlib.sha256()
        imdb._read_folder(tmp_path / name / "good", digest, own=True)
        digests.append(digest.hexdigest())
    assert digests[0] != digests[1]


def test_a_table_without_a_header_shows_the_start_of_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text("What can I say about this film that has not been said before,positive\n" * 20)
    expected = (
        "named in its first line; it has What can I say about this film that has …, positive; name them with --text"
    )
    with pytest.raises(ValueError, match=expected):
        imdb.read_table(path, "own", ReadOptions())


def test_a_table_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("text,label\n" + "one,a\ntwo,b\n" * 10, encoding="utf-8-sig")
    assert imdb.read_table(path, "own", ReadOptions()).classes == ["a", "b"]
    path.write_bytes("text,label\ncaf\xe9,a\n".encode("latin-1"))
    with pytest.raises(
        ValueError, match=r"^\S*own.csv is not UTF-8: byte 14, in line 2; save it as UTF-8 \(in Excel: CSV UTF-8\)$"
    ):
        imdb.read_table(path, "own", ReadOptions())


def test_words_are_letters_of_any_script() -> None:
    text = "Ça va? Größe naïve, don’t &quot;quote&quot; хороший फ़िल्म o'neil's 10/10 e\u0301te\u0301"
    assert words.split(imdb.clean_text(text)) == [
        *("ça", "va", "?", "größe", "naïve", "don't", "quote", "хороший", "फ़िल्म", "o'neil", "s", "10", "10", "été"),
    ]


def test_texts_of_any_script_are_learned(decathlon: Command, tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("text,label\n" + "очень хороший фильм,a\nочень плохой фильм,b\n" * 60)
    options = [*FAST, "--epochs", "6", "--filters", "16", "--embedding-epochs", "3", "--batch-size", "10"]
    done = decathlon("train", "imdb-textcnn", "--data", path, *options, "--out", "run", "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["value"] == 1.0
    answers = decathlon("predict", "imdb-textcnn", "хороший", "плохой", "--run", "run", "--json")
    assert [answer["label"] for answer in json.loads(answers.out)] == ["a", "b"]


def test_typographic_apostrophes_change_no_label(decathlon: Command) -> None:
    answers = json.loads(decathlon("predict", "imdb-textcnn", "I don't like it", "I don’t like it", "--json").out)
    assert answers[0]["probabilities"] == answers[1]["probabilities"]


def test_unknown_words_are_reported(decathlon: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (answer,) = json.loads(decathlon("predict", "imdb-textcnn", "the zyxa zyxb zyxc", "--json").out)
    assert "75 % of its words are not in the vocabulary" in answer["notes"][0]
    path = tmp_path / "own.csv"
    path.write_text(
        "text,label\n" + "".join(f"一二三{i} {i % 2},{i % 2}\n四五六{i} 七八{i},{i % 2}\n" for i in range(60))
    )
    done = decathlon("train", "imdb-textcnn", "--data", path, *FAST, "--min-count", "5", "--out", "run")
    assert done.status == 0, done.err
    assert "76 % of the words are rarer than --min-count" in done.err


@pytest.mark.parametrize("kind", ["tree", "undivided", "csv", "jsonl"])
def test_own_texts_with_three_labels(kind: str, decathlon: Command, tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "own")
    path = tree if kind == "tree" else tree / "train" if kind == "undivided" else tmp_path / f"own.{kind}"
    rows = [{"text": f"word{i % 3} number {i}, again", "label": ["bad", "good", "mixed"][i % 3]} for i in range(120)]
    if kind == "csv":
        path.write_text("label,text\n" + "".join(f'{row["label"]},"{row["text"]}"\n' for row in rows))
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = decathlon("train", "imdb-textcnn", "--data", path, *FAST, "--out", "run", "--json")
    assert done.status == 0, done.err
    summary = json.loads(done.out)
    assert summary["bar"] is None
    assert summary["data"] == f"own:{path.name}"
    (prediction,) = json.loads(decathlon("predict", "imdb-textcnn", "word1", "--run", "run", "--json").out)
    assert set(prediction["probabilities"]) == {"bad", "good", "mixed"}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("empty class", "holds no .txt file"),
        ("class missing", "has no folder 'good'"),
        ("one class", "for each class"),
        ("latin", "3.txt is not UTF-8: byte 3, in line 1"),
        ("columns", "needs the columns text and label; it has review, stars"),
        ("bars", "it has only 'text|label' (commas, semicolons or tabs separate columns)"),
        ("no rows", "holds no rows"),
        ("short row", "line 3: 1 field where the header has 2"),
        ("one label", "one label only"),
        ("no json", "no JSON"),
    ],
)
def test_bad_texts_are_named(damage: str, message: str, decathlon: Command, tmp_path: Path) -> None:
    path = write_tree(tmp_path / "own", count=4)
    good = path / "train/good"
    if damage in ("empty class", "one class", "class missing"):
        for split in {"empty class": ["train"], "class missing": ["test"]}.get(damage, ["train", "test"]):
            for name in ("good",) if damage != "one class" else ("good", "mixed"):
                for file in (path / split / name).iterdir():
                    file.unlink()
                if damage != "empty class":
                    (path / split / name).rmdir()
    elif damage == "latin":
        (good / "3.txt").write_bytes("caf\xe9".encode("latin-1"))
    else:
        content = {
            "columns": "review,stars\na,b\n",
            "bars": "text|label\na|b\n",
            "no rows": "text,label\n",
            "short row": "text,label\na,b\nc\n",
            "one label": "text,label\na,b\nc,b\n",
            "no json": "{",
        }[damage]
        path = tmp_path / ("own.jsonl" if damage == "no json" else "own.csv")
        path.write_text(content)
    answer = decathlon("train", "imdb-textcnn", "--data", path)
    assert answer.status == 1
    assert message in answer.error


def test_official_is_unpacked_once_and_safely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decathlon: Command
) -> None:
    tree, folder = write_tree(tmp_path / "aclImdb", ("neg", "pos"), 3), tmp_path / "folder"
    folder.mkdir()
    archive = folder / "aclImdb_v1.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tree, "aclImdb")
    monkeypatch.setattr(imdb, "MD5", download.md5(archive))
    texts = imdb.load(parse_source("official", str(folder)))
    assert texts.name == "imdb-12"
    assert texts.classes == ["neg", "pos"]
    assert sorted(path.name for path in folder.iterdir()) == ["aclImdb", "aclImdb_v1.tar.gz"]

    evil = tmp_path / "evil"
    evil.mkdir()
    with tarfile.open(evil / "aclImdb_v1.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo("../outside.txt")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    answer = decathlon("train", "imdb-textcnn", "--data-dir", evil)
    assert answer.status == 1
    assert "its checksum is wrong; delete it and run again" in answer.error
    monkeypatch.setattr(imdb, "MD5", download.md5(evil / "aclImdb_v1.tar.gz"))
    answer = decathlon("train", "imdb-textcnn", "--data-dir", evil)
    assert answer.status == 1
    assert "outside" in answer.error
    assert not (tmp_path / "outside.txt").exists()


def test_any_text_is_a_review() -> None:
    """160 Cyrillic letters are too long for a file's name, and only a line feed ends a line."""
    assert text_tables.read_reviews("ы" * 160) == ["ы" * 160]
    assert text_tables.read_reviews("a\0b") == ["a\0b"]
    Path("lines.txt").write_bytes("one\u2028still one\r\ntwo\n".encode())
    assert text_tables.read_reviews("lines.txt") == ["one\u2028still one", "two"]


def test_counting_trains_nothing(decathlon: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, folder in enumerate(["train/pos", "train/neg", "train/unsup", "test/pos", "test/neg"]):
        (tmp_path / "aclImdb" / folder).mkdir(parents=True)
        for review in range(30):
            (tmp_path / "aclImdb" / folder / f"{review}_7.txt").write_text(f"a film {number} {review}")
    monkeypatch.setattr(words, "tokenize", None)
    monkeypatch.setattr(soft_labels, "label_cached", None)
    (row,) = json.loads(decathlon("data", "imdb", "--data-dir", tmp_path, "--json").out)
    assert row["contents"] == "55 train, 5 validation, 60 test, 30 unlabelled"
    assert row["copy"] == "imdb-120"
