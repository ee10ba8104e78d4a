"""A frozen RoBERTa that makes one vector of a text: found, asked, and its answers cached.

The small one that ships with the package is `roberta-mini`; any other is a folder, or the name of a model on the hub.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import Tensor, nn

from decathlon import run
from decathlon.data import cache, files, pieces, say
from decathlon.data.words import head_and_tail
from decathlon.portable import Graph, Session
from decathlon.terminal import shown

MINI = "roberta-mini"
WEIGHTS = Path(__file__).parent / "weights"
FILES = ("config.json", "model.safetensors", "tokenizer.json")  # all that is read of an encoder's folder
# Of config.json: what the network is built from.
SHAPE = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
    *("max_position_embeddings", "type_vocab_size", "layer_norm_eps", "bos_token_id", "pad_token_id", "eos_token_id"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "tie_word_embeddings"),
)
CHUNK = 1000  # texts whose vectors are kept in one file of the cache
BATCH = 8192  # pieces at once
VERSION = "1"  # of what the cache holds: raise it when embedding changes


@dataclass(frozen=True)
class Encoder:
    """A RoBERTa and how it is to be asked.

    Attributes:
        name: Its name and the beginning of its digest: no two encoders share one.
        digest: SHA-256 of its files.
        network: transformers' RobertaModel, in evaluation mode.
        tokenizer: Splits a text into its pieces.
        length: Pieces of a text that are read, start and end among them: of a longer one its head and its tail.
        layers: Whose outputs are pooled and put side by side; 0 is the piece vectors before the first layer.
        pooling: `mean` over the pieces, or the `first`.
        ends: The numbers of start and end.
    """

    name: str
    digest: str
    network: nn.Module
    tokenizer: Tokenizer
    length: int
    layers: tuple[int, ...]
    pooling: str
    ends: tuple[int, int]

    @property
    def values(self) -> int:
        """Values in a vector."""
        return len(self.layers) * int(cast(Any, self.network).config.hidden_size)


def find(name: str, length: int, layers: tuple[int, ...], pooling: str, download: bool = True) -> Encoder:
    """Load the encoder of this name: `roberta-mini`, a folder, or a model of the hub.

    Args:
        name: Which.
        length: As in `Encoder`; what the encoder's positions allow is the most.
        layers: As in `Encoder`; none stand for 0, the middle and the last.
        pooling: As in `Encoder`.
        download: Whether the hub may be asked.

    Raises:
        ConnectionError: It is on the hub, which cannot be reached: says the way out.
        ValueError: It is no RoBERTa, lacks a file or weights, is damaged, or has fewer layers.
    """
    folder = WEIGHTS / MINI if name == MINI else Path(name) if Path(name).is_dir() else fetched(name, download)
    if missing := [file for file in FILES if not (folder / file).is_file()]:
        raise ValueError(f"the encoder {name} lacks {', '.join(missing)} (weights are read as safetensors only)")
    kind = run.read_json(folder / "config.json").get("model_type")
    if kind != "roberta":
        raise ValueError(f"the encoder {name} is no RoBERTa: its config.json says {kind!r}")
    network, tokenizer = read(folder, name)
    last = network.config.num_hidden_layers
    layers = layers or tuple(sorted({0, last // 2, last}))
    if max(layers) > last:
        raise ValueError(f"--layers {max(layers)}: the encoder {name} has the layers 0 to {last}")
    longest = network.config.max_position_embeddings - network.config.pad_token_id - 1
    digest = hashlib.sha256(b"".join(files.content(folder / file) for file in FILES)).hexdigest()
    place = folder.resolve()
    called = name if folder != Path(name) else place.parent.name if place.name == "encoder" else place.name
    ends = network.config.bos_token_id, network.config.eos_token_id
    return Encoder(f"{called} {digest[:8]}", digest, network, tokenizer, min(length, longest), layers, pooling, ends)


def read(folder: Path, name: str) -> tuple[Any, Tokenizer]:
    """The network, in evaluation mode and without gradients, and the tokenizer of an encoder's folder.

    Raises:
        ValueError: A file is damaged, weights are missing, or the tokenizer is another network's.
    """
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    options: dict[str, Any] = {"use_safetensors": True, "local_files_only": True, "dtype": torch.float32}
    options |= {"trust_remote_code": False}
    try:
        options["config"] = checked_config(folder)
        tokenizer = checked_tokenizer(files.text(folder / "tokenizer.json"))
        loaded: Any = transformers.RobertaModel.from_pretrained(
            folder, add_pooling_layer=False, output_loading_info=True, **options
        )
        network, told = loaded
    except Lacking as error:
        raise ValueError(f"the encoder {name} {error}") from None
    except Exception as error:  # each library has errors of its own for a damaged file
        raise ValueError(f"the encoder {name} cannot be read: {' '.join(str(error).split())}") from error
    if absent := sorted(told["missing_keys"]):  # which would be drawn at random
        raise ValueError(f"the encoder {name} lacks {len(absent)} of the weights its config.json asks for: {absent[0]}")
    if max(tokenizer.get_vocab_size(), *tokenizer.get_vocab().values(), 0) > network.config.vocab_size:
        raise ValueError(
            f"the encoder {name} has {network.config.vocab_size} pieces, its tokenizer {tokenizer.get_vocab_size()}"
        )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return network.eval().requires_grad_(False), tokenizer


class Lacking(ValueError):
    """An encoder's folder has not the weights that its config.json asks for."""


