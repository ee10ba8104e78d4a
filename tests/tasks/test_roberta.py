"""The encoder of imdb-roberta: its tokens, its pre-training, its embeddings and their cache, and bad input."""

from __future__ import annotations

import io
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Command
from hypothesis import given, settings
from hypothesis import strategies as st
from resuming import interrupt_after
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, RobertaConfig, RobertaModel

from decathlon.data import embeddings, imdb
from decathlon.data.base import Data, DataInfo, EpochShard, Split, parse_source
from decathlon.data.divide import hold_out_blocks
from decathlon.data.transforms import ngrams, tokens
from decathlon.data.transforms.windows import Windows
from decathlon.models.roberta import RobertaForPretraining
from decathlon.reporting import scoreboard
from decathlon.runs import encoder as run_encoder
from decathlon.tasks import roberta_mlm as pretraining
from decathlon.tasks.base import get_task, task_ids
from decathlon.training.optim import make_optimizers

WORDS = [(topic, word, i) for i in range(8) for topic in ("plot", "cast") for word in ("good", "bad")]
TEXTS = [f"the {topic} was {word} and number {i} said so" for topic, word, i in WORDS]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tokens.train_tokenizer(TEXTS, 300)


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


def find(folder: Path, length: int = 40, layers: tuple[int, ...] = (0, 2), pooling: str = "mean") -> embeddings.Encoder:
    return embeddings.load_encoder(str(folder), length, layers, pooling)


# --- Tokens -----------------------------------------------------------------------------------------------------------


def test_special_tokens_have_robertas_numbers(tokenizer: Tokenizer) -> None:
    assert [tokenizer.token_to_id(name) for name in tokens.SPECIAL_TOKENS] == [0, 1, 2, 3, 4]


# Capitals beyond ASCII are left out: there Python and the tokenizer differ in what is lower case.
LETTERS = st.characters(exclude_categories=["Cs", "Lu", "Lt"]) | st.sampled_from("ABCXYZ")


@settings(max_examples=200, deadline=None)
@given(text=st.text(LETTERS, max_size=200))
def test_any_text_is_encoded_and_decoded(text: str, tokenizer: Tokenizer) -> None:
    (token_ids,) = tokens.encode(tokenizer, [text])
    assert all(number >= len(tokens.SPECIAL_TOKENS) for number in token_ids)
    lower = "".join(letter.lower() if letter.isascii() else letter for letter in text)
    assert tokenizer.decode(token_ids, skip_special_tokens=False).strip() == lower.strip()


def test_halves_of_characters_become_question_marks(tokenizer: Tokenizer) -> None:
    assert imdb.clean_text("a \ud83d b") == "a ? b"
    assert tokens.encode(tokenizer, [imdb.clean_text("a \ud83d b")])[0]


def test_a_text_cannot_spell_a_special_token(tokenizer: Tokenizer) -> None:
    (token_ids,) = tokens.encode(tokenizer, ["good </s><mask> bad"])
    assert min(token_ids) >= len(tokens.SPECIAL_TOKENS)


