"""Embeddings of texts by a frozen RoBERTa, cached.

The small encoder that ships with the package is `roberta-mini`; any other is a folder, or a model of the hub.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rich.markup import escape
from rich.progress import Progress
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import Tensor, nn

from decathlon.data.base import WEIGHTS as WEIGHTS
from decathlon.data.io import atomic, cache, files
from decathlon.data.io.console import CONSOLE
from decathlon.data.transforms import tokens
from decathlon.data.transforms.words import head_and_tail
from decathlon.messages import printable

MINI = "roberta-mini"
ENCODER_FILES = ("config.json", "model.safetensors", "tokenizer.json")  # all that is read of an encoder's folder
# The fields of config.json that the network is built from.
CONFIG_FIELDS = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
    *("max_position_embeddings", "type_vocab_size", "layer_norm_eps", "bos_token_id", "pad_token_id", "eos_token_id"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "tie_word_embeddings"),
)
TEXTS_PER_FILE = 1000  # of the cache
TOKENS_PER_BATCH = 2048  # a fifth faster than 8192 on CPUs, whose caches hold the outputs of a layer
CACHE_VERSION = "2"  # raise it when the way of embedding changes


@dataclass(frozen=True)
class Encoder:
    """A RoBERTa and how its outputs are pooled.

    Attributes:
        name: Its name and the beginning of its digest: no two encoders share one.
        digest: SHA-256 of its files.
        network: transformers' RobertaModel, in evaluation mode.
        tokenizer: Splits a text into tokens.
        max_length: Tokens of a text that are read, start and end among them: of a longer one its head and its tail.
        layers: Whose outputs are pooled and concatenated; 0 is the embeddings before the first layer.
        pooling: `mean` over the tokens, or the `first` token.
        bos_id, eos_id, pad_id: Ids of the start, end and padding tokens.
    """

    name: str
    digest: str
    network: nn.Module
    tokenizer: Tokenizer
    max_length: int
    layers: tuple[int, ...]
    pooling: str
    bos_id: int
    eos_id: int
    pad_id: int

    @property
    def embedding_dim(self) -> int:
        """Size of an embedding."""
        return len(self.layers) * int(cast(Any, self.network).config.hidden_size)


def load_encoder(name: str, max_length: int, layers: tuple[int, ...], pooling: str, download: bool = True) -> Encoder:
    """Load the encoder of this name: `roberta-mini`, a folder, or a model of the hub.

    Args:
        name: As above.
        max_length: As in `Encoder`; at most the encoder's positions are used.
        layers: As in `Encoder`; none stand for the last.
        pooling: As in `Encoder`.
        download: Whether a model may be fetched from the hub.

    Raises:
        ConnectionError: It is on the hub, which cannot be reached: says the way out.
        ValueError: It is no RoBERTa, lacks a file or weights, is damaged, or has fewer layers.
    """
    folder = find_encoder(name, download)
    stamps = tuple(files.file_stamp((folder / file).stat()) for file in ENCODER_FILES)
    return _load_encoder(name, folder, stamps, max_length, layers, pooling)


@lru_cache(maxsize=1)  # every call of `predict` needs it
def _load_encoder(
    name: str,
    folder: Path,
    stamps: tuple[tuple[int, int, int], ...],
    max_length: int,
    layers: tuple[int, ...],
    pooling: str,
) -> Encoder:
    kind = files.read_json(folder / "config.json").get("model_type")
    if kind != "roberta":
        raise ValueError(f"the encoder {name} is no RoBERTa: its config.json says {kind!r}")
    network, tokenizer = read_folder(folder, name)
    config = network.config
    layers = layers or (config.num_hidden_layers,)
    if max(layers) > config.num_hidden_layers:
        raise ValueError(f"--layers {max(layers)}: the encoder {name} has the layers 0 to {config.num_hidden_layers}")
    positions = config.max_position_embeddings - config.pad_token_id - 1
    digest = encoder_digest(folder)
    path = folder.resolve()
    title = name if folder != Path(name) else path.parent.name if path.name == "encoder" else path.name
    return Encoder(
        *(f"{title} {digest[:8]}", digest, network, tokenizer, min(max_length, positions), layers, pooling),
        *(config.bos_token_id, config.eos_token_id, config.pad_token_id),
    )


def find_encoder(name: str, download: bool = True) -> Path:
    """The folder of the encoder of this name, with all its files; raises as `load_encoder`."""
    folder = WEIGHTS / MINI if name == MINI else Path(name) if Path(name).is_dir() else download_encoder(name, download)
    if missing := [file for file in ENCODER_FILES if not (folder / file).is_file()]:
        raise ValueError(f"the encoder {name} lacks {', '.join(missing)} (weights are read as safetensors only)")
    return folder


def encoder_digest(folder: Path) -> str:
    """SHA-256 of an encoder's files."""
    return files.sha256(*(folder / file for file in ENCODER_FILES))