def checked_config(folder: Path) -> Any:
    """What config.json says of a RoBERTa's shape, and nothing else of it: other fields can fetch or run code.

    The network is first built without memory and held against the weights, so that no more is asked for than is there.

    Raises:
        Lacking: Weights are absent or of another shape: names one.
        Exception: A value makes no sense.
    """
    import transformers

    said = run.read_json(folder / "config.json")
    config = transformers.RobertaConfig(**{name: said[name] for name in SHAPE if name in said})
    with safe_open(files.plain(folder / "model.safetensors"), "pt") as file:
        there = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    there = {name.removeprefix("roberta."): shape for name, shape in there.items()}
    if not 0 < config.num_hidden_layers <= len(there):
        raise Lacking(f"lacks weights for {config.num_hidden_layers} layers")
    with torch.device("meta"):
        asked = transformers.RobertaModel(config, add_pooling_layer=False).state_dict()
    wrong = [name for name, tensor in asked.items() if there.get(name) != tuple(tensor.shape)]
    if wrong:
        raise Lacking(f"lacks {len(wrong)} of the weights its config.json asks for: {wrong[0]}")
    special: Any = (config.bos_token_id, config.eos_token_id, config.pad_token_id)
    if not all(type(one) is int and 0 <= one < config.vocab_size for one in special):
        raise ValueError(f"its special pieces {special} are none of its {config.vocab_size}")
    if config.max_position_embeddings - special[2] - 1 < 3:
        raise ValueError(f"it has {config.max_position_embeddings} positions, too few for a piece")
    return config


def checked_tokenizer(text: str) -> Tokenizer:
    """The tokenizer that a tokenizer.json describes.

    Raises:
        ValueError: It cannot be read, or brings a regular expression, of which some take for ever.
    """
    waiting = [files.from_json(text)]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict) and "Regex" in one:
            raise ValueError("its tokenizer.json brings a regular expression of its own")
        waiting += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
    try:
        return Tokenizer.from_str(text)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the library is no Exception
        raise ValueError(f"its tokenizer.json cannot be read: {error}") from None


