"""The encoder of imdb-roberta: its pieces, its pre-training, its vectors and their cache, and bad input."""

from __future__ import annotations

import io
import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Command
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, RobertaConfig, RobertaModel

from decathlon import encoder, progress, scoreboard
from decathlon.data import Data, Split, hold_out_runs, imdb, pieces, source
from decathlon.models.roberta import MaskedLM
from decathlon.pretraining import imdb_roberta as pretraining
from decathlon.recipe import get_task, task_ids

WORDS = [(thing, word, i) for i in range(8) for thing in ("plot", "cast") for word in ("good", "bad")]
TEXTS = [f"the {thing} was {word} and number {i} said so" for thing, word, i in WORDS]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return pieces.choose(TEXTS, 300)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """A RoBERTa with random weights in a folder, as transformers itself saves one."""
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=42,
        type_vocab_size=1,
        initializer_range=0.5,
    )
    folder = tmp_path_factory.mktemp("encoders") / "tiny"
    RobertaModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def find(folder: Path, length: int = 40, layers: tuple[int, ...] = (0, 2), pooling: str = "mean") -> encoder.Encoder:
    return encoder.find(str(folder), length, layers, pooling)


# --- Pieces -----------------------------------------------------------------------------------------------------------


def test_special_pieces_have_robertas_numbers(tokenizer: Tokenizer) -> None:
    assert [tokenizer.token_to_id(name) for name in pieces.SPECIAL] == [0, 1, 2, 3, 4]


# Capitals beyond ASCII are left out: there Python and the tokenizer differ in what is lower case.
LETTERS = st.characters(exclude_categories=["Cs", "Lu", "Lt"]) | st.sampled_from("ABCXYZ")


@settings(max_examples=200, deadline=None)
@given(text=st.text(LETTERS, max_size=200))
def test_any_text_is_pieces_and_back(text: str, tokenizer: Tokenizer) -> None:
    (found,) = pieces.numbers(tokenizer, [text])
    assert all(number >= len(pieces.SPECIAL) for number in found)
    lower = "".join(letter.lower() if letter.isascii() else letter for letter in text)
    assert tokenizer.decode(found, skip_special_tokens=False).strip() == lower.strip()


def test_halves_of_characters_become_question_marks(tokenizer: Tokenizer) -> None:
    assert imdb.clean("a \ud83d b") == "a ? b"
    assert pieces.numbers(tokenizer, [imdb.clean("a \ud83d b")])[0]


def test_a_text_cannot_spell_a_special_piece(tokenizer: Tokenizer) -> None:
    (found,) = pieces.numbers(tokenizer, ["good </s><mask> bad"])
    assert min(found) >= len(pieces.SPECIAL)


def test_rows_hold_all_pieces_once() -> None:
    reviews = [[10 + i] * (i % 7 + 1) for i in range(50)]
    rows = pieces.packed(reviews, 8)
    assert rows.shape[1] == 8
    whole = np.bincount(np.concatenate([[0, *review, 2] for review in reviews]), minlength=60)
    lost = whole - np.bincount(rows.flatten(), minlength=60)
    assert (lost >= 0).all()
    assert lost.sum() < 8
    with pytest.raises(ValueError, match="less than one row"):
        pieces.packed([[5, 6]], 8)


def test_start_vectors_tell_topics() -> None:
    draw = np.random.default_rng(0)
    reviews = [(draw.integers(10, 20, 30) + 10 * (i % 2)).tolist() for i in range(200)]
    vectors = pieces.topics(reviews, 32, 8)
    assert vectors.shape == (32, 8)
    assert vectors.std(1) == pytest.approx(pieces.SPREAD, rel=1e-3)
    near = np.corrcoef(vectors[10:30])
    assert near[:10, :10].mean() > near[:10, 10:].mean() + 0.5


# --- Pre-training -----------------------------------------------------------------------------------------------------