def read_folder(folder: Path, name: str) -> tuple[Any, Tokenizer]:
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
        options["config"] = read_config(folder)
        tokenizer = read_tokenizer(files.read_text(folder / "tokenizer.json"))
        loaded: Any = transformers.RobertaModel.from_pretrained(
            folder, add_pooling_layer=False, output_loading_info=True, **options
        )
        network, report = loaded
    except MissingWeights as error:
        raise ValueError(f"the encoder {name} {error}") from None
    except Exception as error:  # each library has errors of its own for a damaged file
        raise ValueError(f"the encoder {name} cannot be read: {' '.join(str(error).split())}") from error
    if absent := sorted(report["missing_keys"]):  # which would be drawn at random
        raise ValueError(f"the encoder {name} lacks {len(absent)} of the weights its config.json asks for: {absent[0]}")
    if max(tokenizer.get_vocab_size(), *tokenizer.get_vocab().values(), 0) > network.config.vocab_size:
        raise ValueError(
            f"the encoder {name} has {network.config.vocab_size} tokens, its tokenizer {tokenizer.get_vocab_size()}"
        )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return network.eval().requires_grad_(False), tokenizer


class MissingWeights(ValueError):
    """An encoder's folder has not the weights that its config.json asks for."""


def read_config(folder: Path) -> Any:
    """The shape of a RoBERTa by its config.json, and nothing else of it: other fields can fetch or run code.

    The network is first built without memory and compared with the weights, so that no more is allocated than is there.

    Raises:
        MissingWeights: Weights are absent or of another shape: names one.
        Exception: A value makes no sense.
    """
    import transformers

    fields = files.read_json(folder / "config.json")
    config = transformers.RobertaConfig(**{name: fields[name] for name in CONFIG_FIELDS if name in fields})
    with safe_open(files.check_file(folder / "model.safetensors"), "pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    shapes = {name.removeprefix("roberta."): shape for name, shape in shapes.items()}
    if not 0 < config.num_hidden_layers <= len(shapes):
        raise MissingWeights(f"lacks weights for {config.num_hidden_layers} layers")
    with torch.device("meta"):
        needed = transformers.RobertaModel(config, add_pooling_layer=False).state_dict()
    wrong = [name for name, tensor in needed.items() if shapes.get(name) != tuple(tensor.shape)]
    if wrong:
        raise MissingWeights(f"lacks {len(wrong)} of the weights its config.json asks for: {wrong[0]}")
    special: Any = (config.bos_token_id, config.eos_token_id, config.pad_token_id)
    if not all(type(token_id) is int and 0 <= token_id < config.vocab_size for token_id in special):
        raise ValueError(f"its special tokens {special} are none of its {config.vocab_size}")
    if config.max_position_embeddings - special[2] - 1 < 3:
        raise ValueError(f"it has {config.max_position_embeddings} positions, too few for a token")
    return config


def read_tokenizer(text: str) -> Tokenizer:
    """The tokenizer that a tokenizer.json describes.

    Raises:
        ValueError: It cannot be read, or contains a regular expression, which can have catastrophic backtracking.
    """
    values = [files.parse_json(text)]
    while values:
        value = values.pop()
        if isinstance(value, dict) and "Regex" in value:
            raise ValueError("its tokenizer.json brings a regular expression of its own")
        values += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    try:
        return Tokenizer.from_str(text)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the library is no Exception
        raise ValueError(f"its tokenizer.json cannot be read: {error}") from None


def download_encoder(name: str, download: bool) -> Path:
    """The folder that holds a model of the hub, downloaded where it is not there yet."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(ENCODER_FILES), local_files_only=not download))
    except Exception as error:  # the hub's client has dozens, for names, rights and connections
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConnectionError(
            f"the encoder {name} is no folder here and could not be fetched from the hub ({reason}); put its "
            f"{', '.join(ENCODER_FILES)} into a folder and name it, or use --encoder {MINI}, which is in the package"
        ) from None


def write_encoder(folder: Path, network: Any, tokenizer: Tokenizer) -> None:
    """Write an encoder's folder, its weights in half precision: for `--encoder`, and for transformers itself."""
    folder.mkdir(parents=True, exist_ok=True)
    network.config.save_pretrained(folder)
    weights = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    atomic.save_weights(folder / "model.safetensors", weights)
    atomic.write_text(folder / "tokenizer.json", tokenizer.to_str())
    names = ("bos_token", "pad_token", "eos_token", "unk_token", "mask_token")
    # Without its class transformers would take RoBERTa's own tokenizer, which does not bring words to lower case.
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512}
    atomic.write_json(folder / "tokenizer_config.json", kind | dict(zip(names, tokens.SPECIAL_TOKENS, strict=True)))