def fetched(name: str, download: bool) -> Path:
    """The folder that holds a model of the hub, downloaded where it is not there yet."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(FILES), local_files_only=not download))
    except Exception as error:  # the hub's client has dozens, for names, rights and connections
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConnectionError(
            f"the encoder {name} is no folder here and could not be fetched from the hub ({reason}); put its "
            f"{', '.join(FILES)} into a folder and give that, or use --encoder {MINI}, which ships with the package"
        ) from None


def export(folder: Path) -> Path:
    """Write the encoder that a finished pre-training made, with a card: a folder for `--encoder`. Returns it."""
    from decathlon.finished import load_run

    loaded, summary = load_run(folder), run.read_json(folder / "summary.json")
    write(folder / "encoder", loaded.model.encoder, checked_tokenizer(loaded.config["meta"]["tokenizer"]))
    told = ("data", "metrics", "seed", "steps", "train_seconds", "device", "hardware", "threads", "commit", "versions")
    card = {"made_by": "decathlon pretrain imdb-roberta", "recipe": loaded.config["recipe"]}
    run.write_json(folder / "encoder" / "card.json", card | {name: summary[name] for name in told})
    say(f"encoder: {folder / 'encoder'}")
    return folder / "encoder"


def write(folder: Path, network: Any, tokenizer: Tokenizer) -> None:
    """Write an encoder's folder, its weights in half precision: for `--encoder`, and for transformers itself."""
    folder.mkdir(parents=True, exist_ok=True)
    network.config.save_pretrained(folder)
    weights = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    run.save_weights(folder / "model.safetensors", weights)
    run.write_text(folder / "tokenizer.json", tokenizer.to_str())
    names = ("bos_token", "pad_token", "eos_token", "unk_token", "mask_token")
    # Without its class transformers would take RoBERTa's own tokenizer, which does not bring words to lower case.
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512}
    run.write_json(folder / "tokenizer_config.json", kind | dict(zip(names, pieces.SPECIAL, strict=True)))


def cut(numbers: list[int], encoder: Encoder) -> list[int]:
    """The pieces of one text as the network takes them: start, what fits of head and tail, end."""
    return [encoder.ends[0], *head_and_tail(numbers, encoder.length - 2), encoder.ends[1]]


def vectors(encoder: Encoder, texts: Sequence[str]) -> Tensor:
    """One vector a text: float32 (N, layers · hidden), on the network's device."""
    rows = [cut(found, encoder) for found in pieces.numbers(encoder.tokenizer, texts)]
    found: dict[int, Tensor] = {}
    for chosen in batched(sorted(range(len(rows)), key=lambda i: len(rows[i])), rows):
        found |= zip(chosen, pooled(encoder, [rows[i] for i in chosen]), strict=True)
    return torch.stack([found[i] for i in range(len(rows))])


def one(encoder: Encoder, text: str) -> tuple[Tensor, int]:
    """The pieces of one text as the network takes them, int64 (1, L), and how many the text has."""
    (found,) = pieces.numbers(encoder.tokenizer, [text])
    return torch.tensor([cut(found, encoder)]), len(found)