def test_pretraining_never_sees_test_reviews(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    read = imdb.load

    def blind(where: Any) -> imdb.Texts:
        return replace(read(where), test=None, test_labels=None)  # type: ignore[arg-type]

    monkeypatch.setattr(imdb, "load", blind)
    data = pretraining.load(source("sample", str(tmp_path)), pretraining.sample_recipe())
    assert len(data.train) > 50 * len(data.test)


def test_scores_are_of_the_chosen_places_only() -> None:
    torch.manual_seed(0)
    network = MaskedLM(50, 16, 2, 2, 20).eval()
    numbers, first = torch.randint(5, 50, (3, 8)), torch.tensor([0, 4, 12])
    every = network(numbers, first, torch.ones(3, 8, dtype=torch.bool)).unflatten(0, (3, 8))  # (24, 50) -> (3, 8, 50)
    chosen = torch.rand(3, 8) < 0.4
    assert torch.allclose(network(numbers, first, chosen), every[chosen], atol=1e-5)


def test_guesses_hide_the_share_that_was_asked() -> None:
    shown = []

    class Spy(nn.Module):
        def forward(self, numbers: torch.Tensor, first: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
            shown.append((numbers, first, chosen))
            return torch.zeros(int(chosen.sum()), 300)

    recipe = replace(pretraining.recipe(), vocabulary=300, masked=0.3)
    rows = torch.randint(5, 300, (400, 128))
    torch.manual_seed(0)
    pretraining.guess(Spy(), Split(rows, rows), recipe, None)
    numbers, first, chosen = shown[0]
    assert (numbers == rows)[~chosen].all()
    assert chosen.float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert (numbers == pieces.MASK)[chosen].float().mean().item() == pytest.approx(0.8, abs=0.01)
    assert (numbers == rows)[chosen].float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert 0 <= int(first.min()) < 30
    assert 350 < int(first.max()) <= recipe.positions - 128


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A pre-training on the sample that nobody interrupted."""
    from decathlon import train

    folder = tmp_path_factory.mktemp("pretrained") / "run"
    options = train.Options("sample", str(cache), str(folder))
    train.train(pretraining.CARD.id, pretraining.sample_recipe(), options)
    return encoder.export(folder).parent


def test_pretraining_learns_more_than_frequencies(pretrained: Path) -> None:
    lines = [json.loads(line) for line in (pretrained / "metrics.jsonl").read_text().splitlines()]
    data = pretraining.load(source("sample", os.environ["DECATHLON_DATA"]), pretraining.sample_recipe())
    share = torch.bincount(data.train.inputs.flatten()).double()
    share = share[share > 0] / share.sum()
    entropy = float(-(share * share.log()).sum())
    assert lines[-1]["validation"]["loss"] < entropy - 0.25
    assert lines[-1]["validation"]["accuracy"] > float(share.max()) + 0.05


def test_the_encoder_is_what_was_trained(pretrained: Path, cache: Path) -> None:
    """Its folder, in half precision, gives what the network gave in training; transformers alone reads the same."""
    found = find(pretrained / "encoder", layers=(2,))
    recipe = pretraining.sample_recipe()
    trained = pretraining.model(recipe, {})
    trained.load_state_dict(load_file(pretrained / "model.safetensors"))
    numbers = torch.randint(5, 300, (2, 30))
    with torch.no_grad():
        one = trained.eval().encoder(input_ids=numbers).last_hidden_state
        other = found.network(numbers).last_hidden_state
    assert torch.allclose(one, other, atol=0.02)
    text = "The Plot WAS good, not bad!"
    (ours,) = pieces.numbers(found.tokenizer, [text])
    assert AutoTokenizer.from_pretrained(pretrained / "encoder")(text)["input_ids"] == encoder.cut(ours, found)
    assert AutoModel.from_pretrained(pretrained / "encoder").config.num_hidden_layers == 2
    assert not any(path.suffix in (".bin", ".pt", ".pkl") for path in (pretrained / "encoder").iterdir())


def test_pretraining_resumes_bit_for_bit(
    pretrained: Path, decathlon: Command, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    update = progress.Rows.update
    stops = [30]

    def interrupt(rows: progress.Rows, state: Any, sums: Any) -> None:
        update(rows, state, sums)
        if stops and state.step == stops[0]:
            stops.pop()
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(progress.Rows, "update", interrupt)
    assert "--resume parts" in decathlon("pretrain", "imdb-roberta", "--data", "sample", "--out", "parts").error
    assert decathlon("pretrain", "imdb-roberta", "--resume", "parts").status == 0
    one, other = (load_file(folder / "encoder/model.safetensors") for folder in (pretrained, Path("parts")))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_pretrain_command_refuses_what_it_cannot(decathlon: Command) -> None:
    assert decathlon("pretrain", "mnist-mlp").status == 2
    assert "has no encoder" in decathlon("pretrain", "mnist-mlp").error
    assert "did you mean 'imdb-roberta'" in decathlon("pretrain", "imdb-robrta").error
    assert "imdb-roberta-pretraining" not in task_ids()
    assert "tasks: imdb-roberta" in decathlon("pretrain").error
    assert "--model is not for pre-training" in decathlon("pretrain", "imdb-roberta", "--model", "a.py:f").error
    for command in ("train", "predict"):
        assert "unknown task" in decathlon(command, "imdb-roberta-pretraining", "x").error
    for flag, value in (("--heads", "3"), ("--row", "600"), ("--masked", "1"), ("--vocabulary", "20")):
        answer = decathlon("pretrain", "imdb-roberta", "--data", "sample", flag, value)
        assert answer.status == 2
        assert flag in answer.error


# --- Vectors ----------------------------------------------------------------------------------------------------------


def test_vectors_are_what_transformers_gives(tiny: Path) -> None:
    found = find(tiny)
    text = "the plot was good"
    numbers = torch.tensor([[0, *pieces.numbers(found.tokenizer, [text])[0], 2]])
    with torch.no_grad():
        states = RobertaModel.from_pretrained(tiny).eval()(numbers, output_hidden_states=True).hidden_states
    assert torch.allclose(encoder.vectors(found, [text])[0], torch.cat([states[0], states[2]], 2)[0].mean(0), atol=1e-5)
    first = encoder.vectors(find(tiny, pooling="first", layers=(1,)), [text])[0]
    assert torch.allclose(first, states[1][0, 0], atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_a_text_has_the_same_vector_in_any_company(tiny: Path, pooling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "BATCH", 64)
    found = find(tiny, pooling=pooling)
    texts = [*TEXTS, "a", "good " * 30]
    together = encoder.vectors(found, texts)
    assert torch.allclose(together, torch.cat([encoder.vectors(found, [text]) for text in texts]), atol=1e-5)


def test_batches_are_full_and_pad_little() -> None:
    rows = [[1] * length for length in [5, 5, 6, 900, 7, 20_000]]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    batches = list(encoder.batched(order, rows))
    assert batches == [[0, 1, 2, 4, 3], [5]]


def test_long_texts_keep_head_and_tail(tiny: Path) -> None:
    found = find(tiny, length=10)
    kept = encoder.cut(list(range(5, 30)), found)
    assert kept == [0, 5, 6, 7, 8, 26, 27, 28, 29, 2]
    assert find(tiny, length=10_000).length == 40  # what its positions allow
    assert encoder.vectors(found, ["good " * 1000]).shape == (1, 32)


def test_vectors_are_made_once_and_a_broken_off_reading_goes_on(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "CHUNK", 10)
    found, made = find(tiny), encoder.vectors
    asked: list[int] = []

    def counted(one: encoder.Encoder, texts: list[str]) -> torch.Tensor:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(len(texts))
        return made(one, texts)

    monkeypatch.setattr(encoder, "vectors", counted)
    with pytest.raises(KeyboardInterrupt):
        encoder.embedded(found, TEXTS, tmp_path, ("key",), "reviews")
    asked[:] = [-1, -1, -1]  # the third call and later ones work again
    whole = encoder.embedded(found, TEXTS, tmp_path, ("key",), "reviews")
    assert asked == [-1, -1, -1, 10, 2]
    assert torch.allclose(whole, made(found, TEXTS), atol=0.01)
    assert torch.equal(encoder.embedded(found, TEXTS, tmp_path, ("key",), "reviews"), whole)
    assert len(asked) == 5
    assert not list(tmp_path.rglob("*.part"))

    (place,) = (tmp_path / "cache").iterdir()
    (place / "0001.npz").write_bytes((place / "0001.npz").read_bytes()[:-100])
    assert torch.equal(encoder.embedded(found, TEXTS, tmp_path, ("key",), "reviews"), whole)
    assert asked[5:] == [10]
    encoder.embedded(replace(found, pooling="first"), TEXTS, tmp_path, ("key",), "reviews")
    assert len(asked) == 10, "another pooling has a cache of its own"


@pytest.mark.parametrize("damage", ["kind", "weights", "absent", "file", "pickle", "layers", "tokenizer", "pieces"])
def test_folders_that_are_no_encoder(damage: str, tiny: Path, tmp_path: Path, decathlon: Command) -> None:
    folder = tmp_path / "encoder"
    folder.mkdir()
    for name in encoder.FILES:
        (folder / name).write_bytes((tiny / name).read_bytes())
    layers, message = "1", ""
    if damage == "kind":
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        BertModel(BertConfig(vocab_size=100, **sizes)).save_pretrained(folder)
        message = "is no RoBERTa: its config.json says 'bert'"
    elif damage == "weights":
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
        message = "cannot be read"
    elif damage == "absent":
        weights = load_file(folder / "model.safetensors")
        save_file(
            {name: value for name, value in weights.items() if "layer.1.output" not in name},
            folder / "model.safetensors",
            {"format": "pt"},
        )
        message = "of the weights its config.json asks for"
    elif damage == "pieces":
        pieces.choose(TEXTS, 400).save(str(folder / "tokenizer.json"))
        message = "pieces, its tokenizer"
    elif damage == "tokenizer":
        (folder / "tokenizer.json").write_text("{}")
        message = "cannot be read"
    elif damage == "file":
        (folder / "config.json").unlink()
        message = "lacks config.json"
    elif damage == "pickle":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        message = "lacks model.safetensors (weights are read as safetensors only)"
    else:
        layers, message = "3", "--layers 3: the encoder"
    answer = decathlon("train", "imdb-roberta", "--data", "sample", "--encoder", folder, "--layers", layers)
    assert answer.status == 1
    assert message in answer.error


def test_the_hub_out_of_reach(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    answer = decathlon("train", "imdb-roberta", "--data", "sample", "--encoder", "FacebookAI/roberta-base")
    assert answer.status == 1
    for word in ("no route to host", "config.json, model.safetensors, tokenizer.json", "--encoder roberta-mini"):
        assert word in answer.error


# --- The task ---------------------------------------------------------------------------------------------------------


def test_films_are_not_on_both_sides() -> None:
    split = Split(torch.arange(2400)[:, None], torch.arange(2400) // 1200)
    train, validation = hold_out_runs(split)
    assert len(train) + len(validation) == 2400
    assert len(validation) == 200
    assert (validation.targets == 0).sum() == 100
    held = validation.inputs[:, 0]
    assert int((held.diff() > 1).sum()) == 19  # 20 runs of 10 neighbours
    small = hold_out_runs(Split(torch.arange(20)[:, None], torch.arange(20) % 2))
    assert [len(part) for part in small] == [18, 2]
    tiny = hold_out_runs(Split(torch.arange(5)[:, None], torch.arange(5) % 2))
    assert [len(part) for part in tiny] == [4, 1]


def test_the_shipped_encoder_is_small_and_has_a_card() -> None:
    folder = encoder.WEIGHTS / encoder.MINI
    assert sum(path.stat().st_size for path in folder.iterdir()) < 12e6
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {torch.float16}
    card = json.loads((folder / "card.json").read_text())
    assert card["data"].startswith("imdb")
    assert not card["commit"].endswith("+")
    assert math.isfinite(card["metrics"]["loss"])


def test_own_encoder_own_texts_and_other_encoders_refused(
    tiny: Path, decathlon: Command, tmp_path: Path, pretrained: Path
) -> None:
    rows = [{"text": f"word{i % 3} number {i}, again", "label": ["bad", "good", "mixed"][i % 3]} for i in range(120)]
    path = tmp_path / "own.csv"
    path.write_text("label,text\n" + "".join(f'{row["label"]},"{row["text"]}"\n' for row in rows))
    command = ("--encoder", tiny, "--layers", "0", "2", "--epochs", "3", "--batch-size", "20", "--out", "run", "--json")
    done = decathlon("train", "imdb-roberta", "--data", path, *command)
    assert done.status == 0, done.err
    summary = json.loads(done.out)
    assert summary["bar"] is None
    assert summary["encoder"].startswith("tiny ")
    (found,) = json.loads(decathlon("predict", "imdb-roberta", "word1", "--run", "run", "--json").out)
    assert set(found["probabilities"]) == {"bad", "good", "mixed"}
    assert decathlon("evaluate", "run", "--json").out == done.out.replace(', "folder": "run"', "")
    config = json.loads(Path("run/config.json").read_text())
    config["recipe"] |= {"encoder": str(pretrained / "encoder"), "layers": [2]}
    Path("run/config.json").write_text(json.dumps(config))
    answer = decathlon("predict", "imdb-roberta", "word1", "--run", "run")
    assert answer.status == 1
    assert "was trained on vectors of tiny" in answer.error
    answer = decathlon("evaluate", "run")
    assert answer.status == 1
    assert "was trained on other data (encoder tiny" in answer.error


def test_an_encoder_named_from_here_is_found_from_elsewhere(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tiny.parent)
    recipe: Any = replace(get_task("imdb-roberta").sample_recipe(), encoder="tiny")  # type: ignore[call-arg]
    monkeypatch.chdir(tmp_path)
    assert encoder.find(recipe.encoder, 20, (), "mean").layers == (0, 1, 2)


def test_a_dry_run_reads_nothing(decathlon: Command, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "vectors", lambda *args: pytest.fail("read"))
    plan = decathlon("train", "imdb-roberta", "--data", "sample", "--encoder", tiny, "--dry-run", "--json")
    assert plan.status == 0, plan.err
    assert json.loads(plan.out)["sizes"]["test"] == 400


def test_odd_reviews(decathlon: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert decathlon("train", "imdb-roberta", "--data", "sample", "--epochs", "1", "--out", "run").status == 0
    predict = ("predict", "imdb-roberta", "--run", "run", "--json")
    for empty in ("", "   ", "...", "<br />"):
        answer = decathlon(*predict, empty)
        assert answer.status == 1
        assert "holds no" in answer.error
    assert json.loads(decathlon(*predict, "zyx zyxx 映画").out)[0]["notes"] == []
    (huge,) = json.loads(decathlon(*predict, "The plot was good . " * 50_000).out)
    assert "pieces: its first and last 255 were read" in huge["notes"][0]
    monkeypatch.setattr("sys.stdin", io.StringIO("The plot was good .\nThe cast was bad .\n"))
    assert len(json.loads(decathlon(*predict, "-").out)) == 2
    Path("latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    assert "latin.txt is not UTF-8" in decathlon(*predict, "latin.txt").error


def test_rules_of_an_mlp() -> None:
    task, meta = get_task("imdb-roberta"), {"classes": ["neg", "pos"], "values": 8}
    good = nn.Sequential(nn.Linear(8, 4), nn.GELU(), nn.Linear(4, 2))
    assert task.rules(good, meta) == []
    assert task.rules(nn.Linear(8, 2), meta) == [
        "it has 1 fully connected layers, not two to four",
        "nothing bends between its layers",
    ]
    wave = nn.Sequential(nn.Unflatten(1, (1, 8)), nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    assert any("uses convolution" in rule for rule in task.rules(wave, meta))
    with pytest.raises(ValueError, match="must give"):
        task.rules(nn.Linear(8, 3), meta)


def test_scoreboard_names_the_encoder() -> None:
    def row(seed: int, name: str) -> dict[str, Any]:
        least = {"task": "imdb-roberta", "data": "imdb", "metric": "accuracy", "value": 0.9, "bar": 0.86, "seed": seed}
        least |= {"train_seconds": 1.0, "seconds_to_bar": 1.0, "parameters": 5, "encoder": name}
        return least | {"overrides": {} if name.startswith("roberta-mini") else {"encoder": name.split()[0]}}

    found = scoreboard.words(scoreboard.rows([row(0, "roberta-mini aa"), row(1, "roberta-mini aa"), row(0, "base bb")]))
    assert [one["task"] for one in found] == [
        "imdb-roberta (encoder base bb)",
        "imdb-roberta (encoder roberta-mini aa)",
    ]


def test_data_knows_its_encoder(tiny: Path, cache: Path) -> None:
    task = get_task("imdb-roberta")
    recipe: Any = task.sample_recipe()
    data: Data = task.load(source("sample", str(cache)), replace(recipe, encoder=str(tiny), layers=(1,)))
    assert data.meta["values"] == data.train.inputs.shape[1] == 16
    assert data.meta["encoder"].startswith("tiny ")
