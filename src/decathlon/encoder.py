"""A frozen RoBERTa that makes one vector of a text: found, asked, and its answers cached.

The small one that ships with the package is `roberta-mini`; any other is a folder, or the name of a model on the hub.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from decathlon import run
from decathlon.data import cache, pieces, say
from decathlon.data.words import head_and_tail

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MINI = "roberta-mini"
WEIGHTS = Path(__file__).parent / "weights"
FILES = ("config.json", "model.safetensors", "tokenizer.json")  # all that is read of an encoder's folder
CHUNK = 1000  # texts whose vectors are kept in one file of the cache
BATCH = 8192  # pieces at once
VERSION = "1"  # of what the cache holds: raise it when embedding changes


@dataclass(frozen=True)
class Encoder:
    """A RoBERTa and how it is to be asked.

    Attributes:
        name: Its name and the beginning of its files' hash: no two encoders share one.
        network: transformers' RobertaModel, in evaluation mode.
        tokenizer: Splits a text into its pieces.
        length: Pieces of a text that are read, start and end among them: of a longer one its head and its tail.
        layers: Whose outputs are pooled and put side by side; 0 is the piece vectors before the first layer.
        pooling: `mean` over the pieces, or the `first`.
    """

    name: str
    network: nn.Module
    tokenizer: Tokenizer
    length: int
    layers: tuple[int, ...]
    pooling: str


def find(name: str, length: int, layers: tuple[int, ...], pooling: str) -> Encoder:
    """Load the encoder of this name: `roberta-mini`, a folder, or a model of the hub.

    Raises:
        ConnectionError: It is on the hub, which cannot be reached: says the way out.
        ValueError: It is no RoBERTa, lacks a file, is damaged, or has fewer layers.
    """
    folder = WEIGHTS / MINI if name == MINI else Path(name) if Path(name).is_dir() else fetched(name)
    if missing := [file for file in FILES if not (folder / file).is_file()]:
        raise ValueError(f"the encoder {name} lacks {', '.join(missing)} (weights are read as safetensors only)")
    config = run.read_json(folder / "config.json")
    if config.get("model_type") != "roberta":
        raise ValueError(f"the encoder {name} is no RoBERTa: its config.json says {config.get('model_type')!r}")
    import transformers
    from tokenizers import Tokenizer

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        network: Any = transformers.RobertaModel.from_pretrained(
            folder, add_pooling_layer=False, use_safetensors=True, local_files_only=True, dtype=torch.float32
        )
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # each library has errors of its own for a damaged file
        raise ValueError(f"the encoder {name} cannot be read: {' '.join(str(error).split())}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if max(layers) > network.config.num_hidden_layers:
        raise ValueError(f"the encoder {name} has {network.config.num_hidden_layers} layers, not {max(layers)}")
    longest = network.config.max_position_embeddings - network.config.pad_token_id - 1
    digest = hashlib.sha256(b"".join((folder / file).read_bytes() for file in FILES)).hexdigest()[:8]
    called = f"{folder.resolve().name if folder == Path(name) else name} {digest}"
    return Encoder(called, network.eval().requires_grad_(False), tokenizer, min(length, longest), layers, pooling)


def fetched(name: str) -> Path:
    """The folder that holds a model of the hub, downloaded where it is not there yet."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(FILES)))
    except Exception as error:  # the hub's client has dozens, for names, rights and connections
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConnectionError(
            f"the encoder {name} is no folder here and could not be fetched from the hub ({reason}); put its "
            f"{', '.join(FILES)} into a folder and give that, or use --encoder {MINI}, which ships with the package"
        ) from None


def export(folder: Path) -> Path:
    """Write the encoder that a finished pre-training made, with a card: a folder for `--encoder`. Returns it."""
    from tokenizers import Tokenizer

    from decathlon.train import load_run

    loaded, summary = load_run(folder), run.read_json(folder / "summary.json")
    write(folder / "encoder", loaded.model.encoder, Tokenizer.from_str(loaded.config["meta"]["tokenizer"]))
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


def cut(numbers: list[int], encoder: Encoder) -> list[int]:
    """The pieces of one text as the network takes them: start, what fits of head and tail, end."""
    config = cast(Any, encoder.network).config
    return [config.bos_token_id, *head_and_tail(numbers, encoder.length - 2), config.eos_token_id]


def vectors(encoder: Encoder, texts: Sequence[str]) -> Tensor:
    """One vector a text: float32 (N, layers · hidden), on the network's device."""
    rows = [cut(found, encoder) for found in pieces.numbers(encoder.tokenizer, texts)]
    found: dict[int, Tensor] = {}
    for chosen in batched(sorted(range(len(rows)), key=lambda i: len(rows[i])), rows):
        found |= zip(chosen, pooled(encoder, [rows[i] for i in chosen]), strict=True)
    return torch.stack([found[i] for i in range(len(rows))])


def one(encoder: Encoder, text: str) -> tuple[Tensor, int]:
    """The vector of one text, float32 (1, layers · hidden), and how many pieces the text has."""
    count = len(pieces.numbers(encoder.tokenizer, [text])[0])
    return vectors(encoder, [text]), count


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
    network = cast(Any, encoder.network)
    longest, pad = max(map(len, rows)), network.config.pad_token_id
    numbers = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows], device=network.device)  # (N, L)
    real = numbers != pad
    whole = bool(real.all())  # without a mask attention takes a faster way
    with torch.no_grad():
        answer = network(numbers, attention_mask=None if whole else real.long(), output_hidden_states=True)
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
    name = cache.key(VERSION, encoder.name, encoder.length, encoder.layers, encoder.pooling, *made_of)
    place = folder / "cache" / f"vectors-{name}"
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    chunks = [order[start : start + CHUNK] for start in range(0, len(order), CHUNK)]
    found: list[np.ndarray] = [np.zeros(0, np.float16)] * len(texts)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        row = bar.add_task(f"{encoder.name} reads {len(texts):,} {what}", total=sum(map(len, texts)))
        for number, chunk in enumerate(chunks):
            path = place / f"{number:04d}.npy"
            for index, vector in zip(chunk, chunk_of(encoder, [texts[i] for i in chunk], path), strict=True):
                found[index] = vector
            bar.advance(row, sum(len(texts[i]) for i in chunk))
    return torch.from_numpy(np.stack(found)).float()


def chunk_of(encoder: Encoder, texts: list[str], path: Path) -> np.ndarray:
    """The vectors of some texts, float16 (N, …), read from `path`, or made and written there in one step."""
    try:
        kept = np.load(path, allow_pickle=False)
        if kept.dtype == np.float16 and kept.ndim == 2 and len(kept) == len(texts):
            return kept
    except FileNotFoundError:
        pass
    except (ValueError, OSError, EOFError):
        say(f"{path} is damaged: making it again")
    made = vectors(encoder, texts).cpu().numpy().astype(np.float16)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        np.save(file, made)
    part.replace(path)
    return made
