"""Text classification with a frozen encoder: encoder and classifier as one network, predictions, export."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from decathlon.data import embeddings, imdb
from decathlon.data.embeddings import Encoder, pool, read_tokenizer
from decathlon.data.transforms import words
from decathlon.data.transforms.tokens import encode
from decathlon.evaluation.onnx_graph import OnnxGraph, OnnxNetwork
from decathlon.evaluation.predictions import TextClassification, require_text


class EncoderClassifier(nn.Module):
    """An encoder and the classifier of its embeddings, as one network."""

    def __init__(self, encoder: Encoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.network, self.head = encoder, encoder.network, head

    def forward(self, token_ids: Tensor) -> Tensor:
        """Token ids int64 (N, L), filled up with the encoder's padding -> logits (N, classes)."""
        return self.head(pool(self.encoder, token_ids))


def clean(text: str) -> str:
    """A review without markup. Raises ValueError where it is no string, or holds no word."""
    require_text(text)
    cleaned = imdb.clean_text(text)
    if not any(map(str.isalnum, cleaned)):
        raise ValueError(f"the review {text[:40]!r} holds no word")
    return cleaned


def predict(
    network: nn.Module, encoder: Encoder, texts: Sequence[str], classes: list[str], batch_size: int
) -> list[TextClassification | Exception]:
    """Label and probabilities of each text, or its error; texts of about one length go through the network together.

    Args:
        network: Token ids int64 (N, L) -> logits (N, classes).
        encoder: Its tokenizer and maximum length are used.
        texts: Raw texts; markup is removed here.
        classes: Class names.
        batch_size: Texts that go through the network at once.
    """
    results: list[TextClassification | Exception | None] = [None] * len(texts)
    cleaned: dict[int, str] = {}
    for i, text in enumerate(texts):
        try:
            cleaned[i] = clean(text)
        except ValueError as error:
            results[i] = error
    readable = list(cleaned)
    token_ids = dict(zip(readable, encode(encoder.tokenizer, [cleaned[i] for i in readable]), strict=True))
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    order = sorted(readable, key=lambda i: len(token_ids[i]))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        rows = embeddings.pad_rows([embeddings.truncate(token_ids[i], encoder) for i in batch], encoder)
        with torch.no_grad():
            probabilities = network(rows.to(device)).softmax(1).tolist()
        for i, row in zip(batch, probabilities, strict=True):
            ranking = dict(sorted(zip(classes, row, strict=True), key=lambda pair: -pair[1]))
            count, limit = len(token_ids[i]), encoder.max_length - 2
            notes = (f"{count:,} tokens: its first and last {limit // 2} were read",) if count > limit else ()
            results[i] = TextClassification(
                input=texts[i], label=next(iter(ranking)), probabilities=ranking, notes=notes
            )
    return [result for result in results if result is not None]


def onnx_graph(classifier: EncoderClassifier, classes: list[str]) -> OnnxGraph:
    """What `export` writes: the network from token ids to logits, and the tokenizer in the metadata."""
    encoder = classifier.encoder
    metadata = {
        "preprocessing": f"{words.CLEANING}; token ids by the tokenizer; of more than {encoder.max_length - 2} the "
        "first and last half of these; the ids of start and end around them; shorter rows are filled up with pad",
        "postprocessing": "softmax over the logits; the most probable label",
        "labels": classes,
        "input": {
            "length": encoder.max_length,
            "ends": [encoder.bos_id, encoder.eos_id],
            "pad": encoder.pad_id,
            "encoder": encoder.name,
        },
        "tokenizer": encoder.tokenizer.to_str(),
    }
    example = torch.full((2, 9), encoder.eos_id)
    return OnnxGraph(classifier, example, "token_ids", ("logits",), {0: "batch", 1: "length"}, metadata)


def read_encoder(network: OnnxNetwork) -> Encoder:
    """The encoder of an exported file: only its tokenizer is used, its network is part of the graph.

    Raises:
        ValueError: The entries that describe it are damaged.
    """
    entry, tokenizer = network.metadata["input"], network.metadata.get("tokenizer")
    try:
        bos_id, eos_id = (int(token_id) for token_id in entry["ends"])
        return Encoder(
            *(str(entry["encoder"]), "", network, read_tokenizer(str(tokenizer)), int(entry["length"]), (), ""),
            *(bos_id, eos_id, int(entry["pad"])),
        )
    except Exception as error:  # tokenizers raises its own exceptions
        raise ValueError(f"the file's entries 'input' and 'tokenizer' are damaged: {error}") from None