def test_rows_are_of_one_review_each() -> None:
    reviews = [[10 + i] * (i % 15) for i in range(50)]
    rows = tokens.cut_rows(reviews, 8)
    assert rows.shape == (sum(len(review) // 6 for review in reviews), 8)
    assert (rows[:, 0] == tokens.BOS).all()
    assert (rows[:, -1] == tokens.EOS).all()
    assert (rows[:, 1:-1] == rows[:, 1:2]).all()
    with pytest.raises(ValueError, match="less than two"):
        tokens.cut_rows([[5, 6]], 8)


def test_words_of_tokens(tokenizer: Tokenizer) -> None:
    tables = {name: torch.from_numpy(table) for name, table in tokens.word_tables(tokenizer).items()}
    token_ids = torch.tensor(tokens.encode(tokenizer, ["the plot-cast, good!"])[0])
    begins = ngrams.begin_words(token_ids, tables["starts"], tables["ends"])
    words = [tokenizer.decode(part.tolist()).strip() for part in token_ids.tensor_split(begins.nonzero()[1:, 0])]
    assert words == ["the", "plot", "-", "cast", ",", "good", "!"]


def test_ngrams_and_pseudo_labels() -> None:
    texts = [f"{'great' if i % 2 else 'awful'} plot, {'fine' if i % 2 else 'weak'} cast" for i in range(100)]
    texts += ["the fine cast was here", "the weak cast was here"] * 20
    tokenizer = tokens.train_tokenizer(texts, 400)
    encoded = tokens.encode(tokenizer, texts)
    flat, offsets = torch.tensor(np.concatenate(encoded)), torch.tensor([0, *np.cumsum([len(ids) for ids in encoded])])
    table = ngrams.find_ngrams(flat, offsets, tokenizer, 1000)
    assert table.counts.sum() == len(table.ids) == table.pointer[-1]
    # great, plot, fine, cast, great plot, fine cast; nothing runs over the comma
    assert int(table.pointer[offsets[1]] - table.pointer[offsets[0]]) == 6
    labels = table.pseudo_labels
    assert (labels[1:100:2] > 0).all()
    assert (labels[0:100:2] < 0).all()
    assert (labels[100::2] > labels[101::2]).all(), "no seed word is in these"


def test_windows_and_the_ngrams_outside_them(cache: Path) -> None:
    recipe = replace(pretraining.sample_recipe(), batch_size=16)
    data = pretraining.load(parse_source("sample", str(cache)), recipe)
    batches = list(pretraining.batches(data.train, recipe, EpochShard(3, 0)))
    assert len(batches) == len(data.train) // 16
    assert {batch.inputs.shape[1] for batch in batches} >= {8, 16, 32}
    assert all((batch.inputs[:, 0] == tokens.BOS).all() for batch in batches)
    assert all(batch.ngram_ids.shape == (len(batch.inputs), recipe.ngrams_per_row) for batch in batches)
    resumed = list(pretraining.batches(data.train, recipe, EpochShard(3, 0, start=5)))
    assert all(torch.equal(a.ngram_ids, b.ngram_ids) for a, b in zip(batches[5:], resumed, strict=True))
    pairs = next(iter(pretraining.batches(data.train, replace(recipe, objective="pair"), EpochShard(3, 0))))
    assert len(pairs.inputs) % 2 == 0


def test_lsa_embeddings_tell_topics() -> None:
    draw = np.random.default_rng(0)
    reviews = [(draw.integers(10, 20, 30) + 10 * (i % 2)).tolist() for i in range(200)]
    vectors = tokens.lsa_embeddings(reviews, 32, 8)
    assert vectors.shape == (32, 8)
    assert vectors.std(1) == pytest.approx(tokens.EMBEDDING_STD, rel=1e-3)
    near = np.corrcoef(vectors[10:30])
    assert near[:10, :10].mean() > near[:10, 10:].mean() + 0.5


# --- Pre-training -----------------------------------------------------------------------------------------------------


def test_pretraining_never_sees_test_reviews(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    read = imdb.load

    def blind(where: Any) -> imdb.Texts:
        return replace(read(where), test=None, test_labels=None)  # type: ignore[arg-type]

    monkeypatch.setattr(imdb, "load", blind)
    data = pretraining.load(parse_source("sample", str(tmp_path)), pretraining.sample_recipe())
    assert len(data.train) > 10 * len(data.test)


def test_logits_are_of_the_masked_tokens_only() -> None:
    torch.manual_seed(0)
    network = RobertaForPretraining(50, 16, 2, 2, 20, n_ngrams=30, sentiment_head=True)
    token_ids, everything = torch.randint(5, 50, (3, 8)), torch.ones(3, 8, dtype=torch.bool)
    whole = network(token_ids, everything).token_logits.unflatten(0, (3, 8))  # (24, 50) -> (3, 8, 50)
    masked = torch.rand(3, 8) < 0.4
    output = network(token_ids, masked)
    assert torch.allclose(output.token_logits, whole[masked], atol=1e-5)
    assert (output.document.shape, output.ngram_logits.shape, output.sentiment_logits.shape) == ((3, 48), (3, 30), (3,))


def test_a_single_review_can_be_evaluated() -> None:
    network = RobertaForPretraining(50, 16, 2, 2, 20, n_ngrams=30, sentiment_head=True).eval()
    assert network(torch.randint(5, 50, (1, 8)), torch.ones(1, 8, dtype=torch.bool)).token_logits.shape == (8, 50)


def test_whole_words_are_masked_at_the_rate_of_the_recipe() -> None:
    recipe = replace(pretraining.recipe(), vocab_size=300, mask_probability=0.3)
    rows = torch.randint(5, 300, (400, 128))
    rows[:, 0] = tokens.BOS
    words = (torch.rand(400, 128) < 0.7).cumsum(1)
    nothing = torch.zeros(400, 0)
    windows = Windows(rows, rows, words, nothing.long(), nothing, nothing)
    torch.manual_seed(0)
    corrupted, masked = pretraining.mask_words(windows, recipe, None)
    assert (corrupted == rows)[~masked].all()
    assert not masked[:, 0].any()
    assert masked.float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert (corrupted == tokens.MASK)[masked].float().mean().item() == pytest.approx(0.8, abs=0.01)
    assert (corrupted == rows)[masked].float().mean().item() == pytest.approx(0.1, abs=0.01)
    same_word = (words[:, 1:] == words[:, :-1]) & (rows[:, :-1] >= 5)
    assert (masked[:, 1:] == masked[:, :-1])[same_word].all()


@pytest.mark.parametrize("objective", ["mlm", "pair", "ngram", "score"])
def test_every_objective_has_gradients_for_all_weights(objective: Any, cache: Path) -> None:
    recipe = replace(pretraining.sample_recipe(), objective=objective)
    data = pretraining.load(parse_source("sample", str(cache)), recipe)
    network = pretraining.model(recipe, data.info, data.train)
    batch = next(iter(pretraining.batches(data.train, recipe, EpochShard(0, 0))))
    losses = pretraining.training_loss(network, batch, recipe)
    losses["loss"].backward()
    assert set(losses) == ({"loss"} if objective == "mlm" else {"loss", "mlm", "document"})
    missing = [name for name, weight in network.named_parameters() if weight.grad is None]
    assert missing == []


def test_token_embeddings_learn_more_slowly() -> None:
    network = RobertaForPretraining(50, 16, 2, 2, 20)
    (optimizer,) = make_optimizers(network, pretraining.recipe().optimizer)
    (group,) = (group for group in optimizer.param_groups if "lr_scale" in group)
    assert group["params"][0] is network.encoder.embeddings.word_embeddings.weight
    assert group["lr_scale"] == 0.5
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(network.parameters()))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A pre-training on the sample that nobody interrupted."""
    from decathlon.training import runner

    folder = tmp_path_factory.mktemp("pretrained") / "run"
    options = runner.RunOptions("sample", str(cache), str(folder))
    runner.train(pretraining.SPEC.id, pretraining.sample_recipe(), options)
    return run_encoder.export(folder).parent


def test_pretraining_learns_more_than_frequencies(pretrained: Path) -> None:
    lines = [json.loads(line) for line in (pretrained / "metrics.jsonl").read_text().splitlines()]
    data = pretraining.load(parse_source("sample", os.environ["DECATHLON_DATA"]), pretraining.sample_recipe())
    share = torch.bincount(data.train.inputs).double()
    share = share[share > 0] / share.sum()
    entropy = float(-(share * share.log()).sum())
    assert lines[-1]["validation"]["loss"] < entropy - 0.25
    assert lines[-1]["validation"]["accuracy"] > float(share.max()) + 0.05


def test_the_encoder_is_what_was_trained(pretrained: Path, cache: Path) -> None:
    """Its folder, in half precision, gives what the network gave in training; transformers alone reads the same."""
    encoder = find(pretrained / "encoder", layers=(2,))
    recipe = pretraining.sample_recipe()
    trained = pretraining.model(recipe, DataInfo())
    trained.load_state_dict(load_file(pretrained / "model.safetensors"))
    numbers = torch.randint(5, 300, (2, 30))
    with torch.no_grad():
        trained_output = trained.eval().encoder(input_ids=numbers).last_hidden_state
        loaded_output = encoder.network(numbers).last_hidden_state
    assert torch.allclose(trained_output, loaded_output, atol=0.02)
    text = "The Plot WAS good, not bad!"
    (token_ids,) = tokens.encode(encoder.tokenizer, [text])
    assert AutoTokenizer.from_pretrained(pretrained / "encoder")(text)["input_ids"] == embeddings.truncate(
        token_ids, encoder
    )
    assert AutoModel.from_pretrained(pretrained / "encoder").config.num_hidden_layers == 2
    assert not any(path.suffix in (".bin", ".pt", ".pkl") for path in (pretrained / "encoder").iterdir())


def test_pretraining_resumes_bit_for_bit(
    pretrained: Path, decathlon: Command, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    interrupt_after(monkeypatch, 30)
    assert "--resume parts" in decathlon("train", "roberta-mlm", "--data", "sample", "--out", "parts").error
    assert decathlon("train", "roberta-mlm", "--resume", "parts").status == 0
    first, second = (load_file(folder / "encoder/model.safetensors") for folder in (pretrained, Path("parts")))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_pretraining_refuses_what_it_cannot(decathlon: Command) -> None:
    assert "roberta-mlm" not in task_ids()
    assert "--model" in decathlon("train", "roberta-mlm", "--model", "a.py:f").error
    refused = (("--attention-heads", "3"), ("--row-length", "600"), ("--mask-probability", "1"), ("--vocab-size", "20"))
    for flag, value in refused:
        answer = decathlon("train", "roberta-mlm", "--data", "sample", flag, value)
        assert answer.status == 2
        assert flag in answer.error


# --- Embeddings -------------------------------------------------------------------------------------------------------


def test_vectors_are_what_transformers_gives(tiny: Path) -> None:
    encoder = find(tiny)
    text = "the plot was good"
    numbers = torch.tensor([[0, *tokens.encode(encoder.tokenizer, [text])[0], 2]])
    with torch.no_grad():
        states = RobertaModel.from_pretrained(tiny).eval()(numbers, output_hidden_states=True).hidden_states
    assert torch.allclose(
        embeddings.embed(encoder, [text])[0], torch.cat([states[0], states[2]], 2)[0].mean(0), atol=1e-5
    )
    first = embeddings.embed(find(tiny, pooling="first", layers=(1,)), [text])[0]
    assert torch.allclose(first, states[1][0, 0], atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_a_text_has_the_same_vector_in_any_company(tiny: Path, pooling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "TOKENS_PER_BATCH", 64)
    encoder = find(tiny, pooling=pooling)
    texts = [*TEXTS, "a", "good " * 30]
    together = embeddings.embed(encoder, texts)
    assert torch.allclose(together, torch.cat([embeddings.embed(encoder, [text]) for text in texts]), atol=1e-5)


def test_batches_are_full_and_pad_little() -> None:
    rows = [[1] * length for length in [5, 5, 6, 900, 7, 20_000]]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    batches = list(embeddings.batch_by_length(order, rows))
    assert batches == [[0, 1, 2, 4], [3], [5]]


def test_long_texts_keep_head_and_tail(tiny: Path) -> None:
    encoder = find(tiny, length=10)
    truncated = embeddings.truncate(list(range(5, 30)), encoder)
    assert truncated == [0, 5, 6, 7, 8, 26, 27, 28, 29, 2]
    assert find(tiny, length=10_000).max_length == 40  # what its positions allow
    assert embeddings.embed(encoder, ["good " * 1000]).shape == (1, 32)


def test_vectors_are_made_once_and_a_broken_off_reading_goes_on(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "TEXTS_PER_FILE", 10)
    encoder, embed = find(tiny), embeddings.embed
    counts: list[int] = []

    def counted(encoder_: embeddings.Encoder, texts: list[str]) -> torch.Tensor:
        if len(counts) == 2:
            raise KeyboardInterrupt
        counts.append(len(texts))
        return embed(encoder_, texts)

    monkeypatch.setattr(embeddings, "embed", counted)
    with pytest.raises(KeyboardInterrupt):
        embeddings.embed_cached(encoder, TEXTS, tmp_path, ("key",), "reviews")
    counts[:] = [-1, -1, -1]  # the third call and later ones work again
    whole, seconds = embeddings.embed_cached(encoder, TEXTS, tmp_path, ("key",), "reviews")
    assert seconds > 0
    assert counts == [-1, -1, -1, 10, 2]
    assert torch.allclose(whole, embed(encoder, TEXTS), atol=0.01)
    again, as_before = embeddings.embed_cached(encoder, TEXTS, tmp_path, ("key",), "reviews")
    assert torch.equal(again, whole)
    assert as_before == seconds, "the time counts once, whenever it was spent"
    assert len(counts) == 5
    assert not list(tmp_path.rglob("*.part"))

    (cached,) = (tmp_path / "cache").iterdir()
    (cached / "0001.npz").write_bytes((cached / "0001.npz").read_bytes()[:-100])
    assert torch.equal(embeddings.embed_cached(encoder, TEXTS, tmp_path, ("key",), "reviews")[0], whole)
    assert counts[5:] == [10]
    embeddings.embed_cached(replace(encoder, pooling="first"), TEXTS, tmp_path, ("key",), "reviews")
    assert len(counts) == 10, "another pooling has a cache of its own"


@pytest.mark.parametrize("damage", ["kind", "weights", "absent", "file", "pickle", "layers", "tokenizer", "vocabulary"])
def test_folders_that_are_no_encoder(damage: str, tiny: Path, tmp_path: Path, decathlon: Command) -> None:
    folder = tmp_path / "encoder"
    folder.mkdir()
    for name in embeddings.ENCODER_FILES:
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
    elif damage == "vocabulary":
        tokens.train_tokenizer(TEXTS, 400).save(str(folder / "tokenizer.json"))
        message = "tokens, its tokenizer"
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
    train, validation = hold_out_blocks(split)
    assert len(train) + len(validation) == 2400
    assert len(validation) == 200
    assert (validation.targets == 0).sum() == 100
    held = validation.inputs[:, 0]
    assert int((held.diff() > 1).sum()) == 19  # 20 runs of 10 neighbours
    small = hold_out_blocks(Split(torch.arange(20)[:, None], torch.arange(20) % 2))
    assert [len(part) for part in small] == [18, 2]
    tiny = hold_out_blocks(Split(torch.arange(5)[:, None], torch.arange(5) % 2))
    assert [len(part) for part in tiny] == [4, 1]


def test_the_shipped_encoder_is_small_and_has_a_card() -> None:
    folder = embeddings.WEIGHTS / embeddings.MINI
    assert sum(path.stat().st_size for path in folder.iterdir()) < 15e6
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {torch.float16}
    card = json.loads((folder / "card.json").read_text())
    assert card["data"].startswith("imdb")
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
    (prediction,) = json.loads(decathlon("predict", "imdb-roberta", "word1", "--run", "run", "--json").out)
    assert set(prediction["probabilities"]) == {"bad", "good", "mixed"}
    del summary["folder"]
    assert json.loads(decathlon("evaluate", "run", "--json").out) == summary
    config = json.loads(Path("run/config.json").read_text())
    config["recipe"] |= {"encoder": str(pretrained / "encoder"), "layers": [2]}
    Path("run/config.json").write_text(json.dumps(config))
    answer = decathlon("predict", "imdb-roberta", "word1", "--run", "run")
    assert answer.status == 1
    assert "was trained on embeddings of tiny" in answer.error
    answer = decathlon("evaluate", "run")
    assert answer.status == 1
    assert "was trained on other data (encoder tiny" in answer.error


def test_an_encoder_named_from_here_is_found_from_elsewhere(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tiny.parent)
    recipe: Any = replace(get_task("imdb-roberta").sample_recipe(), encoder="tiny")  # type: ignore[call-arg]
    monkeypatch.chdir(tmp_path)
    assert embeddings.load_encoder(recipe.encoder, 20, (), "mean").layers == (2,)


def test_a_dry_run_reads_nothing(decathlon: Command, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "embed", lambda *args: pytest.fail("read"))
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
    assert "tokens: its first and last 255 were read" in huge["notes"][0]
    monkeypatch.setattr("sys.stdin", io.StringIO("The plot was good .\nThe cast was bad .\n"))
    assert len(json.loads(decathlon(*predict, "-").out)) == 2
    Path("latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    assert "latin.txt is not UTF-8" in decathlon(*predict, "latin.txt").error


def test_architecture_of_an_mlp() -> None:
    task, info = get_task("imdb-roberta"), DataInfo(["neg", "pos"], embedding_dim=8)
    good = nn.Sequential(nn.Linear(8, 4), nn.GELU(), nn.Linear(4, 2))
    assert task.check_architecture(good, info) == []
    assert task.check_architecture(nn.Linear(8, 2), info) == [
        "it has 1 fully connected layers, not two to four",
        "no nonlinearity between its layers",
    ]
    wave = nn.Sequential(nn.Unflatten(1, (1, 8)), nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    assert any("uses convolution" in rule for rule in task.check_architecture(wave, info))
    with pytest.raises(ValueError, match="must return"):
        task.check_architecture(nn.Linear(8, 3), info)


def test_scoreboard_names_the_encoder() -> None:
    def row(seed: int, name: str) -> dict[str, Any]:
        summary = {
            "task": "imdb-roberta",
            "data": "imdb",
            "metric": "accuracy",
            "value": 0.9,
            "bar": 0.86,
            "seed": seed,
        }
        summary |= {"train_seconds": 1.0, "seconds_to_bar": 1.0, "parameters": 5, "encoder": name}
        return summary | {"overrides": {} if name.startswith("roberta-mini") else {"encoder": name.split()[0]}}

    summaries = [row(0, "roberta-mini aa"), row(1, "roberta-mini aa"), row(0, "base bb")]
    assert [line["task"] for line in scoreboard.format_rows(scoreboard.aggregate(summaries))] == [
        "imdb-roberta (encoder base bb)",
        "imdb-roberta (encoder roberta-mini aa)",
    ]


def test_data_knows_its_encoder(tiny: Path, cache: Path) -> None:
    task = get_task("imdb-roberta")
    recipe: Any = task.sample_recipe()
    data: Data = task.load(parse_source("sample", str(cache)), replace(recipe, encoder=str(tiny), layers=(1,)))
    assert data.info.embedding_dim == data.train.inputs.shape[1] == 16
    assert data.info.encoder.startswith("tiny ")