class Reader(nn.Module):
    """An encoder and the head that judges its vectors, as one network."""

    def __init__(self, encoder: Encoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.network, self.head = encoder, encoder.network, head

    def forward(self, numbers: Tensor) -> Tensor:
        """Pieces int64 (N, L), filled up with the encoder's padding -> scores (N, classes)."""
        return self.head(pool(self.encoder, numbers))


def graph(reader: Reader, classes: list[str]) -> Graph:
    """What `export` writes of it: everything from pieces to scores, and the tokenizer in the metadata."""
    asked = reader.encoder
    facts = {
        "preprocessing": f"pieces by the tokenizer; of more than {asked.length - 2} the first and last half of these; "
        "the numbers of start and end around them; shorter rows are filled up with pad",
        "answer": "softmax over the scores; the likeliest label",
        "labels": classes,
        "input": {"length": asked.length, "ends": asked.ends, "pad": pad(asked), "encoder": asked.name},
        "tokenizer": asked.tokenizer.to_str(),
    }
    example = torch.full((2, 9), asked.ends[1])
    return Graph(reader, example, "pieces", ("scores",), {0: "batch", 1: "length"}, facts)


def written(session: Session) -> Encoder:
    """The encoder of a file that `export` wrote: it only splits texts, the rest is inside.

    Raises:
        ValueError: The entries that say how are damaged.
    """
    told, tokenizer = session.facts["input"], session.facts.get("tokenizer")
    try:
        start, end = (int(number) for number in told["ends"])
        return Encoder(
            str(told["encoder"]),
            "",
            session,
            Tokenizer.from_str(str(tokenizer)),
            int(told["length"]),
            (),
            "",
            (start, end),
        )
    except Exception as error:  # tokenizers has errors of its own
        raise ValueError(f"the file's entries 'input' and 'tokenizer' are damaged: {error}") from None


def pad(encoder: Encoder) -> int:
    """The number of no piece."""
    return int(cast(Any, encoder.network).config.pad_token_id)


def batched(order: list[int], rows: list[list[int]]) -> Iterator[list[int]]:
    """Runs of texts, the shortest first, as many as have `BATCH` pieces together once padded to the longest of them."""
    batch: list[int] = []
    for index in order:
        if batch and (len(batch) + 1) * len(rows[index]) > BATCH:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def pooled(encoder: Encoder, rows: list[list[int]]) -> Tensor:
    """The chosen layers' outputs for some texts, pooled and side by side: float32 (N, layers · hidden)."""
    longest, device = max(map(len, rows)), cast(Any, encoder.network).device
    numbers = torch.tensor([[*row, *[pad(encoder)] * (longest - len(row))] for row in rows], device=device)  # (N, L)
    with torch.no_grad():
        return pool(encoder, numbers)


def pool(encoder: Encoder, numbers: Tensor) -> Tensor:
    """As `pooled`, of rows that are filled up already: int64 (N, L)."""
    real = numbers != pad(encoder)
    # Without a mask attention takes a faster way. An exported graph cannot choose.
    whole = not torch.compiler.is_exporting() and bool(real.all())
    mask = None if whole else real.long()
    answer = cast(Any, encoder.network)(numbers, attention_mask=mask, output_hidden_states=True)
    outputs = [answer.hidden_states[layer].float() for layer in encoder.layers]  # each (N, L, hidden)
    if encoder.pooling == "first":
        return torch.cat([output[:, 0] for output in outputs], 1)
    weight = (real / real.sum(1, keepdim=True))[..., None]  # (N, L, 1)
    return torch.cat([(output * weight).sum(1) for output in outputs], 1)


def embedded(encoder: Encoder, texts: Sequence[str], folder: Path, made_of: Sequence[Any], what: str) -> Tensor:
    """Vectors of many texts, kept in the data folder's cache: what is there is not computed again, even after a kill.

    Args:
        encoder: Who makes them.
        texts: N of them. They are taken in the order of their length, so that little is padded.
        folder: The data folder.
        made_of: What the texts come from, as plain data; with encoder and pooling it names the cached files.
        what: Name of the texts on the progress bar.

    Returns:
        float32 (N, layers · hidden), rounded to half precision.
    """
    name = cache.key(VERSION, encoder.digest, encoder.length, encoder.layers, encoder.pooling, *made_of)
    place = folder / "cache" / f"vectors-{name}"
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    chunks = [order[start : start + CHUNK] for start in range(0, len(order), CHUNK)]
    found: list[np.ndarray] = [np.zeros(0, np.float16)] * len(texts)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        row = bar.add_task(f"{escape(shown(encoder.name))} reads {len(texts):,} {what}", total=sum(map(len, texts)))
        for number, chunk in enumerate(chunks):
            few = [texts[i] for i in chunk]
            for index, vector in zip(chunk, kept(encoder, few, place / f"{number:04d}.npz"), strict=True):
                found[index] = vector
            bar.advance(row, sum(map(len, few)))
    return torch.from_numpy(np.stack(found)).float()


def kept(encoder: Encoder, texts: list[str], path: Path) -> np.ndarray:
    """The vectors of some texts, float16 (N, layers · hidden), from `path`, or made and kept there."""
    return cache.arrays(path, lambda: {"vectors": vectors(encoder, texts).cpu().numpy().astype(np.float16)})["vectors"]