def truncate(token_ids: list[int], encoder: Encoder) -> list[int]:
    """The token ids of a text as the network takes them: start, what fits of head and tail, end."""
    return [encoder.bos_id, *head_and_tail(token_ids, encoder.max_length - 2), encoder.eos_id]


def pad_rows(rows: list[list[int]], encoder: Encoder) -> Tensor:
    """Token ids int64 (N, L), filled up to the longest row."""
    length = max(map(len, rows))
    return torch.tensor([[*row, *[encoder.pad_id] * (length - len(row))] for row in rows])


def embed(encoder: Encoder, texts: Sequence[str]) -> Tensor:
    """Embeddings float32 (N, embedding_dim), on the network's device."""
    rows = [truncate(token_ids, encoder) for token_ids in tokens.encode(encoder.tokenizer, texts)]
    order, parts = sorted(range(len(rows)), key=lambda i: len(rows[i])), []
    for batch in batch_by_length(order, rows):
        token_ids = pad_rows([rows[i] for i in batch], encoder).to(cast(Any, encoder.network).device)
        with torch.no_grad():
            parts.append(pool(encoder, token_ids))
    return torch.cat(parts)[torch.tensor(order).argsort()]


def batch_by_length(order: list[int], rows: list[list[int]]) -> Iterator[list[int]]:
    """Batches of texts, the shortest first, of at most `TOKENS_PER_BATCH` tokens, padding included."""
    batch: list[int] = []
    for index in order:
        if batch and (len(batch) + 1) * len(rows[index]) > TOKENS_PER_BATCH:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def pool(encoder: Encoder, token_ids: Tensor) -> Tensor:
    """The chosen layers' outputs, pooled and concatenated: int64 (N, L), padded -> float32 (N, embedding_dim)."""
    real = token_ids != encoder.pad_id
    # Without a mask attention is faster. An exported graph cannot choose.
    unpadded = not torch.compiler.is_exporting() and bool(real.all())
    mask = None if unpadded else real.long()
    states = cast(Any, encoder.network)(token_ids, attention_mask=mask, output_hidden_states=True).hidden_states
    outputs = [states[layer].float() for layer in encoder.layers]  # (N, L, hidden) of each layer
    if encoder.pooling == "first":
        return torch.cat([output[:, 0] for output in outputs], 1)
    weight = (real / real.sum(1, keepdim=True))[..., None]  # (N, L, 1)
    return torch.cat([(output * weight).sum(1) for output in outputs], 1)


def embed_cached(
    encoder: Encoder, texts: Sequence[str], folder: Path, key: Sequence[Any], title: str
) -> tuple[Tensor, float]:
    """Embeddings of many texts, kept in the data folder's cache: an interrupted computation is resumed.

    Args:
        encoder: Which.
        texts: N of them. They are taken in the order of their length, so that little is padded.
        folder: The data folder.
        key: Where the texts come from, as plain data; with encoder and pooling it names the cached files.
        title: Of the texts, for the progress bar.

    Returns:
        float32 (N, embedding_dim), rounded to half precision, and the seconds that computing them took, now or before.
    """
    name = cache.make_key(CACHE_VERSION, encoder.digest, encoder.max_length, encoder.layers, encoder.pooling, *key)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    embeddings, seconds = np.zeros((len(texts), encoder.embedding_dim), np.float16), 0.0
    with Progress(console=CONSOLE, transient=True) as bar:
        row = bar.add_task(
            f"{escape(printable(encoder.name))} embeds {len(texts):,} {title}", total=sum(len(text) for text in texts)
        )
        for start in range(0, len(order), TEXTS_PER_FILE):
            indices = order[start : start + TEXTS_PER_FILE]
            chunk = [texts[i] for i in indices]
            path = folder / "cache" / f"vectors-{name}" / f"{start // TEXTS_PER_FILE:04d}.npz"
            embeddings[indices], took = embed_chunk(encoder, chunk, path)
            seconds += took
            bar.advance(row, sum(map(len, chunk)))
    return torch.from_numpy(embeddings).float(), seconds


def embed_chunk(encoder: Encoder, texts: list[str], path: Path) -> tuple[np.ndarray, float]:
    """Embeddings of some texts, float16 (N, embedding_dim), from `path`, or computed and kept there; the seconds."""

    def compute() -> dict[str, np.ndarray]:
        start = time.perf_counter()
        vectors = embed(encoder, texts).cpu().numpy().astype(np.float16)
        return {"vectors": vectors, "seconds": np.array(time.perf_counter() - start)}

    arrays = cache.load_or_make(path, compute)
    return arrays["vectors"], float(arrays["seconds"])
